// The three charts as SVG: scores by label, ROC, precision and recall. Each draws its still part once per size and
// scores (draw), and what follows the threshold at every step (move). A handle is an ARIA slider.

const ZOOM = 0.1; // of the unit square
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

class Chart {
  constructor(board, title) {
    this.board = board;
    this.still = svg("g");
    this.moving = svg("g");
    this.node = svg("svg", { class: "chart", role: "group", "aria-label": title }, this.still, this.moving);
    this.handles = {};
    for (const which of ["low", "high"]) {
      const handle = (this.handles[which] = svg("g", { class: `handle ${which}`, tabindex: 0, role: "slider" }));
      handle.addEventListener("keydown", (event) => this.key(event, which));
      handle.addEventListener("keyup", () => board.tellSoon());
      this.moving.append(handle);
    }
    this.node.addEventListener("pointerdown", (event) => this.grab(event));
  }

  /** Room for axes: left, right, top, bottom. */
  frame(width, height, { left, right, top, bottom }) {
    Object.assign(this, { width, height, left, top, plotW: width - left - right, plotH: height - top - bottom });
    for (const [name, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) this.node.setAttribute(name, value);
  }

  text(x, y, words, attributes = {}) {
    return svg("text", { x, y, ...attributes }, words);
  }

  /** Take the nearest handle along, wherever in the chart the pointer came down; on the window, so that a remount of
   * the element in the middle of a drag loses nothing. */
  grab(event) {
    if (event.button !== 0 || !this.ready) return;
    event.preventDefault();
    const at = (moved) => {
      const box = this.node.getBoundingClientRect();
      return [moved.clientX - box.left, moved.clientY - box.top];
    };
    const which = this.nearest(...at(event));
    this.handles[which].focus({ preventScroll: true });
    const move = (moved) => this.board.drag(which, this.thresholdAt(which, ...at(moved)));
    const drop = () => {
      removeEventListener("pointermove", move);
      for (const end of ["pointerup", "pointercancel"]) removeEventListener(end, drop);
      this.board.drop();
    };
    addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, drop);
    move(event);
  }

  key(event, which) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
    const step = steps[event.key];
    if (step === undefined || !this.ready) return;
    event.preventDefault();
    event.stopPropagation();
    this.board.step(which, this.stepped(which, event.shiftKey ? 10 * step : step));
  }

  nearest(x, y) {
    if (!this.board.two) return "high";
    const distance = (which) => this.distance(this.places[which], x, y);
    const [low, high] = [distance("low"), distance("high")];
    if (low === high) return x < this.places.low[0] === this.rising ? "low" : "high"; // one on top of the other
    return low < high ? "low" : "high";
  }

  describe(which, { min, max, now, words }) {
    const handle = this.handles[which];
    const name = !this.board.two ? "Threshold" : which === "low" ? "Lower threshold T1" : "Upper threshold T2";
    const values = { "aria-label": `${name}, ${this.spoken}`, "aria-valuemin": min, "aria-valuemax": max, "aria-valuenow": now, "aria-valuetext": words };
    for (const [key, value] of Object.entries(values)) handle.setAttribute(key, value);
    handle.style.display = which === "low" && !this.board.two ? "none" : "";
  }
}

/** Good above bad, each with its own count axis: 50 bad parts stay visible beside 5,000 good ones. */
class HistogramChart extends Chart {
  constructor(board) {
    super(board, "Scores by label");
    this.spoken = "on the scores";
    this.rising = true;
    this.zones = ["good", "person", "bad"].map((name) => svg("rect", { class: `zone ${name}` }));
    this.moving.prepend(...this.zones);
    for (const [which, handle] of Object.entries(this.handles)) {
      this[`${which}Word`] = this.text(0, 0, "", { "text-anchor": "middle" });
      this[`${which}Parts`] = [
        svg("line", { class: "wide" }), svg("line", { class: "line" }), svg("rect", { class: "grip", rx: 9, height: 18 }), this[`${which}Word`],
      ];
      handle.append(...this[`${which}Parts`]);
    }
  }

  draw(width, height) {
    const { good, bad, domain, bars } = this.board;
    this.ready = true;
    this.frame(width, height, { left: 44, right: 8, top: 26, bottom: 34 });
    const gap = 12;
    const row = (this.plotH - gap) / 2;
    const parts = [];
    this.x = (score) => this.left + ((score - domain[0]) / (domain[1] - domain[0])) * this.plotW;
    for (const [index, [name, counts, total]] of [["good", bars.good, good.length], ["bad", bars.bad, bad.length]].entries()) {
      const base = this.top + row + index * (row + gap);
      const most = Math.max(1, ...counts);
      for (const tick of ticks(0, most, 3).filter(Number.isInteger)) {
        const y = base - (tick / most) * (row - 4);
        parts.push(svg("line", { class: "grid", x1: this.left, x2: this.left + this.plotW, y1: y, y2: y }));
        parts.push(this.text(this.left - 5, y + 4, whole(tick), { "text-anchor": "end" }));
      }
      counts.forEach((count, i) => {
        if (!count) return;
        const [from, to] = [this.x(bars.edges[i]), this.x(bars.edges[i + 1])];
        const tall = Math.max(2, (count / most) * (row - 4)); // one image beside 90,000 is still seen
        const bar = svg("rect", { class: `bar ${name}`, x: from + 0.4, width: Math.max(0.8, to - from - 0.8), y: base - tall, height: tall });
        bar.append(svg("title", {}, `${whole(count)} ${name} from ${signed(bars.edges[i])} to ${signed(bars.edges[i + 1])}`));
        parts.push(bar);
      });
      // On the side where this class usually has few.
      const [at, anchor] = name === "good" ? [this.left + this.plotW - 5, "end"] : [this.left + 5, "start"];
      parts.push(this.text(at, base - row + 15, `${name === "good" ? "Good" : "Bad"} ${whole(total)}`, { class: `class ${name}`, "text-anchor": anchor }));
    }
    const foot = this.top + this.plotH;
    for (const tick of ticks(...domain, Math.max(3, Math.round(width / 80)))) parts.push(this.text(this.x(tick), foot + 15, String(tick).replace("-", "−"), { "text-anchor": "middle" }));
    parts.push(this.text(this.left + this.plotW / 2, height - 3, "Score: higher is more suspicious", { class: "axis", "text-anchor": "middle" }));
    this.still.replaceChildren(...parts);
  }

  move() {
    const { low, high, two, domain } = this.board;
    const [left, right, foot] = [this.left, this.left + this.plotW, this.top + this.plotH];
    this.places = { low: [this.x(low), this.top], high: [this.x(high), this.top] };
    const ends = [[left, this.x(low)], [this.x(low), this.x(high)], [this.x(high), right]];
    this.zones.forEach((zone, i) => {
      for (const [name, value] of Object.entries({ x: ends[i][0], width: Math.max(0, ends[i][1] - ends[i][0]), y: this.top, height: this.plotH })) zone.setAttribute(name, value);
    });
    const grips = {};
    for (const which of ["low", "high"]) {
      const x = this.places[which][0];
      const [wide, line, , word] = this[`${which}Parts`];
      for (const node of [wide, line]) for (const [name, value] of Object.entries({ x1: x, x2: x, y1: this.top - 6, y2: foot })) node.setAttribute(name, value);
      word.textContent = (two ? (which === "low" ? "T1 " : "T2 ") : "") + signed(which === "low" ? low : high);
      const room = 16 + 7.2 * word.textContent.length;
      grips[which] = { room, at: Math.min(right - room / 2, Math.max(left + room / 2, x)) }; // none leaves the picture
      this.describe(which, { min: domain[0], max: domain[1], now: which === "low" ? low : high, words: this.board.words(which) });
    }
    const apart = (grips.low.room + grips.high.room) / 2 + 4;
    if (two && grips.high.at - grips.low.at < apart) { // those of two near thresholds stand side by side
      const middle = Math.min(right - apart, Math.max(left + apart, (grips.low.at + grips.high.at) / 2));
      [grips.low.at, grips.high.at] = [middle - apart / 2, middle + apart / 2];
    }
    for (const [which, { room, at }] of Object.entries(grips)) {
      const [, , grip, word] = this[`${which}Parts`];
      for (const [name, value] of Object.entries({ x: at - room / 2, width: room, y: 2 })) grip.setAttribute(name, value);
      word.setAttribute("x", at);
      word.setAttribute("y", 15);
    }
  }

  distance([at], x) {
    return Math.abs(at - x);
  }

  thresholdAt(_which, x) {
    const [from, to] = this.board.domain;
    return from + ((x - this.left) / this.plotW) * (to - from);
  }

  stepped(which, steps) {
    const [from, to] = this.board.domain;
    const now = which === "low" ? this.board.low : this.board.high;
    return Number.isFinite(steps) ? now + (steps * (to - from)) / 400 : steps < 0 ? from : to;
  }
}

/** A curve of the unit square, whose corners each stand for a threshold. */
class CurveChart extends Chart {
  constructor(board, title, { x, y, path, spoken, point, says, corner }) {
    super(board, title);
    Object.assign(this, { title, axes: [x, y], path, spoken, point, says, corner, rising: false });
    for (const handle of Object.values(this.handles)) handle.append(svg("circle", { class: "halo", r: 15 }), svg("circle", { class: "dot", r: 8 }));
    this.guides = svg("path", { class: "guide" });
    this.moving.prepend(this.guides);
    this.word = this.text(0, 14, "");
    this.zoom = svg("g", { class: "zoom", role: "button", tabindex: 0 }, svg("rect", { y: 0, height: 20, rx: 4 }), this.word);
    this.zoom.addEventListener("pointerdown", (event) => event.stopPropagation());
    this.zoom.addEventListener("click", () => board.zoom());
    this.zoom.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      board.zoom();
    });
    this.node.append(this.zoom);
    this.clip = `clip-${spoken.replaceAll(" ", "-")}`;
  }

  draw(width, height) {
    const { corners, data } = this.board;
    this.frame(width, height, { left: 44, right: 10, top: 26, bottom: 34 });
    this.ready = corners.length > 0;
    const zoomed = this.board.zoomed;
    const [x0, x1] = zoomed ? this.corner : [0, 1]; // a good model's curves live in a corner
    const [y0, y1] = zoomed ? [1 - ZOOM, 1] : [0, 1];
    this.x = (share) => this.left + ((share - x0) / (x1 - x0)) * this.plotW;
    this.y = (share) => this.top + (1 - (share - y0) / (y1 - y0)) * this.plotH;
    const parts = [this.text(0, 14, this.title, { class: "title" })];
    this.zoom.style.display = this.moving.style.display = this.ready ? "" : "none";
    if (!this.ready) {
      parts.push(this.text(width / 2, height / 2 - 6, "n/a", { class: "none", "text-anchor": "middle" }));
      parts.push(this.text(width / 2, height / 2 + 14, data.missing, { "text-anchor": "middle" }));
      return this.still.replaceChildren(...parts);
    }
    const place = { ROC: 36 }[this.title] ?? 110;
    this.word.textContent = zoomed ? "whole" : "zoom";
    this.zoom.setAttribute("aria-label", zoomed ? "Show the whole curves" : "Zoom into the corners of the curves");
    this.word.setAttribute("x", place);
    this.zoom.firstChild.setAttribute("x", place - 4);
    this.zoom.firstChild.setAttribute("width", 44);
    for (const step of [0, 0.25, 0.5, 0.75, 1]) {
      const [atX, atY] = [x0 + step * (x1 - x0), y0 + step * (y1 - y0)];
      parts.push(svg("line", { class: "grid", x1: this.x(x0), x2: this.x(x1), y1: this.y(atY), y2: this.y(atY) }));
      parts.push(svg("line", { class: "grid", x1: this.x(atX), x2: this.x(atX), y1: this.y(y0), y2: this.y(y1) }));
      parts.push(this.text(this.left - 12, this.y(atY) + 4, `${Number((100 * atY).toFixed(1))}`, { "text-anchor": "end" }));
      parts.push(this.text(this.x(atX), this.top + this.plotH + 15, `${Number((100 * atX).toFixed(1))}`, { "text-anchor": "middle" }));
    }
    parts.push(this.text(this.left + this.plotW / 2, height - 3, this.axes[0], { class: "axis", "text-anchor": "middle" }));
    parts.push(this.text(width - 10, 14, this.axes[1], { class: "axis", "text-anchor": "end" }));
    const { line, guess } = this.path(this.board, this.x, this.y);
    const edge = svg("rect", { x: this.left - 2, y: this.top - 2, width: this.plotW + 4, height: this.plotH + 4 });
    parts.push(svg("clipPath", { id: this.clip }, edge), svg("g", { "clip-path": `url(#${this.clip})` }, svg("path", { class: "guess", d: guess }), svg("path", { class: "curve", d: line })));
    this.still.replaceChildren(...parts);
    this.spots = corners.map((corner) => this.point(corner)).map((spot) => spot && this.put(spot));
  }

  /** Where a point of the curve is drawn; one outside the zoomed corner waits at its edge. */
  put([x, y]) {
    const held = (value, least, most) => Math.min(most, Math.max(least, value));
    return [held(this.x(x), this.left, this.left + this.plotW), held(this.y(y), this.top, this.top + this.plotH)];
  }

  move() {
    if (!this.ready) return;
    this.places = {};
    const guides = [];
    for (const which of ["low", "high"]) {
      const figures = this.board.figuresAt(which);
      const spot = this.point(figures);
      const [x, y] = spot ?? [0, 1]; // nothing flagged: no precision; the hollow dot only keeps the key focus
      const place = (this.places[which] = this.put([x, y]));
      this.handles[which].setAttribute("transform", `translate(${place[0]} ${place[1]})`);
      this.handles[which].classList.toggle("hollow", !spot);
      if (spot && (which === "high" || this.board.two)) guides.push(`M${this.left} ${place[1]}H${place[0]}V${this.top + this.plotH}`);
      // As a slider's value: the share of all parts called bad. It rises along both curves, at each step.
      this.describe(which, { min: 0, max: 100, now: (100 * figures.flagged).toFixed(3), words: `${this.says(figures)}. ${this.board.words(which)}` });
    }
    this.guides.setAttribute("d", guides.join(""));
  }

  distance([atX, atY], x, y) {
    return Math.hypot(atX - x, atY - y);
  }

  thresholdAt(_which, x, y) {
    let [best, least] = [0, Infinity];
    this.spots.forEach((spot, i) => {
      const distance = spot ? this.distance(spot, x, y) : Infinity;
      if (distance < least) [best, least] = [i, distance];
    });
    return this.board.corners[best].threshold;
  }

  /** Along the curve to the right: to lower thresholds. */
  stepped(which, steps) {
    const { corners } = this.board;
    if (!Number.isFinite(steps)) return corners[steps < 0 ? 0 : corners.length - 1].threshold;
    const now = which === "low" ? this.board.low : this.board.high;
    const lower = corners.findIndex((corner) => corner.threshold <= now);
    const right = lower < 0 ? corners.length - 1 : lower;
    const here = [right, right - 1].find((i) => i >= 0 && this.board.sameOutcome(corners[i].threshold, now));
    // Between two corners (some are left out where they are dense) the next one to the right is one step away.
    const to = (here ?? (steps > 0 ? right - 1 : right)) + steps;
    return corners[Math.min(corners.length - 1, Math.max(0, to))].threshold;
  }
}

function rocChart(board) {
  return new CurveChart(board, "ROC", {
    x: "Good rejected, % (overkill, FPR)",
    y: "Bad caught, % (TPR)",
    spoken: "on the ROC curve",
    corner: [0, ZOOM],
    point: ({ fpr, tpr }) => [fpr, tpr],
    says: ({ fpr, tpr }) => `${percent(fpr)} of good rejected, ${percent(tpr)} of bad caught`,
    path: ({ corners }, x, y) => ({
      line: corners.map(({ fpr, tpr }, i) => `${i ? "L" : "M"}${x(fpr).toFixed(2)} ${y(tpr).toFixed(2)}`).join(""),
      guess: `M${x(0)} ${y(0)}L${x(1)} ${y(1)}`,
    }),
  });
}

function precisionRecallChart(board) {
  return new CurveChart(board, "Precision–recall", {
    x: "Bad caught, % (recall)",
    y: "Rejects truly bad, %",
    spoken: "on the precision-recall curve",
    corner: [1 - ZOOM, 1],
    point: ({ tpr, precision }) => (precision === null ? null : [tpr, precision]),
    says: ({ tpr, precision }) => `${percent(tpr)} of bad caught, precision ${percent(precision)}`,
    // Average precision sums (R_n - R_(n-1)) P_n: between two corners the later one's precision holds.
    path: ({ corners, good, bad }, x, y) => {
      const known = corners.filter(({ precision }) => precision !== null);
      const share = bad.length / (good.length + bad.length);
      return {
        line: `M${x(0)} ${y(known[0].precision).toFixed(2)}` + known.map(({ tpr, precision }) => `V${y(precision).toFixed(2)}H${x(tpr).toFixed(2)}`).join(""),
        guess: `M${x(0)} ${y(share)}H${x(1)}`,
      };
    },
  });
}
