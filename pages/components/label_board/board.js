// The label board. One Board per project lives in this module and survives a remount of its element; Streamlit is
// not asked while someone labels.

const BOARDS = new Map(); // project -> Board
const DETAILS = 200; // images in one request for names and labels
const AHEAD = 8; // full-size images fetched ahead in the one-image view
const TEARDOWN_MS = 1500; // an element that comes back within this time was only remounted
const TEXT_LIKE = "textarea, select, [contenteditable=true], " +
  "input:not([type=checkbox]):not([type=radio]):not([type=range]):not([type=button]):not([type=submit])";
const HAS_OWN_KEYS = "button, a, input, summary, [role=slider], [role=radio], [role=radiogroup], [role=tab], " +
  "[role=option], [role=listbox], [role=menu], [role=combobox], [role=switch]";

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

class Board extends BoardView {
  constructor(data) {
    super();
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
    const returns = !this.listening; // from another page, where images may have come in
    if (!this.listening) {
      this.listening = true;
      // Whoever came by the navigation still has its link in focus, and the link would swallow arrows and Enter.
      if (document.activeElement?.closest?.("[data-testid=stSidebarNav]")) document.activeElement.blur();
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
    else {
      this.layout(true);
      if (returns) this.load(this.filter);
    }
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
    const word = step && this.data.palette[(step.overruled ? step.now : step.was) ?? "none"].word.toLowerCase();
    const name = step?.name || "the image";
    if (!step) this.message = "Nothing to undo";
    else if (step.overruled) this.message = `Not undone: somebody else has changed ${name} to ${word} since`;
    else this.message = `Undone: ${name} is ${word} again`;
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
}

export default function ({ data, parentElement }) {
  queue.configure(data.queue);
  let board = BOARDS.get(data.project);
  if (!board) BOARDS.set(data.project, (board = new Board(data)));
  for (const [project, other] of BOARDS) if (project !== data.project) other.detach(0);
  board.attach(parentElement.querySelector(".ssn-board"), data);
  return () => board.detach();
}
