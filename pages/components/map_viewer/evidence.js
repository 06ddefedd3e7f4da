// The map as evidence: the cells that make up the score, and the score without those under a rectangle.
//
// Which cells count, and what they add up to, comes from the server (ssn_core/evidence.py). Only the score without some
// cells is computed here, by the same rule as score_without there, because it follows the mouse.
//
// This file has no exports: Python puts it in front of the viewer's own module code.

const CELLS_KEPT = 12; // answers remembered, newest last
const DRAG_PX = 4; // a shorter one is a click
const TOLD = new Map(); // address -> promise of an evidence, or of an Error with the reason
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/** The evidence at an address; never rejects: what went wrong is {reason}. */
function evidenceAt(address) {
  if (!address) return Promise.resolve(null);
  let told = TOLD.get(address);
  if (!told) {
    told = askForEvidence(address).catch((error) => {
      TOLD.delete(address); // asked again next time
      return { reason: error.message };
    });
    TOLD.set(address, told);
    for (const key of TOLD.keys()) if (TOLD.size > CELLS_KEPT) TOLD.delete(key);
  }
  return told;
}

async function askForEvidence(address) {
  const response = await fetch(address);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? "no answer");
  const bytes = Uint8Array.from(atob(answer.cells), (letter) => letter.charCodeAt(0));
  const cells = new Float32Array(bytes.buffer); // little-endian, as every computer with a browser is
  const counted = new Uint8Array(cells.length);
  for (const place of answer.counted) counted[place] = 1;
  return { ...answer, cells, counted };
}

/** The cells that a rectangle {left, top, right, bottom} (cells, both ends included) covers. */
function isCovered(evidence, box, place) {
  const [row, column] = [Math.floor(place / evidence.columns), place % evidence.columns];
  return row >= box.top && row <= box.bottom && column >= box.left && column <= box.right;
}

/** Covered cells get the median of the others; then the k highest are averaged as ever. null: nothing is left. */
function scoreWithout(evidence, box) {
  const others = evidence.cells.filter((_, place) => !isCovered(evidence, box, place)).sort();
  if (!others.length) return null;
  const middle = others.length >> 1;
  const median = others.length % 2 ? others[middle] : (others[middle - 1] + others[middle]) / 2;
  const values = Float64Array.from(evidence.cells, (value, place) => (isCovered(evidence, box, place) ? median : value));
  const highest = values.sort().subarray(values.length - evidence.k);
  return highest.reduce((sum, value) => sum + value, 0) / evidence.k + evidence.bias;
}

const signed = (value, digits = 3) => `${value < 0 ? "−" : ""}${Math.abs(value).toFixed(digits)}`;

/** What the cells say, over the photo and in the line below it. `viewer` owns the page's elements. */
class EvidenceLayer {
  constructor(viewer) {
    this.viewer = viewer;
    this.evidence = null;
    this.cell = null; // {row, column} under the mouse or the keyboard
    this.cover = null; // {left, top, right, bottom}
    this.mouse = null; // {x, y} on the screen
    this.drag = null; // {x, y, cell} where the button went down
  }

  /** The elements: a canvas for the frame, and the line below it. */
  build(frame) {
    this.frame = frame;
    this.canvas = make("canvas");
    this.sum = make("span", { className: "sum" });
    this.hint = make("span", { className: "hint" });
    this.check = make("input", { type: "checkbox", checked: this.viewer.set.cells });
    this.check.onchange = () => this.viewer.change("cells", this.check.checked);
    this.outlineText = make("span");
    this.toggle = make("label", {}, this.check, this.outlineText, make("kbd", { textContent: "K" }));
    this.line = make("div", { className: "evidence" }, this.sum, this.hint, this.toggle);
    frame.onpointermove = (event) => this.move(event);
    frame.onpointerdown = (event) => this.press(event);
    frame.onpointerup = (event) => this.release(event);
    frame.onpointercancel = () => (this.drag = null);
    frame.onpointerleave = () => this.leave();
    frame.onfocus = () => this.focus();
    frame.onblur = () => this.leave();
  }

  /** Take over the evidence of the picture now shown: null, {reason} or the cells. */
  take(evidence) {
    const shown = evidence?.cells ? evidence : null;
    this.reason = evidence?.reason ?? "";
    this.cover = null;
    this.drag = null;
    this.evidence = shown;
    if (shown && this.cell && !this.focused()) this.cell = this.mouse ? this.at(this.mouse) : null;
    if (shown && this.cell) this.step(0, 0); // another map may have fewer cells
    if (!shown) this.cell = null;
    this.frame.tabIndex = shown ? 0 : -1;
    this.frame.ariaLabel = shown ? "Cells of the map: arrow keys move, Shift and arrow keys cover, Escape leaves" : null;
    this.frame.role = shown ? "application" : null;
  }

  /** Whether some cells count and some do not; with the mean of all cells there is nothing to outline. */
  someCount() {
    return !!this.evidence && this.evidence.k < this.evidence.cells.length;
  }

  focused() {
    return this.frame.matches(":focus");
  }

  // ---- mouse --------------------------------------------------------------------------------------------------

  /** The cell at a place on the screen; null outside the photo. `inside`: the nearest one instead. */
  at({ x, y }, inside = false) {
    const { evidence } = this;
    const photo = this.viewer.photo?.getBoundingClientRect();
    if (!evidence || !photo) return null;
    const column = Math.floor(((x - photo.left) / photo.width) * evidence.columns);
    const row = Math.floor(((y - photo.top) / photo.height) * evidence.rows);
    if (!inside && (row < 0 || column < 0 || row >= evidence.rows || column >= evidence.columns)) return null;
    return this.clamp({ row, column });
  }

  clamp({ row, column }) {
    const { rows, columns } = this.evidence;
    return { row: Math.min(rows - 1, Math.max(0, row)), column: Math.min(columns - 1, Math.max(0, column)) };
  }

  move(event) {
    this.mouse = { x: event.clientX, y: event.clientY };
    const { drag } = this;
    if (drag && (this.cover || Math.hypot(event.clientX - drag.x, event.clientY - drag.y) >= DRAG_PX))
      this.coverFrom(drag.cell, this.at(this.mouse, true));
    this.cell = this.at(this.mouse);
    this.frame.style.cursor = this.cell ? "crosshair" : "";
    this.paint();
  }

  press(event) {
    const cell = this.at({ x: event.clientX, y: event.clientY });
    if (event.button || event.pointerType === "touch" || !cell) return;
    event.preventDefault(); // no focus: the arrow keys stay with the list of images
    this.frame.setPointerCapture(event.pointerId);
    this.cover = null;
    this.drag = { x: event.clientX, y: event.clientY, cell };
    this.paint();
  }

  release(event) {
    this.drag = null;
    if (this.frame.hasPointerCapture(event.pointerId)) this.frame.releasePointerCapture(event.pointerId);
  }

  leave() {
    this.mouse = null;
    if (!this.focused()) this.cell = null;
    this.paint();
  }

  // ---- keyboard -----------------------------------------------------------------------------------------------

  focus() {
    if (!this.evidence) return;
    const highest = this.evidence.cells.indexOf(Math.max(...this.evidence.cells));
    this.cell ??= { row: Math.floor(highest / this.evidence.columns), column: highest % this.evidence.columns };
    this.paint();
  }

  /** Escape clears what is covered, then leaves; arrows move over the cells while the picture has the focus. */
  key(event) {
    if (!this.evidence) return false;
    if (event.key === "Escape" && this.cover) this.cover = this.anchor = null;
    else if (event.key === "Escape" && this.focused()) this.frame.blur();
    else if (ARROWS[event.key] && this.focused()) this.arrow(event);
    else return false;
    this.paint();
    return true;
  }

  arrow(event) {
    this.cell ??= { row: 0, column: 0 };
    if (!event.shiftKey) this.anchor = null;
    else if (!this.anchor || !this.cover) this.anchor = this.cell;
    this.step(...ARROWS[event.key]);
    if (this.anchor) this.coverFrom(this.anchor, this.cell);
  }

  step(columns, rows) {
    this.cell = this.clamp({ row: this.cell.row + rows, column: this.cell.column + columns });
  }

  coverFrom(one, other) {
    this.cover = {
      left: Math.min(one.column, other.column), right: Math.max(one.column, other.column),
      top: Math.min(one.row, other.row), bottom: Math.max(one.row, other.row),
    };
  }

  // ---- what is seen -------------------------------------------------------------------------------------------

  paint() {
    const { evidence, viewer } = this;
    this.line.hidden = !viewer.data.picture.cells && !viewer.data.picture.note;
    this.toggle.hidden = !this.someCount();
    this.outlineText.textContent = this.someCount() ? `Outline the ${evidence.k > 1 ? evidence.k : "highest"}` : "";
    this.check.checked = viewer.set.cells;
    this.say();
    this.canvas.hidden = !evidence || viewer.hidden;
    if (!this.canvas.hidden && viewer.box) this.draw();
  }

  say() {
    const { evidence } = this;
    this.line.ariaLive = this.frame.matches?.(":focus") ? "polite" : "off";
    if (!evidence) {
      this.sum.replaceChildren(this.reason ? `Cells: n/a. ${this.reason}` : "");
      this.sum.title = this.reason; // a narrow screen cuts the line off
      this.hint.textContent = "";
      return;
    }
    const [text, hint] = this.cover ? this.sayWithout() : this.cell ? this.sayCell() : this.saySum();
    this.sum.replaceChildren(...text.map((part, index) => (index % 2 ? make("b", { textContent: part }) : part)));
    this.sum.title = this.hint.title = [this.sum.textContent, hint, this.exactness()].filter(Boolean).join(". ");
    this.hint.textContent = hint;
  }

  exactness() {
    const { rounded, bias_read } = this.evidence;
    return [
      rounded ? "This map was kept in 16 bits: each cell is rounded, by up to 0.05 %" : "The cells are exact",
      "The colours are smoothed for the eye",
      bias_read ? "" : "The bias is what the map leaves of the score: its own network, trained without this image, is not kept",
    ].filter(Boolean).join(". ");
  }

  /** Texts alternate between plain and bold. */
  saySum() {
    const { score, pooled, bias, k, cells, rounded } = this.evidence;
    const all = `${cells.length.toLocaleString("en")} cells`;
    const highest = k === 1 ? `the highest of ${all}` : k < cells.length ? `mean of the ${k} highest of ${all}` : `mean of all ${all}`;
    const sum = `${signed(pooled)} (${highest}) ${bias < 0 ? "−" : "+"} ${Math.abs(bias).toFixed(3)} (bias)`;
    const hint = this.focused() ? "Arrow keys move" : "Drag covers cells";
    return [["Score ", signed(score), ` ${rounded ? "≈" : "="} ${sum}`], rounded ? `${hint} · ±0.05 %` : hint];
  }

  sayCell() {
    const { cells, counted, columns, k } = this.evidence;
    const place = this.cell.row * columns + this.cell.column;
    const where = `Row ${this.cell.row + 1}, column ${this.cell.column + 1}: value `;
    if (!counted[place]) return [[where, signed(cells[place]), ", does not count, share ", "0"], k > 1 ? `not among the ${k} highest` : "not the highest"];
    if (k === 1) return [[where, signed(cells[place]), ", the highest: it alone is the ", "score"], ""];
    return [[where, signed(cells[place]), ", counts, share ", signed(cells[place] / k)], `of the score, ${signed(cells[place])} / ${k}`];
  }

  sayWithout() {
    const { left, right, top, bottom } = this.cover;
    const n = (right - left + 1) * (bottom - top + 1);
    const without = scoreWithout(this.evidence, this.cover);
    const what = `Without ${n === 1 ? "this cell" : `these ${n.toLocaleString("en")} cells`}: `;
    if (without === null) return [[what, "n/a", ", no other cell is left"], "Esc clears"];
    const { score } = this.evidence;
    const verdict = this.viewer.verdictOf(without);
    this.line.dataset.without = String(without);
    const changed = verdict === this.viewer.verdictOf(score) ? ", still " : ", then ";
    return [[what, `score ${signed(without)}`, changed, verdict, ` (was ${signed(score)})`], "on this map alone · Esc clears"];
  }

  draw() {
    const { canvas, evidence, viewer, cover, cell } = this;
    const ratio = globalThis.devicePixelRatio || 1;
    [canvas.width, canvas.height] = [Math.round(viewer.box.w * ratio), Math.round(viewer.box.h * ratio)];
    const context = canvas.getContext("2d");
    const x = (column) => Math.round((column / evidence.columns) * canvas.width);
    const y = (row) => Math.round((row / evidence.rows) * canvas.height);
    const twice = (stroke, dark, light) => {
      [context.strokeStyle, context.lineWidth] = ["#10161d", dark * ratio];
      stroke();
      [context.strokeStyle, context.lineWidth] = [light, (dark / 2) * ratio];
      stroke();
    };
    if (viewer.set.cells && this.someCount()) {
      const edges = countedEdges(evidence, x, y);
      twice(() => context.stroke(edges), 3, "#4be3ff");
    }
    if (cover) {
      const area = [x(cover.left), y(cover.top), x(cover.right + 1) - x(cover.left), y(cover.bottom + 1) - y(cover.top)];
      context.fillStyle = "rgb(29 39 51 / 0.62)";
      context.fillRect(...area);
      twice(() => context.strokeRect(...area), 3, "#fff");
    }
    if (cell) {
      const area = [x(cell.column), y(cell.row), x(cell.column + 1) - x(cell.column), y(cell.row + 1) - y(cell.row)];
      twice(() => context.strokeRect(...area), 3, "#fff");
    }
  }
}

/** The lines between cells that count and cells that do not (and the border of the map beside those that count). */
function countedEdges({ counted, columns, rows }, x, y) {
  const path = new Path2D();
  const counts = (row, column) => row >= 0 && column >= 0 && row < rows && column < columns && counted[row * columns + column];
  for (let row = 0; row < rows; row++)
    for (let column = 0; column < columns; column++) {
      if (!counts(row, column)) continue;
      for (const [dr, dc, from, to] of [
        [-1, 0, [row, column], [row, column + 1]],
        [1, 0, [row + 1, column], [row + 1, column + 1]],
        [0, -1, [row, column], [row + 1, column]],
        [0, 1, [row, column + 1], [row + 1, column + 1]],
      ]) {
        if (counts(row + dr, column + dc)) continue;
        path.moveTo(x(from[1]), y(from[0]));
        path.lineTo(x(to[1]), y(to[0]));
      }
    }
  return path;
}
