// Review's bar: verdicts (through the label queue), previous and next, thumbnails. State lives by uid in this module,
// because Streamlit may remount the element at any time.

const STATES = new Map();
const KEYS = { g: "good", b: "bad", u: "unsure" };

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.textContent = text;
  return made;
}

const scoreOf = (item) => (item.score === null ? "hidden" : item.score.toFixed(2).replace("-", "−"));

function isTyping(event) {
  const at = event.composedPath()[0];
  return !!at?.closest?.(
    "textarea, select, [contenteditable=true], [role=combobox], [role=slider], " +
      "input:not([type=checkbox]):not([type=radio]):not([type=button])",
  );
}

export default function (component) {
  const { data, parentElement, setStateValue, setTriggerValue } = component;
  let s = STATES.get(data.uid);
  if (!s) STATES.set(data.uid, (s = { shownAt: performance.now(), held: [] }));
  clearTimeout(s.bye);
  s.data = data;
  // State, not a trigger: triggers that come while the page runs can get lost, and the large picture would stay behind.
  s.pick = (id) => setStateValue("pick", { id, turn: (s.turn = (s.turn ?? Date.now()) + 1) });
  s.saved = () => setTriggerValue("saved", Date.now());
  queue.learn(data.items.map(({ id, label }) => [id, label]), data.now);
  // While the page is on its way to an image chosen here, what it says of an earlier one must not pull back.
  if (s.awaited === data.current) s.awaited = null;
  if (s.awaited == null && s.current !== data.current) {
    s.current = data.current;
    s.shownAt = performance.now();
  }

  const at = () => s.data.items.findIndex((item) => item.id === s.current);

  const go = (index) => {
    const item = s.data.items[index];
    if (!item || item.id === s.current) return;
    s.current = s.awaited = item.id; // painted at once; the page follows with the large picture
    s.shownAt = performance.now();
    s.paint();
    document.dispatchEvent(new CustomEvent("ssn:turn", { detail: { image: item.id } })); // the viewer turns at once
    s.pick(item.id);
  };

  const judge = (verdict) => {
    const item = s.data.items[at()];
    if (!item) return;
    const seconds = (performance.now() - s.shownAt) / 1000;
    const kept = queue.record(s.data.project, { image: item.id, verdict, origin: "review", seconds, name: item.name });
    s.note = kept ? "" : "Type your name in the sidebar first: each verdict carries it.";
    s.dirty = kept || s.dirty;
    if (kept && s.data.advance) go(at() + 1);
    s.paint();
  };

  const undo = () => {
    const step = queue.undo(s.data.project, "review", ({ kind, model }) => kind === "label" || model === s.data.model);
    if (!step) s.note = "Nothing to undo.";
    else s.note = step.overruled ? `Not undone: somebody else has changed this ${step.kind === "map" ? "verdict" : "label"} since.` : "";
    s.dirty = (!!step && !step.overruled) || s.dirty;
    if (step) go(s.data.items.findIndex((item) => item.id === step.image));
    s.paint();
  };

  s.key = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTyping(event)) return;
    const key = event.key.toLowerCase();
    if (!s.root.isConnected) s.held.push({ key, at: performance.now() }); // on its way back, or another page is open
    else if (s.act(key)) event.preventDefault();
  };

  s.act = (key) => {
    if (KEYS[key]) judge(KEYS[key]);
    else if (key === "z") undo();
    else if (key === "arrowleft") go(at() - 1);
    else if (key === "arrowright") go(at() + 1);
    else return false;
    return true;
  };

  const root = parentElement.querySelector(".ssn-strip");
  if (s.root !== root) {
    s.root = root;
    s.signature = null;
  }

  const build = () => {
    const row = element("div", "row");
    const act = (text, hint, onclick) => {
      const button = element("button", "act", text);
      button.append(element("kbd", "", hint));
      button.onclick = onclick;
      row.append(button);
      return button;
    };
    s.previous = act("Previous", "←", () => go(at() - 1));
    s.where = element("span", "where");
    row.append(s.where);
    s.next = act("Next", "→", () => go(at() + 1));
    row.append(element("span", "space"));
    s.note_ = element("span", "note");
    s.note_.setAttribute("role", "status");
    row.append(s.note_);
    s.verdicts = Object.entries(KEYS).map(([key, verdict]) => {
      const { sign, word, colour } = s.data.palette[verdict];
      const button = act(`${sign} ${word}`, key.toUpperCase(), () => judge(verdict));
      button.style.setProperty("--verdict", colour);
      return [verdict, button];
    });
    act("Undo", "Z", undo);
    const strip = element("div", "thumbs");
    s.thumbs = s.data.items.map((item, index) => {
      const button = element("button", "thumb");
      const picture = new Image();
      picture.loading = "lazy";
      picture.alt = "";
      picture.src = `/ssn/thumb/${item.id}?t=${encodeURIComponent(s.data.token)}`;
      const line = element("span", "");
      const sign = element("b", "");
      line.append(sign, element("i", "score", scoreOf(item)));
      button.append(picture, line);
      button.title = item.name;
      button.onclick = () => go(index);
      strip.append(button);
      return { button, sign, item };
    });
    root.replaceChildren(row, strip);
  };

  s.paint = () => {
    const index = at();
    if (index >= 0 && s.data.items[index].score !== null) queue.sawMap(s.current); // it is in the viewer beside this
    s.where.textContent = index < 0 ? "–" : `${index + 1} of ${s.data.items.length}`;
    s.previous.disabled = index <= 0;
    s.next.disabled = index < 0 || index >= s.data.items.length - 1;
    s.note_.textContent = s.note ?? "";
    for (const [verdict, button] of s.verdicts) button.setAttribute("aria-pressed", queue.label(s.current) === verdict);
    for (const { button, sign, item } of s.thumbs) {
      const look = s.data.palette[queue.label(item.id) ?? "none"];
      button.style.setProperty("--verdict", look.colour);
      sign.textContent = look.sign;
      const here = item.id === s.current;
      if (here && button.getAttribute("aria-current") !== "true") {
        const strip = button.parentElement;
        const left = button.offsetLeft - strip.offsetLeft;
        strip.scrollTo({ left: left - (strip.clientWidth - button.clientWidth) / 2 });
      }
      button.setAttribute("aria-current", here);
      button.tabIndex = here ? 0 : -1; // one stop for Tab, not two hundred; the arrow keys move
      button.setAttribute("aria-label", `${item.name}: ${look.word}, score ${scoreOf(item)}`);
    }
  };

  const signature = data.items.map((item) => `${item.id}${item.score === null ? "?" : ""}`).join() + data.token;
  if (s.signature !== signature) {
    s.signature = signature;
    build();
  }
  if (!s.listening) {
    s.listening = true;
    const onKey = (event) => s.key(event);
    const watch = () => s.data.items.slice(Math.max(0, at() - 20), at() + 40).map((item) => item.id);
    document.addEventListener("keydown", onKey);
    queue.watchers.add(watch);
    const unsubscribe = queue.subscribe(() => {
      s.paint();
      if (s.dirty && !queue.unsaved) {
        s.dirty = false;
        s.saved(); // the page shows who gave the label
      }
    });
    s.stop = () => {
      document.removeEventListener("keydown", onKey);
      queue.watchers.delete(watch);
      unsubscribe();
      STATES.delete(data.uid);
    };
  }
  s.paint();
  for (const held of s.held.splice(0)) if (performance.now() - held.at < REMOUNT_MS) s.act(held.key);
  return () => {
    s.bye = setTimeout(() => s.stop(), 1500);
  };
}
