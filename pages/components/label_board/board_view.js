// How the label board looks: built once for each element, then painted from the state that board.js keeps.

const GAP = 8; // px between tiles
const EDGE_ROOM = 5; // px around the board, for the frame of the current tile
const FILTERS = ["all", "none", "good", "bad", "unsure"];
const LEAST = 16; // px: a picture of 20,000 x 10 pixels would be a line that nobody sees; it is stretched to a band
const BOTTOM = 26; // px below the board, of the page's own margin
const EDGE = { min: 90, max: 420, start: 170 }; // px: the side of a square tile of the same area
const VERDICT_KEYS = { g: "good", b: "bad", u: "unsure" };
const HELP = [
  [["G"], "Good, then the next image"],
  [["B"], "Bad, then the next image"],
  [["U"], "Unsure, then the next image"],
  [["Z"], "Undo, step by step"],
  [["←", "→", "↑", "↓"], "Move"],
  [["Page ↑", "Page ↓"], "Other page of the board"],
  [["Enter"], "Board or one image"],
  [["Click"], "Bad, click again: good"],
  [["Right click"], "Unsure"],
  [["?"], "Show or hide these keys"],
];

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Stop loading pictures nobody will see: a browser opens six connections, and verdicts need one of them. */
function forget(images) {
  for (const image of images) if (!image.complete) image.removeAttribute("src");
}

/** Try again later when a picture could not be loaded and is still wanted: the server may be restarting. */
function persist(image, wait = 1500) {
  image.onerror = () => setTimeout(() => {
    const address = image.getAttribute("src");
    if (!address || !image.isConnected) return;
    persist(image, Math.min(2 * wait, 15000));
    image.src = address;
  }, wait);
  return image;
}

/** The drawing half of the board; `class Board` adds what the inspector does. */
class BoardView {
  build() {
    const { palette } = this.data;
    const p = (this.parts = {});
    const press = (button, action) => {
      button.type = "button";
      button.onclick = () => {
        action();
        this.root.focus({ preventScroll: true }); // so that keys go to the board again
      };
      return button;
    };
    p.filters = {};
    const filters = make("div", { className: "segments" });
    filters.setAttribute("role", "group");
    filters.setAttribute("aria-label", "Which images");
    for (const filter of FILTERS) {
      const { sign, word, colour } = palette[filter] ?? { sign: "", word: "All" };
      const mark = make("span", { className: "sign", textContent: filter === "none" ? "" : sign });
      if (colour) mark.style.color = colour;
      const n = make("span", { className: "n" });
      const button = press(make("button", { className: `filter-${filter}` }, ...(mark.textContent ? [mark] : []), word, n), () => this.load(filter));
      p.filters[filter] = { button, n };
      filters.append(button);
    }
    p.size = make("input", { type: "range", min: EDGE.min, max: EDGE.max, step: 10, value: this.edge });
    p.size.setAttribute("aria-label", "Size of the thumbnails");
    p.size.oninput = () => {
      this.edge = Number(p.size.value);
      kept.write(localStorage, "ssn.edge", this.edge);
      this.layout(true);
    };
    p.sizeLabel = make("label", { className: "size" }, "Size", p.size);
    p.views = { board: press(make("button", { textContent: "Board" }), () => this.show("board")), single: press(make("button", { textContent: "One image" }), () => this.show("single")) };
    p.keys = press(make("button", { className: "plain", textContent: "?", title: "Keys", ariaLabel: "Keys" }), () => this.toggleHelp());
    p.save = make("div", { className: "save" });
    p.save.setAttribute("role", "status");
    p.progress = make("div", { className: "progress" });
    p.bars = Object.fromEntries(VERDICT_NAMES.map((verdict) => {
      const bar = make("i");
      bar.style.background = palette[verdict].colour;
      p.progress.append(bar);
      return [verdict, bar];
    }));
    p.stage = make("div", { className: "stage" });
    p.strip = make("div", { className: "strip" });
    p.previous = press(make("button", { className: "plain", textContent: "‹ Previous" }), () => this.turnPage(-1));
    p.next = press(make("button", { className: "plain", textContent: "Next ›" }), () => this.turnPage(1));
    p.where = make("span");
    p.message = make("div", { className: "message" });
    p.message.setAttribute("role", "status");
    p.refresh = press(make("button", { className: "plain", textContent: "Refresh list", title: "Read the list again, as it is now" }), () => this.load(this.filter));
    p.help = make("div", { className: "help", hidden: true }, make("h3", { textContent: "Keys" }), make("dl", {}, ...HELP.flatMap(([keys, what]) => [
      make("dt", {}, ...keys.map((name) => make("kbd", { textContent: name }))), make("dd", { textContent: what }),
    ])));
    this.buildSide(press, palette);
    const views = make("div", { className: "segments" }, p.views.board, p.views.single);
    const head = make("div", { className: "head" }, filters, make("div", { className: "spacer" }), p.sizeLabel, views, p.keys, p.save);
    p.foot = make("div", { className: "foot" }, p.previous, p.where, p.next, make("div", { className: "spacer" }), p.refresh);
    this.root.replaceChildren(head, p.progress, p.stage, p.strip, p.foot, p.message, p.help);
    this.pageKey = this.shownPicture = null;
    this.stripTiles = new Map();
  }

  buildSide(press, palette) {
    const p = this.parts;
    p.photo = make("div", { className: "photo" });
    p.nowMark = make("span", { className: "mark" });
    p.nowWord = make("span");
    p.now = make("div", { className: "now" }, p.nowMark, p.nowWord);
    p.verdicts = Object.fromEntries(Object.entries(VERDICT_KEYS).map(([letter, verdict]) => {
      const { sign, word, colour } = palette[verdict];
      const button = press(make("button", { className: `verdict give-${verdict}` }, make("span", { className: "sign", textContent: sign }), word, make("kbd", { textContent: letter.toUpperCase() })), () => this.give(verdict, this.current, { advance: true }));
      button.style.setProperty("--verdict", colour);
      return [verdict, button];
    }));
    p.undo = press(make("button", { className: "plain undo" }, "Undo", make("kbd", { textContent: "Z" })), () => this.undo());
    p.place = make("div", { className: "where" });
    p.name = make("div", { className: "name" });
    p.single = make("div", { className: "single" }, p.photo, make("div", { className: "side" }, p.now, ...Object.values(p.verdicts), p.undo, p.place, p.name));
    p.grid = make("div", { className: "grid" });
  }

  turnPage(by) {
    this.move(this.view === "single" ? this.current + by : this.pageStart() + by * this.columns * this.rows);
  }

  /** Fit the stage into the window and the tiles into the stage; redraw. */
  layout(force = false) {
    if (!this.root?.isConnected) return;
    const p = this.parts;
    p.strip.hidden = this.view !== "single" || !this.ids?.length;
    p.foot.hidden = this.view === "single";
    const around = this.root.getBoundingClientRect().height - p.stage.getBoundingClientRect().height;
    const scroller = this.root.getRootNode().host?.closest("[data-testid=stMain]");
    const top = this.root.getBoundingClientRect().top + (scroller?.scrollTop ?? 0);
    const height = Math.max(260, Math.floor(innerHeight - top - around - BOTTOM));
    const width = Math.floor(this.root.getBoundingClientRect().width);
    const key = `${width}x${height}/${this.edge}/${this.view}`;
    if (!force && key === this.layoutKey) return;
    this.layoutKey = key;
    p.stage.style.height = `${height}px`;
    this.stage = { width, height };
    if (this.ids) {
      const sizes = this.ids.slice(Math.max(0, this.current - 50), this.current + 50).map((id) => this.items.get(id)).filter(Boolean);
      const ratios = sizes.map((item) => item.w / item.h).sort((a, b) => a - b);
      const ratio = Math.min(3, Math.max(0.3, ratios[Math.floor(ratios.length / 2)] ?? 1));
      // Whole rows fill the height; the width of a tile follows from the images' shape.
      const [roomX, roomY] = [width - 2 * EDGE_ROOM + GAP, height - 2 * EDGE_ROOM + GAP];
      this.rows = Math.max(1, Math.round(roomY / (this.edge / Math.sqrt(ratio) + GAP)));
      const tileHeight = Math.floor(roomY / this.rows) - GAP;
      this.columns = Math.max(1, Math.floor(roomX / (tileHeight * ratio + GAP)));
      p.grid.style.gridTemplateColumns = `repeat(${this.columns}, 1fr)`;
      p.grid.style.gridAutoRows = `${tileHeight}px`;
      this.pageKey = this.shownPicture = null;
      this.paint();
      this.lookAhead();
    } else this.paint();
  }

  paint() {
    if (!this.root?.isConnected) return;
    const p = this.parts;
    this.paintHead();
    const single = this.view === "single";
    if (!this.ids || !this.ids.length || (single && this.current >= this.ids.length)) this.paintEmpty();
    else if (single) this.paintSingle();
    else this.paintBoard();
    this.paintFoot();
    const id = this.ids?.[this.current];
    this.root.dataset.current = id ?? "";
    this.root.dataset.ready = String(this.ids !== null);
  }

  paintHead() {
    const p = this.parts;
    const counts = queue.liveCounts(this.project);
    for (const filter of FILTERS) {
      const { button, n } = p.filters[filter];
      button.setAttribute("aria-pressed", String(filter === this.filter));
      n.textContent = counts ? counts[{ all: "total", none: "unlabelled" }[filter] ?? filter] : "";
    }
    for (const verdict of VERDICT_NAMES) p.bars[verdict].style.width = `${counts?.total ? (100 * counts[verdict]) / counts.total : 0}%`;
    for (const [view, button] of Object.entries(p.views)) button.setAttribute("aria-pressed", String(view === this.view));
    p.sizeLabel.style.visibility = this.view === "board" ? "" : "hidden"; // keeps its place: nothing jumps
    const status = queue.status();
    p.save.dataset.level = status.level;
    p.save.dataset.unsaved = String(queue.unsaved);
    p.save.title = status.more;
    if (p.save.textContent !== status.text) p.save.textContent = status.text;
  }

  paintFoot() {
    const p = this.parts;
    const n = this.ids?.length ?? 0;
    const page = this.columns * this.rows;
    const start = n ? this.pageStart() : 0;
    const single = this.view === "single";
    p.previous.disabled = single ? this.current <= 0 : start <= 0;
    p.next.disabled = single ? this.current >= n - 1 : start + page >= n;
    p.where.textContent = !n ? "" : single ? `${Math.min(this.current + 1, n)} of ${n}` : `${start + 1}–${Math.min(start + page, n)} of ${n}`;
    const end = n && this.current >= n && !single ? "End of this list" : "";
    if (p.message.textContent !== (this.message || end)) p.message.textContent = this.message || end;
    p.message.style.bottom = `${this.root.getBoundingClientRect().bottom - p.stage.getBoundingClientRect().bottom + 12}px`;
  }

  paintEmpty() {
    const p = this.parts;
    if (this.view === "single" && this.ids?.length) this.paintStrip();
    this.pageKey = this.shownPicture = null;
    const button = (text, action) => make("button", { className: "plain", type: "button", textContent: text, onclick: action });
    let title = "";
    let text = "";
    const row = make("div", { className: "row" });
    if (this.failed) {
      [title, text] = ["The list could not be read", `${this.failed}. Trying again …`];
    } else if (this.ids?.length) {
      [title, text] = ["End of this list", "All its images have been shown."];
      row.append(button("‹ Last image", () => this.move(this.ids.length - 1)), button("Board", () => this.show("board")), button("Refresh list", () => this.load(this.filter)));
    } else if (this.ids) {
      const none = this.filter === "none";
      title = none ? "Every image has a verdict" : this.filter === "all" ? "No images yet" : `No image is marked ${this.data.palette[this.filter].word.toLowerCase()}`;
      text = none ? "Time to train, or to look at all images once more." : "";
      row.append(button("Show all images", () => this.load("all")));
    }
    p.stage.replaceChildren(make("div", { className: "empty" }, make("h3", { textContent: title }), make("div", { textContent: text }), row));
  }

  tile(id, at) {
    const { palette } = this.data;
    const image = persist(make("img", { src: this.url("thumb", id), alt: "", draggable: false, decoding: "async" }));
    const mark = make("span", { className: "mark" });
    const node = make("button", { type: "button", className: "tile" }, image, mark);
    node.dataset.id = id;
    node.refresh = (current) => {
      const label = queue.label(id);
      const { sign, word, colour } = palette[label ?? "none"];
      const name = this.items.get(id)?.name ?? "";
      node.classList.toggle("current", current);
      if (node.label !== label || node.named !== name) {
        [node.label, node.named] = [label, name];
        node.dataset.label = label ?? "none";
        if (label) node.style.setProperty("--verdict", colour);
        else node.style.removeProperty("--verdict");
        mark.textContent = label ? sign : "";
        node.title = name;
        node.setAttribute("aria-label", `${name}: ${word}`);
      }
    };
    node.at = at;
    return node;
  }

  paintBoard() {
    const p = this.parts;
    const start = this.pageStart();
    const ids = this.ids.slice(start, start + this.columns * this.rows);
    const key = `${this.columns}x${this.rows}/${ids.join()}`;
    const hadFocus = this.root.getRootNode().activeElement?.classList.contains("tile");
    if (this.pageKey !== key) {
      this.pageKey = key;
      forget(p.grid.querySelectorAll("img"));
      this.tiles = ids.map((id, k) => {
        const node = this.tile(id, start + k);
        const open = make("span", { className: "open", textContent: "⤢", title: "Show large" });
        node.append(open);
        node.onclick = (event) => {
          if (event.target === open) {
            this.move(node.at);
            this.show("single");
          } else if (event.altKey) this.give("unsure", node.at, { advance: false });
          else this.toggle(node.at);
        };
        node.oncontextmenu = (event) => {
          event.preventDefault();
          this.give("unsure", node.at, { advance: false });
        };
        return node;
      });
      p.grid.replaceChildren(...this.tiles);
    }
    if (p.stage.firstChild !== p.grid) p.stage.replaceChildren(p.grid);
    this.tiles.forEach((node) => {
      const current = node.at === this.current;
      node.refresh(current);
      node.tabIndex = current ? 0 : -1;
      if (current && hadFocus) node.focus({ preventScroll: true });
    });
  }

  paintSingle() {
    const p = this.parts;
    const id = this.ids[this.current];
    const item = this.items.get(id);
    const label = queue.label(id);
    const look = this.data.palette[label ?? "none"];
    if (p.stage.firstChild !== p.single) {
      forget([...p.grid.querySelectorAll("img"), ...(this.ahead ?? [])]);
      this.pageKey = this.aheadOf = null;
      p.stage.replaceChildren(p.single);
    }
    const image = this.picture(id);
    const key = `${id}/${image.ready ? "full" : "thumb"}/${item ? 1 : 0}`;
    if (this.shownPicture !== key) {
      this.shownPicture = key;
      const shown = image.ready ? image : persist(make("img", { src: this.url("thumb", id), alt: item?.name ?? "", draggable: false }));
      const [w, h] = [item?.w || 1, item?.h || 1];
      const scale = Math.min((this.stage.width - 206 - 24) / w, (this.stage.height - 24) / h);
      shown.style.width = `${Math.max(LEAST, Math.round(w * scale))}px`;
      shown.style.height = `${Math.max(LEAST, Math.round(h * scale))}px`;
      p.photo.replaceChildren(shown);
      this.root.dataset.shown = image.ready ? id : "";
    }
    for (const node of [p.photo, p.now]) {
      if (label) node.style.setProperty("--verdict", look.colour);
      else node.style.removeProperty("--verdict");
    }
    p.nowMark.textContent = label ? look.sign : "";
    p.nowWord.textContent = look.word;
    p.nowWord.style.color = label ? "" : "#5b6774";
    for (const [verdict, button] of Object.entries(p.verdicts)) button.setAttribute("aria-pressed", String(verdict === label));
    p.undo.disabled = !queue.undoStack.some((step) => step.kind === "label" && step.project === this.project);
    p.place.textContent = `${this.current + 1} of ${this.ids.length}`;
    p.name.textContent = item?.name ?? "";
    p.name.title = item?.name ?? "";
    this.paintStrip();
  }

  paintStrip() {
    const slots = Math.max(3, Math.floor((this.stage.width + 6) / 68));
    const from = this.current - Math.floor(slots / 2);
    const tiles = new Map();
    const nodes = [];
    for (let at = from; at < from + slots; at++) {
      const id = this.ids[at];
      if (id === undefined) {
        nodes.push(make("span", { className: "gap" }));
        continue;
      }
      const node = this.stripTiles.get(id) ?? this.tile(id, at);
      node.at = at;
      node.tabIndex = -1;
      node.onclick = () => this.move(node.at);
      node.refresh(at === this.current);
      tiles.set(id, node);
      nodes.push(node);
    }
    for (const [id, node] of this.stripTiles) if (!tiles.has(id)) forget(node.querySelectorAll("img"));
    this.stripTiles = tiles;
    this.parts.strip.replaceChildren(...nodes);
  }
}
