// The label board. One Board per project lives in this module and survives a remount of its element; Streamlit is
// not asked while someone labels.

const BOARDS = new Map(); // project -> Board
const GAP = 8; // px between tiles
const EDGE_ROOM = 5; // px around the board, for the frame of the current tile
const DETAILS = 200; // images in one request for names and labels
const AHEAD = 8; // full-size images fetched ahead in the one-image view
const TEARDOWN_MS = 1500; // an element that comes back within this time was only remounted
const REMOUNT_MS = 400; // keys pressed meanwhile still count
const FILTERS = ["all", "none", "good", "bad", "unsure"];
const EDGE = { min: 90, max: 420, start: 170 }; // px: the side of a square tile of the same area
const VERDICT_KEYS = { g: "good", b: "bad", u: "unsure" };
const TEXT_LIKE = "textarea, select, [contenteditable=true], " +
  "input:not([type=checkbox]):not([type=radio]):not([type=range]):not([type=button]):not([type=submit])";
const HAS_OWN_KEYS = "button, a, input, summary, [role=slider], [role=radio], [role=radiogroup], [role=tab], " +
  "[role=option], [role=listbox], [role=menu], [role=combobox], [role=switch]";
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

const kept = {
  read: (storage, key, fallback) => readJson(storage, key, fallback),
  write(storage, key, value) {
    try {
      storage.setItem(key, JSON.stringify(value));
    } catch {
      return; // comfort only: the place, the size and the view are chosen anew next time
    }
  },
};

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

class Board {
  constructor(data) {
    this.project = data.project;
    this.items = new Map(); // image -> {id, name, w, h, label}
    this.asked = new Set(); // images whose details are on their way
    this.pictures = new Map(); // image -> full-size Image, fetched ahead
    this.view = kept.read(localStorage, "ssn.view", "board") === "single" ? "single" : "board";
    this.edge = Math.min(EDGE.max, Math.max(EDGE.min, Number(kept.read(localStorage, "ssn.edge", EDGE.start)) || EDGE.start));
    this.filter = null;
    this.ids = null; // null: not loaded yet
    this.columns = this.rows = 1; // of the board, once it is laid out
    this.current = 0; // place in ids; ids.length means past the end, where no key can give a verdict
    this.message = "";
    this.held = []; // keys pressed while the element is being remounted
    this.onKey = (event) => this.key(event);
    this.watch = () => this.visible();
  }

  // ---- life ---------------------------------------------------------------------------------------------------

  attach(root, data) {
    clearTimeout(this.goodbye);
    this.data = data;
    if (this.root === root) return this.paint();
    this.root = root;
    this.build();
    if (!this.listening) {
      this.listening = true;
      document.addEventListener("keydown", this.onKey, true);
      queue.watchers.add(this.watch);
      this.unsubscribe = queue.subscribe(() => this.paint());
    }
    this.observer?.disconnect();
    this.observer = new ResizeObserver(() => this.layout());
    this.observer.observe(root);
    this.onResize ??= () => this.layout();
    addEventListener("resize", this.onResize);
    if (this.ids === null) this.load(this.startFilter());
    else this.layout(true);
    for (const event of this.held.splice(0)) if (performance.now() - event.at < REMOUNT_MS) this.key(event);
  }

  /** Let go of the element, after a moment in which it may come back; at once when another board takes it over. */
  detach(wait = TEARDOWN_MS) {
    clearTimeout(this.goodbye);
    const letGo = () => {
      document.removeEventListener("keydown", this.onKey, true);
      removeEventListener("resize", this.onResize);
      this.observer?.disconnect();
      queue.watchers.delete(this.watch);
      this.unsubscribe?.();
      this.listening = false;
      this.root = null;
      this.held = [];
    };
    if (wait) this.goodbye = setTimeout(letGo, wait);
    else letGo();
  }

  // ---- the list -----------------------------------------------------------------------------------------------

  storageKey(name) {
    return `ssn.${name}.${queue.installation}.${this.project}`;
  }

  startFilter() {
    const filter = kept.read(sessionStorage, this.storageKey("filter"), null);
    if (FILTERS.includes(filter)) return filter;
    return queue.liveCounts(this.project)?.unlabelled ? "none" : "all";
  }

  async get(path, query) {
    const response = await fetch(`${path}?${new URLSearchParams({ t: this.data.token, ...query })}`);
    if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? `status ${response.status}`);
    return response.json();
  }

  async load(filter) {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    this.filter = filter;
    kept.write(sessionStorage, this.storageKey("filter"), filter);
    this.paint();
    try {
      const { ids } = await this.get("/ssn/list", { filter });
      if (turn !== this.turn) return;
      const place = kept.read(sessionStorage, this.storageKey(`place.${filter}`), 0);
      const at = ids.findIndex((id) => id >= place); // lists are in the order in which images came in
      this.ids = ids;
      this.current = at < 0 ? 0 : at;
      this.failed = "";
      await this.details(Math.max(0, this.current - 60), this.current + DETAILS - 60);
      if (turn !== this.turn) return;
    } catch (error) {
      if (turn !== this.turn) return;
      this.failed = error.message;
      this.retry = setTimeout(() => this.load(filter), 3000);
    }
    this.message = "";
    this.shownAt = performance.now();
    this.layout(true);
  }

  /** Fetch names, sizes and labels of ids[from..to) that are not here yet. */
  async details(from, to) {
    const missing = this.ids.slice(Math.max(0, from), to).filter((id) => !this.items.has(id) && !this.asked.has(id));
    for (let start = 0; start < missing.length; start += DETAILS) {
      const some = missing.slice(start, start + DETAILS);
      for (const id of some) this.asked.add(id);
      try {
        const { items, now } = await this.get("/ssn/details", { ids: some.join(",") });
        for (const item of items) this.items.set(item.id, item);
        queue.learn(items.map((item) => [item.id, item.label]), now);
      } finally {
        for (const id of some) this.asked.delete(id);
      }
    }
    if (missing.length) this.paint();
  }

  lookAhead() {
    const page = this.columns * this.rows || DETAILS;
    const [from, to] = [this.current - page, this.current + 2 * page + 60];
    this.details(from, to).catch(() => setTimeout(() => this.root && this.lookAhead(), 2000));
    if (this.view === "board") {
      const next = this.pageStart() + page;
      if (this.aheadOf === next) return;
      this.aheadOf = next;
      forget(this.ahead ?? []);
      this.ahead = this.ids.slice(next, next + page).map((id) => Object.assign(new Image(), { src: this.url("thumb", id) }));
      return;
    }
    const near = new Set(this.ids.slice(Math.max(0, this.current - 2), this.current + AHEAD + 1));
    for (const [id, image] of this.pictures) {
      if (near.has(id)) continue;
      forget([image]);
      this.pictures.delete(id);
    }
    for (const id of this.ids.slice(this.current, this.current + AHEAD + 1)) this.picture(id);
  }

  picture(id) {
    let image = this.pictures.get(id);
    if (!image) {
      image = Object.assign(new Image(), { fetchPriority: this.ids[this.current] === id ? "high" : "auto", src: this.url("image", id), alt: this.items.get(id)?.name ?? "", draggable: false });
      this.pictures.set(id, image);
      image.decode().then(
        () => ((image.ready = true), this.ids?.[this.current] === id && this.paint()),
        () => setTimeout(() => {
          if (this.pictures.get(id) !== image) return;
          this.pictures.delete(id); // asked for again when it is painted or near
          if (this.ids?.[this.current] === id) this.paint();
        }, 1500),
      );
    }
    return image;
  }

  url(kind, id) {
    return `/ssn/${kind}/${id}?t=${this.data.token}`;
  }

  visible() {
    if (!this.ids) return [];
    if (this.view === "single") return this.ids.slice(Math.max(0, this.current - 12), this.current + 13);
    return this.ids.slice(this.pageStart(), this.pageStart() + this.columns * this.rows);
  }

  pageStart() {
    const page = Math.max(1, this.columns * this.rows);
    return Math.floor(Math.min(this.current, Math.max(0, this.ids.length - 1)) / page) * page;
  }

  // ---- what the inspector does --------------------------------------------------------------------------------

  give(verdict, at, { advance }) {
    const id = this.ids?.[at];
    if (id === undefined) return;
    const seconds = this.view === "single" ? Math.round(performance.now() - this.shownAt) / 1000 : null;
    const done = queue.record(this.project, {
      image: id, verdict, seconds, origin: this.view === "single" ? "single" : "board", name: this.items.get(id)?.name,
    });
    this.message = done ? "" : "Please type your name in the sidebar first: each verdict is kept under a name.";
    this.move(done && advance ? at + 1 : at, { keepMessage: true, past: true });
  }

  toggle(at) {
    this.give(queue.label(this.ids[at]) === "bad" ? "good" : "bad", at, { advance: false });
  }

  undo() {
    if (!this.ids) return;
    const step = queue.undo(this.project, this.view === "single" ? "single" : "board");
    const word = step && this.data.palette[step.was ?? "none"].word.toLowerCase();
    this.message = step ? `Undone: ${step.name || "the image"} is ${word} again` : "Nothing to undo";
    const at = step ? this.ids.indexOf(step.image) : -1;
    this.move(at >= 0 ? at : this.current, { keepMessage: true, past: true });
  }

  move(to, { keepMessage = false, past = false } = {}) {
    if (!this.ids) return;
    this.current = Math.max(0, Math.min(to, this.ids.length - (past ? 0 : 1)));
    if (!keepMessage) this.message = "";
    this.shownAt = performance.now();
    if (this.ids[this.current] !== undefined)
      kept.write(sessionStorage, this.storageKey(`place.${this.filter}`), this.ids[this.current]);
    this.paint();
    this.lookAhead();
  }

  show(view) {
    this.view = view;
    kept.write(localStorage, "ssn.view", view);
    if (this.ids && this.current >= this.ids.length) this.current = Math.max(0, this.ids.length - 1);
    this.shownAt = performance.now();
    this.layout(true);
  }

  key(event) {
    if (!this.root) return;
    const target = event.composedPath?.()[0];
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (target?.closest?.(TEXT_LIKE) || document.querySelector("[role=dialog]")) return;
    if (!this.root.isConnected) {
      this.held.push({ key: event.key, code: event.code, at: performance.now(), preventDefault() {}, stopPropagation() {} });
      return;
    }
    const action = this.action(event, target);
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  action(event, target) {
    const letter = /^[a-z]$/i.test(event.key) ? event.key.toLowerCase() : /^Key[A-Z]$/.test(event.code) && event.key.length === 1 ? event.code[3].toLowerCase() : "";
    if (VERDICT_KEYS[letter]) return () => this.give(VERDICT_KEYS[letter], this.current, { advance: true });
    if (letter === "z") return () => this.undo();
    if (event.key === "?") return () => this.toggleHelp();
    if (event.key === "Escape" && !this.parts.help.hidden) return () => this.toggleHelp(false);
    const control = target?.closest?.(HAS_OWN_KEYS);
    if (control && !control.classList.contains("tile")) return null; // that control's own keys
    if (!this.ids) return null;
    const page = this.columns * this.rows;
    const board = this.view === "board";
    switch (event.key) {
      case "ArrowLeft": return () => this.move(this.current - 1);
      case "ArrowRight": return () => this.move(this.current + 1);
      case "ArrowUp": return board ? () => this.step(-this.columns) : null;
      case "ArrowDown": return board ? () => this.step(this.columns) : null;
      case "PageUp": return () => this.move(this.current - (board ? page : 10));
      case "PageDown": return () => this.move(this.current + (board ? page : 10));
      case "Home": return () => this.move(0);
      case "End": return () => this.move(this.ids.length - 1);
      case "Enter":
      case " ": return () => this.show(board ? "single" : "board");
      case "Escape": return board ? null : () => this.show("board");
      default: return null;
    }
  }

  step(by) {
    const to = this.current + by;
    if (to >= 0 && to < this.ids.length) this.move(to);
  }

  toggleHelp(on = this.parts.help.hidden) {
    this.parts.help.hidden = !on;
    this.parts.keys.setAttribute("aria-expanded", String(on));
  }

  // ---- drawing ------------------------------------------------------------------------------------------------

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
    const height = Math.max(260, Math.floor(innerHeight - top - around - 20));
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
      shown.style.width = `${Math.round(w * scale)}px`;
      shown.style.height = `${Math.round(h * scale)}px`;
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
    p.undo.disabled = !queue.undoStack.some((step) => step.project === this.project);
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

export default function ({ data, parentElement }) {
  queue.configure(data.queue);
  let board = BOARDS.get(data.project);
  if (!board) BOARDS.set(data.project, (board = new Board(data)));
  for (const [project, other] of BOARDS) if (project !== data.project) other.detach(0);
  board.attach(parentElement.querySelector(".ssn-board"), data);
  return () => board.detach();
}
