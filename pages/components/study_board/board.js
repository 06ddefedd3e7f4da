// Judging the parts of a study, or giving second opinions, blind: one large picture, good or bad, and nothing else to go by.
//
// A part is known here by a number alone; its name, label, score and map never reach this component, and neither do
// earlier verdicts. Streamlit is not asked while someone judges.

const BOARDS = new Map(); // study and inspector -> StudyBoard; survives a remount of its element
const AHEAD = 6; // pictures fetched ahead
const BELOW = 26; // px below the board, of the page's own margin
const FLASH_MS = 160; // a pressed button shows that the key was taken, for parts that look alike
const TYPED_INTO = "textarea, select, [contenteditable=true], " +
  "input:not([type=checkbox]):not([type=radio]):not([type=range]):not([type=button]):not([type=submit])";
const KEYS = { g: "good", b: "bad" };

function node(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

class StudyBoard {
  constructor(data) {
    this.data = data;
    this.given = data.orders.map(() => 0); // verdicts in each trial, with those on their way
    this.begun = new Set([0]); // trials that were started (the first one needs no button)
    this.pictures = new Map(); // image -> Image, fetched ahead
    this.ready = false; // true once the server has said how far this inspector is
    this.message = "";
    this.outbox = new StudyOutbox(data, () => this.changed());
    this.outbox.answered = (answer) => this.answered(answer);
    this.onKey = (event) => this.key(event);
    this.onResize = () => this.layout();
  }

  // ---- life ---------------------------------------------------------------------------------------------------

  attach(root, data, tell) {
    clearTimeout(this.goodbye);
    this.data = data;
    this.tell = tell;
    this.outbox.token = data.token;
    if (this.root !== root) {
      this.root = root;
      this.build();
    }
    if (!this.listening) {
      this.listening = true;
      // Whoever came by the navigation or a button still has it in focus.
      document.activeElement?.blur?.();
      document.addEventListener("keydown", this.onKey, true);
      addEventListener("resize", this.onResize);
      this.outbox.start().then((open) => open && this.outbox.pump(true));
    }
    this.layout();
    this.changed();
  }

  detach() {
    clearTimeout(this.goodbye);
    this.goodbye = setTimeout(() => {
      document.removeEventListener("keydown", this.onKey, true);
      removeEventListener("resize", this.onResize);
      this.listening = false;
      this.ready = false; // another tab may go on meanwhile
      this.outbox.stop();
      this.root = null;
    }, 1500);
  }

  // ---- where we are -------------------------------------------------------------------------------------------

  /** {trial, place, image} of the part whose turn it is; null when all trials are done. Trials count from 0 here. */
  turn() {
    const trial = this.given.findIndex((n, t) => n < this.data.orders[t].length);
    return trial < 0 ? null : { trial, place: this.given[trial], image: this.data.orders[trial][this.given[trial]] };
  }

  /** The newest verdict's part, which may be taken back; null when there is none or everything is done. */
  newest() {
    const turn = this.turn();
    if (!turn) return null;
    const trial = turn.place ? turn.trial : turn.trial - 1;
    return trial < 0 ? null : { trial, image: this.data.orders[trial][this.given[trial] - 1] };
  }

  answered({ given, refused, closed }) {
    this.closed = closed;
    if (refused.length) this.message = `Not taken: ${refused.at(-1)[1]}.`;
    if (!this.outbox.unsaved && (!this.ready || refused.length || closed)) {
      this.given = given;
      if (!this.ready && given.some((n) => n)) this.begun.add(given.findIndex((n, t) => n && n < this.data.orders[t].length));
      this.ready = true;
      this.shownAt = null;
    }
    this.changed();
  }

  // ---- what the inspector does --------------------------------------------------------------------------------

  /** Whether a verdict can be given: the part's picture must be on the screen. */
  get open() {
    const turn = this.turn();
    return this.ready && !this.closed && turn && this.begun.has(turn.trial) && this.shown === turn.image;
  }

  give(verdict) {
    if (!this.open) return;
    const { trial, image } = this.turn();
    const seconds = Math.round(performance.now() - this.shownAt) / 1000;
    this.given[trial] += 1;
    this.message = "";
    this.outbox.add({ trial: trial + 1, image_id: image, verdict, seconds });
    this.flash(this.parts.verdicts[verdict]);
    this.changed();
  }

  undo() {
    const newest = this.ready && !this.closed && this.newest();
    if (!newest) return;
    this.given[newest.trial] -= 1;
    this.begun.delete(newest.trial + 1); // the pause between two trials comes again
    this.begun.add(newest.trial);
    this.message = "Taken back: judge this part again.";
    this.outbox.add({ trial: newest.trial + 1, image_id: newest.image, verdict: "undo", seconds: null });
    this.changed();
  }

  flash(button) {
    button.dataset.pressed = "true";
    setTimeout(() => delete button.dataset.pressed, FLASH_MS);
  }

  key(event) {
    if (!this.root?.isConnected || event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (event.composedPath()[0]?.closest?.(TYPED_INTO) || document.querySelector("[role=dialog]")) return;
    const letter = /^[a-z]$/i.test(event.key) ? event.key.toLowerCase() : /^Key[A-Z]$/.test(event.code) && event.key.length === 1 ? event.code[3].toLowerCase() : "";
    if (!KEYS[letter] && letter !== "z") return;
    event.preventDefault();
    event.stopPropagation();
    if (letter === "z") this.undo();
    else this.give(KEYS[letter]);
  }

  leave() {
    this.tell("leave", Date.now());
  }

  // ---- pictures -----------------------------------------------------------------------------------------------

  picture(image, urgent) {
    let made = this.pictures.get(image);
    if (!made) {
      made = Object.assign(new Image(), { fetchPriority: urgent ? "high" : "auto", alt: "The part to judge", draggable: false });
      made.src = `/ssn/image/${image}?t=${this.data.pictures}`;
      this.pictures.set(image, made);
      made.decode().then(
        () => ((made.ready = true), this.changed()),
        () => setTimeout(() => {
          this.pictures.delete(image); // asked for again when it is painted or near
          this.changed();
        }, 1500),
      );
    }
    return made;
  }

  lookAhead({ trial, place }) {
    const near = this.data.orders[trial].slice(Math.max(0, place - 1), place + AHEAD + 1);
    for (const [image, made] of this.pictures) {
      if (near.includes(image)) continue;
      if (!made.complete) made.removeAttribute("src"); // nobody will see it; verdicts need the connection
      this.pictures.delete(image);
    }
    for (const image of near) this.picture(image, false);
  }

  // ---- drawing ------------------------------------------------------------------------------------------------

  build() {
    const p = (this.parts = {});
    const button = (properties, action, ...children) => {
      const made = node("button", { type: "button", ...properties }, ...children);
      made.onclick = () => {
        action();
        made.blur(); // so that the space bar does not press it again
      };
      return made;
    };
    p.verdicts = {};
    for (const [letter, verdict] of Object.entries(KEYS)) {
      const { sign, word, colour } = this.data.palette[verdict];
      p.verdicts[verdict] = button({ className: `verdict give-${verdict}` }, () => this.give(verdict),
        node("span", { className: "sign", textContent: sign }), word, node("kbd", { textContent: letter.toUpperCase() }));
      p.verdicts[verdict].style.setProperty("--verdict", colour);
    }
    p.undo = button({ className: "plain undo" }, () => this.undo(), "Undo last", node("kbd", { textContent: "Z" }));
    p.where = node("div", { className: "where" });
    p.bar = node("i");
    p.track = node("div", { className: "bar" }, p.bar);
    p.save = node("div", { className: "save" });
    p.save.setAttribute("role", "status");
    p.leave = button({ className: "plain leave", textContent: "Pause", title: "Leave; you go on at this part later" }, () => this.leave());
    p.photo = node("div", { className: "photo" });
    p.message = node("div", { className: "message" });
    p.message.setAttribute("role", "status");
    p.side = node("div", { className: "side" }, p.verdicts.good, p.verdicts.bad, p.undo, p.message);
    p.judging = node("div", { className: "judging" }, p.photo, p.side);
    p.stage = node("div", { className: "stage" });
    p.next = (text, action) => button({ className: "primary", textContent: text }, action);
    this.root.replaceChildren(
      node("div", { className: "head" }, p.where, p.track, p.save, p.leave), p.stage,
    );
    this.screen = null;
  }

  layout() {
    if (!this.root?.isConnected) return;
    const { stage } = this.parts;
    const scroller = this.root.getRootNode().host?.closest("[data-testid=stMain]");
    const top = stage.getBoundingClientRect().top + (scroller?.scrollTop ?? 0);
    stage.style.height = `${Math.max(260, Math.floor(innerHeight - top - BELOW))}px`;
  }

  changed() {
    if (!this.root?.isConnected) return;
    const p = this.parts;
    const turn = this.turn();
    const trials = this.data.orders.length;
    const status = this.outbox.status();
    p.save.dataset.level = status.level;
    p.save.dataset.unsaved = String(this.outbox.unsaved);
    p.save.textContent = status.text;
    p.save.title = status.more;
    const started = this.ready && turn && this.begun.has(turn.trial);
    const total = turn ? this.data.orders[turn.trial].length : 1;
    p.where.textContent = !started ? "" : `${turn.place + 1} of ${total}${trials > 1 ? `, trial ${turn.trial + 1} of ${trials}` : ""}`;
    p.bar.style.width = started ? `${(100 * turn.place) / total}%` : "0";
    p.leave.hidden = !started;
    p.track.style.visibility = started ? "" : "hidden"; // keeps its place: nothing jumps
    p.undo.disabled = !this.newest();
    p.message.textContent = this.message;
    this.root.dataset.ready = String(this.ready);
    if (!this.ready) this.say("waiting", this.waitingWords());
    else if (this.closed) this.say("closed", [`This ${this.data.desk.what} was closed`, "No verdict is taken any more."], p.next("Go on", () => this.leave()));
    else if (!turn) this.say("done", this.data.desk.done, p.next("Go on", () => this.leave()));
    else if (!started) this.between(turn);
    else this.judge(turn);
    this.root.dataset.screen = this.screen;
  }

  waitingWords() {
    if (!this.outbox.open) return ["One moment …", `If this stays: the ${this.data.desk.what} is open in another tab of this browser. Go on there, or close that tab.`];
    if (this.outbox.failures) return ["The server does not answer", this.outbox.problem || "Trying again …"];
    return ["One moment …", ""];
  }

  between(turn) {
    const done = turn.trial;
    this.say(`between-${done}`,
      [`Trial ${done} of ${this.data.orders.length} is done`,
        "Pause before the next one, best until another day. The parts come again in another order: the less you remember of them, the more your second look is worth."],
      p => [p.next(`Start trial ${done + 1}`, () => (this.begun.add(turn.trial), (this.message = ""), this.changed())),
        node("div", { className: "row" }, this.link("Pause", () => this.leave()), this.link("Undo the last verdict", () => this.undo()))]);
  }

  link(text, action) {
    return node("button", { type: "button", className: "plain", textContent: text, onclick: action });
  }

  /** A screen of words, built once. */
  say(name, [title, text], more = []) {
    this.shown = null;
    this.root.dataset.shown = "";
    const key = `${name}/${title}/${text}`;
    if (this.words === key && this.screen === name) return;
    [this.words, this.screen] = [key, name];
    const children = typeof more === "function" ? more(this.parts) : [more].flat();
    this.parts.stage.replaceChildren(node("div", { className: "words" }, node("h3", { textContent: title }), node("p", { textContent: text }), ...children));
  }

  judge(turn) {
    const p = this.parts;
    if (this.screen !== "judging") {
      this.screen = "judging";
      p.stage.replaceChildren(p.judging);
      this.shown = null;
    }
    const picture = this.picture(turn.image, true);
    if (picture.ready && this.shown !== turn.image) {
      p.photo.replaceChildren(picture);
      this.shown = turn.image;
      this.shownAt = performance.now();
    } else if (!picture.ready) {
      this.shown = null;
      p.photo.replaceChildren(node("span", { className: "loading", textContent: "Loading …" }));
    }
    this.root.dataset.shown = this.shown === turn.image ? `${turn.trial + 1}/${turn.place + 1}` : "";
    for (const button of Object.values(p.verdicts)) button.disabled = this.shown !== turn.image;
    this.lookAhead(turn);
  }
}

export default function ({ data, parentElement, setStateValue }) {
  const name = `${data.desk.kind}.${data.installation}.${data.study}.${data.inspector}`;
  let board = BOARDS.get(name);
  if (!board) BOARDS.set(name, (board = new StudyBoard(data)));
  for (const [other, one] of BOARDS) if (other !== name) one.detach();
  board.attach(parentElement.querySelector(".ssn-study"), data, setStateValue);
  return () => board.detach();
}
