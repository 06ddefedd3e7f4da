// Which key does what on the label board. Letters and digits can be changed; the browser keeps the choice.

const ACTIONS = {
  good: ["g", "Good, then the next image"],
  bad: ["b", "Bad, then the next image"],
  unsure: ["u", "Unsure, then the next image"],
  undo: ["z", "Undo, step by step"],
  select: ["x", "Select this image, or no longer"],
  stack: ["e", "Open or close a stack of similar images"],
  map: ["m", "Hold: where the model looks"],
  pin: ["p", "Pin this image as a limit sample, or no longer"],
  invert: ["i", "Light and dark exchanged"],
  fit: ["f", "Whole image again, as it was taken"],
};
const VERDICT_KEYS = ["good", "bad", "unsure"]; // the actions that are verdicts
const FIXED_KEYS = [
  [["←", "→", "↑", "↓"], "Move"],
  [["Shift", "←↑↓→"], "Select a range (zoomed in: move the picture)"],
  [["Ctrl", "A"], "Select what is on the screen"],
  [["Esc"], "Drop the selection; back to the board"],
  [["Page ↑", "Page ↓"], "Other page of the board"],
  [["+", "−"], "Zoom, as the wheel does"],
  [["Enter"], "Board or one image"],
  [["?"], "Show or hide these keys"],
];
const FIXED_CLICKS = [
  [["Click"], "Bad, click again: good"],
  [["Right click"], "Unsure"],
  [["Shift", "click"], "Select a range"],
  [["Ctrl", "click"], "Select one more"],
  [["Drag"], "Select what the frame touches"],
];
const TAKEN_BY_THE_APP = { c: "clears caches", r: "runs the page again" }; // Streamlit's own

/** The letter or digit of a key press, whatever the layout of the keyboard; "" for other keys. */
function letterOf(event) {
  if (/^[a-z0-9]$/i.test(event.key)) return event.key.toLowerCase();
  return /^Key[A-Z]$/.test(event.code) && event.key.length === 1 ? event.code[3].toLowerCase() : "";
}

class KeyMap {
  constructor() {
    const saved = readJson(localStorage, "ssn.keys", {});
    this.keys = Object.fromEntries(Object.entries(ACTIONS).map(([name, [key]]) => [name, key]));
    for (const [name, key] of Object.entries(saved))
      if (name in ACTIONS && /^[a-z0-9]$/.test(key) && !(key in TAKEN_BY_THE_APP)) this.keys[name] = key;
    if (new Set(Object.values(this.keys)).size < Object.keys(this.keys).length) this.reset(); // two actions on one key
  }

  /** The action of a key press, or undefined. */
  action(event) {
    const letter = letterOf(event);
    return letter && Object.keys(this.keys).find((name) => this.keys[name] === letter);
  }

  shown(name) {
    return this.keys[name].toUpperCase();
  }

  /** Give an action another key; the action that had it takes the old one. Returns what to tell people. */
  change(name, event) {
    const letter = letterOf(event);
    if (!letter) return "Please choose a letter or a digit";
    if (letter in TAKEN_BY_THE_APP) return `${letter.toUpperCase()} is taken: it ${TAKEN_BY_THE_APP[letter]}`;
    const other = Object.keys(this.keys).find((action) => this.keys[action] === letter && action !== name);
    if (other) this.keys[other] = this.keys[name];
    this.keys[name] = letter;
    this.keep();
    return other ? `Exchanged with “${ACTIONS[other][1]}”` : "";
  }

  reset() {
    for (const name in ACTIONS) this.keys[name] = ACTIONS[name][0];
    this.keep();
  }

  keep() {
    kept.write(localStorage, "ssn.keys", this.keys);
  }
}

/** The panel behind "?": every key, and a button on each that can be changed. */
class KeyPanel {
  constructor(keyMap, changed) {
    this.keyMap = keyMap;
    this.changed = changed;
    this.waiting = null; // the action whose new key is awaited
    this.node = make("div", { className: "help", hidden: true });
    this.node.setAttribute("role", "group");
    this.node.setAttribute("aria-label", "Keys");
    this.draw();
  }

  draw(note = "Click on a key to choose another one. This browser keeps it.") {
    const fixed = (rows) => rows.flatMap(([keys, what]) => [make("dt", {}, ...keys.map((key) => make("kbd", { textContent: key }))), make("dd", { textContent: what })]);
    const own = Object.entries(ACTIONS).flatMap(([name, [, what]]) => {
      const waits = this.waiting === name;
      const button = make("button", { type: "button", className: `key key-${name}`, textContent: waits ? "press a key …" : this.keyMap.shown(name) });
      button.setAttribute("aria-label", `${what}: key ${this.keyMap.shown(name)}, change`);
      button.onclick = () => {
        this.waiting = waits ? null : name;
        this.draw();
      };
      return [make("dt", {}, button), make("dd", { textContent: what })];
    });
    const standard = make("button", { type: "button", className: "plain", textContent: "Standard keys" });
    standard.onclick = () => {
      this.keyMap.reset();
      this.waiting = null;
      this.draw("The standard keys are back.");
      this.changed();
    };
    this.node.replaceChildren(
      make("div", { className: "columns" }, make("dl", { className: "own" }, ...own), make("dl", {}, ...fixed(FIXED_KEYS), ...fixed(FIXED_CLICKS))),
      make("div", { className: "row" }, make("span", { textContent: note, className: "note" }), standard),
    );
  }

  /** Take a key press that was awaited; false when none was. */
  take(event) {
    if (this.waiting === null) return false;
    if (["Shift", "Control", "Alt", "Meta"].includes(event.key)) return true;
    const note = event.key === "Escape" ? "Nothing changed." : this.keyMap.change(this.waiting, event);
    this.waiting = null;
    this.draw(note || "Changed. This browser keeps it.");
    this.changed();
    return true;
  }
}
