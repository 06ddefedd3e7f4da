// The label board. One Board per project lives in this module and survives a remount of its element; Streamlit is
// not asked while someone labels.

const BOARDS = new Map(); // project -> Board
const TEARDOWN_MS = 1500; // an element that comes back within this time was only remounted
const PAN_PX = 60; // px that one arrow key moves a zoomed picture
const TEXT_LIKE = "textarea, select, [contenteditable=true], " +
  "input:not([type=checkbox]):not([type=radio]):not([type=range]):not([type=button]):not([type=submit])";
const HAS_OWN_KEYS = "button, a, input, summary, [role=slider], [role=radio], [role=radiogroup], [role=tab], " +
  "[role=option], [role=listbox], [role=menu], [role=combobox], [role=switch]";
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Whether a dialog lies over the board and keys are not meant for it. One that only says that the server does not answer
 * is closed: verdicts are kept in the browser meanwhile, and the board says so itself.
 */
function behindDialog() {
  const dialogs = [...document.querySelectorAll("[role=dialog]")];
  for (const lost of dialogs.filter((dialog) => /Connection error/.test(dialog.textContent)))
    lost.querySelector("[aria-label=Close], button")?.click();
  return dialogs.some((dialog) => !/Connection error/.test(dialog.textContent));
}

class Board extends SingleView {
  constructor(data) {
    super(data);
    this.view = kept.read(localStorage, "ssn.view", "board") === "single" ? "single" : "board";
    this.edge = Math.min(EDGE.max, Math.max(EDGE.min, Number(kept.read(localStorage, "ssn.edge", EDGE.start)) || EDGE.start));
    this.columns = this.rows = 1; // of the board, once it is laid out
    this.tiles = [];
    this.message = "";
    this.keyMap = new KeyMap();
    this.keyPanel = new KeyPanel(this.keyMap, () => this.paint());
    this.held = []; // keys pressed while the element is being remounted
    this.onKey = (event) => this.key(event);
    this.onKeyUp = (event) => this.mapWanted && (event.type === "blur" || this.keyMap.action(event) === "map") && this.showMap(false);
    this.onHide = () => this.leases.release();
    this.watch = () => this.visible();
  }

  // ---- life ---------------------------------------------------------------------------------------------------

  attach(root, data) {
    clearTimeout(this.goodbye);
    this.data = data;
    this.modelMap.take(data.model);
    if (this.root === root) return this.paint();
    this.root = root;
    this.build();
    const returns = !this.listening; // from another page, where images may have come in
    if (!this.listening) {
      this.listening = true;
      // Whoever came by the navigation still has its link in focus, and the link would swallow arrows and Enter.
      if (document.activeElement?.closest?.("[data-testid=stSidebarNav]")) document.activeElement.blur();
      document.addEventListener("keydown", this.onKey, true);
      document.addEventListener("keyup", this.onKeyUp, true);
      addEventListener("blur", this.onKeyUp);
      addEventListener("pagehide", this.onHide);
      queue.watchers.add(this.watch);
      this.unsubscribe = queue.subscribe(() => this.paint());
      this.limits.load();
    }
    this.observer?.disconnect();
    this.observer = new ResizeObserver(() => this.layout());
    this.observer.observe(root);
    this.onResize ??= () => this.layout();
    addEventListener("resize", this.onResize);
    if (this.ids === null) this.load(this.startFilter(), this.startOrder());
    else {
      this.layout(true);
      if (returns) this.load(this.filter);
    }
    this.lensChanged();
    for (const event of this.held.splice(0)) if (performance.now() - event.at < REMOUNT_MS) this.key(event);
  }

  /** Let go of the element, after a moment in which it may come back; at once when another board takes it over. */
  detach(wait = TEARDOWN_MS) {
    clearTimeout(this.goodbye);
    const letGo = () => {
      document.removeEventListener("keydown", this.onKey, true);
      document.removeEventListener("keyup", this.onKeyUp, true);
      removeEventListener("blur", this.onKeyUp);
      removeEventListener("pagehide", this.onHide);
      removeEventListener("resize", this.onResize);
      this.observer?.disconnect();
      queue.watchers.delete(this.watch);
      this.unsubscribe?.();
      this.leases.release();
      this.listening = false;
      this.root = null;
      this.held = [];
    };
    if (wait) this.goodbye = setTimeout(letGo, wait);
    else letGo();
  }

  // ---- verdicts -----------------------------------------------------------------------------------------------

  /** A verdict for the selection or, without one, for the image (the stack) at a place of the list. */
  give(verdict, at, { advance }) {
    if (this.ids?.[at] === undefined && !this.selection.size) return;
    const asked = this.selection.size ? this.ids.filter((id) => this.selection.has(id)) : [this.ids[at]];
    const free = asked.filter((id) => this.holder(id) === undefined);
    const last = this.selection.size ? this.ids.indexOf(asked.at(-1)) : at;
    if (!free.length) {
      this.message = `${this.holder(asked[0])} has this image now; the next free one is yours`;
      return this.move(advance ? this.nextFree(last + 1) : last, { keepMessage: true, past: true });
    }
    const images = free.flatMap((id) => this.members(id));
    if (this.stillUnread(images)) return this.move(last, { keepMessage: true });
    const single = this.view === "single";
    const seconds = single && images.length === 1 ? Math.round(performance.now() - this.shownAt) / 1000 : null;
    const origin = single ? "single" : "board";
    const replaced = images.filter((id) => queue.label(id) && queue.label(id) !== verdict).length;
    const done = queue.recordAll(this.project, images.map((image) => ({ image, verdict, seconds, origin, name: this.items.get(image)?.name })));
    if (!done) {
      this.message = "Please type your name in the sidebar first: each verdict is kept under a name.";
      return this.move(at, { keepMessage: true, past: true });
    }
    for (const image of images) this.given.add(image);
    const word = this.data.palette[verdict].word;
    const left = asked.length - free.length ? ` ${asked.length - free.length} left to others who have them now.` : "";
    const before = replaced ? `, ${replaced} of which had another verdict` : "";
    this.message = images.length > 1 || left ? `${word} for ${images.length} images${before}. ${this.keyMap.shown("undo")} takes it back.${left}` : "";
    if (this.selection.size) this.selection.clear();
    return this.move(advance ? this.nextFree(last + 1) : last, { keepMessage: true, past: true, chosen: !advance });
  }

  /**
   * Whether some of several images have labels that were not read yet (a range may go over thousands that were never on
   * the screen): an undo could not bring those back. Reads them and says so.
   */
  stillUnread(images) {
    const unread = images.length > 1 && this.filter !== "none" ? images.filter((id) => !this.items.has(id)) : [];
    if (!unread.length) return false;
    this.message = `Reading the labels of ${unread.length} of these ${images.length} images first …`;
    this.refresh(unread).then(
      () => (this.message = `The labels of all ${images.length} images are read: press the key again`),
      () => (this.message = "The labels of some of these images could not be read: press the key again"),
    ).then(() => this.paint());
    return true;
  }

  toggle(at) {
    this.give(this.look(this.ids[at]).label === "bad" ? "good" : "bad", at, { advance: false });
  }

  undo() {
    if (!this.ids) return;
    const step = queue.undo(this.project, this.view === "single" ? "single" : "board");
    const word = step && this.data.palette[(step.overruled ? step.now : step.was) ?? "none"].word.toLowerCase();
    const name = step?.name || "the image";
    if (!step) this.message = "Nothing to undo";
    else if (step.overruled) this.message = `Not undone: somebody else has changed ${name} to ${word} since`;
    else if (step.n + step.left === 1) this.message = `Undone: ${name} is ${word} again`;
    else this.message = `Undone for ${step.n} images${step.left ? `; ${step.left} were changed by somebody else since` : ""}`;
    const at = step ? this.ids.findIndex((id) => id === step.image || this.stackAt(id)?.includes(step.image)) : -1;
    this.move(at >= 0 ? at : this.current, { keepMessage: true, past: true });
  }

  // ---- going about, selecting ---------------------------------------------------------------------------------

  move(to, { keepMessage = false, past = false, chosen = true } = {}) {
    if (!this.ids) return;
    this.current = Math.max(0, Math.min(to, this.ids.length - (past ? 0 : 1)));
    this.chosen = chosen && this.holder(this.ids[this.current]) !== undefined;
    if (!keepMessage) this.message = "";
    this.shownAt = performance.now();
    if (this.ids[this.current] !== undefined)
      kept.write(sessionStorage, this.storageKey(`place.${this.filter}.${this.order}`), this.ids[this.current]);
    this.paint();
    this.lookAhead();
  }

  step(by) {
    const to = this.current + by;
    if (to >= 0 && to < this.ids.length) this.move(to);
  }

  show(view) {
    this.view = view;
    this.mapWanted = false;
    kept.write(localStorage, "ssn.view", view);
    if (this.ids && this.current >= this.ids.length) this.current = Math.max(0, this.ids.length - 1);
    this.shownAt = performance.now();
    this.layout(true);
  }

  /** A click on a tile; `opens`: it asks to see the image rather than to judge it. */
  click(at, event, opens) {
    const id = this.ids[at];
    if (event.shiftKey) this.selection.range(this.ids, this.current, at);
    else if (event.ctrlKey || event.metaKey) this.selection.toggle(id);
    else if (opens) {
      this.move(at);
      return this.view === "board" && this.show("single");
    } else if (this.selection.size) this.selection.clear();
    else if (event.altKey) return this.give("unsure", at, { advance: false });
    else return this.toggle(at);
    return this.move(at);
  }

  /** Tiles under the frame that is being drawn; `keep`: with those selected before. */
  frame(ids, keep) {
    const before = keep ? [...this.selection.ids] : [];
    this.selection.set([...new Set([...before, ...ids])]);
    this.message = "";
    this.paint();
  }

  selectTo(to) {
    const place = Math.max(0, Math.min(to, this.ids.length - 1));
    this.selection.range(this.ids, Math.min(this.current, this.ids.length - 1), place);
    this.move(place);
  }

  selectPage() {
    const start = this.pageStart();
    this.selection.set(this.ids.slice(start, start + this.columns * this.rows));
    this.paint();
  }

  dropSelection() {
    this.selection.clear();
    this.paint();
  }

  // ---- keys ---------------------------------------------------------------------------------------------------

  key(event) {
    if (!this.root) return;
    const target = event.composedPath?.()[0];
    const all = (event.ctrlKey || event.metaKey) && letterOf(event) === "a" && this.view === "board";
    if (((event.ctrlKey || event.metaKey) && !all) || event.altKey || event.repeat || event.isComposing) return;
    if (target?.closest?.(TEXT_LIKE) || behindDialog()) return;
    if (!this.root.isConnected) {
      this.held.push({ key: event.key, code: event.code, shiftKey: event.shiftKey, at: performance.now(), preventDefault() {}, stopPropagation() {} });
      return;
    }
    const action = this.keyPanel.waiting !== null ? () => this.keyPanel.take(event) : all ? this.ids?.length && (() => this.selectPage()) : this.action(event, target);
    if (!action) return;
    event.preventDefault();
    event.stopPropagation();
    action();
  }

  action(event, target) {
    const name = this.keyMap.action(event);
    if (VERDICT_KEYS.includes(name)) return () => this.give(name, this.current, { advance: true });
    if (name) return this.named(name);
    if (event.key === "?") return () => this.toggleHelp();
    if (event.key === "Escape" && !this.parts.help.hidden) return () => this.toggleHelp(false);
    const control = target?.closest?.(HAS_OWN_KEYS);
    if (control && !control.classList.contains("tile")) return null; // that control's own keys
    if (!this.ids) return null;
    const page = this.columns * this.rows;
    const board = this.view === "board";
    if (event.key in ARROWS) return this.arrow(ARROWS[event.key], event.shiftKey, board);
    switch (event.key) {
      case "PageUp": return () => this.move(this.current - (board ? page : 10));
      case "PageDown": return () => this.move(this.current + (board ? page : 10));
      case "Home": return () => this.move(0);
      case "End": return () => this.move(this.ids.length - 1);
      case "Enter":
      case " ": return () => this.show(board ? "single" : "board");
      case "+":
      case "=": return board ? null : () => this.lens.zoom(ZOOM.step);
      case "-": return board ? null : () => this.lens.zoom(1 / ZOOM.step);
      case "Escape":
        if (this.selection.size) return () => this.dropSelection();
        return board ? null : () => this.show("board");
      default: return null;
    }
  }

  named(name) {
    const single = this.view === "single";
    switch (name) {
      case "undo": return () => this.undo();
      case "select": return () => this.ids?.[this.current] !== undefined && (this.selection.toggle(this.ids[this.current]), this.paint());
      case "stack": return () => this.turnStack();
      case "map": return single ? () => this.showMap(true) : null;
      case "pin": return single ? () => this.pin() : null;
      case "invert": return single ? () => this.invert() : null;
      case "fit": return single ? () => this.fit() : null;
      default: return null;
    }
  }

  arrow([x, y], shift, board) {
    if (!board && shift && this.lens.scale > 1) return () => this.lens.pan(-PAN_PX * x, -PAN_PX * y);
    if (shift && (board || x)) return () => this.selectTo(this.current + x + y * this.columns);
    if (x) return () => this.move(this.current + x);
    return board ? () => this.step(y * this.columns) : null;
  }

  toggleHelp(on = this.parts.help.hidden) {
    this.parts.help.hidden = !on;
    this.keyPanel.waiting = null;
    this.keyPanel.draw();
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
