// Verdicts on maps: one key each, through the label queue. State lives by uid in this module, because Streamlit may
// remount the element at any time.

const JUDGES = new Map();
const AWAIT_MS = 3000; // how long the page may take to follow to a picture that was turned to in the browser
const TYPING = "textarea, select, [contenteditable=true], [role=combobox], [role=slider], " +
  "input:not([type=checkbox]):not([type=radio]):not([type=button])";

export default function ({ data, parentElement, setTriggerValue }) {
  let s = JUDGES.get(data.uid);
  if (!s) JUDGES.set(data.uid, (s = { held: [] }));
  clearTimeout(s.bye);
  s.data = data;
  s.saved = () => setTriggerValue("saved", Date.now());
  queue.learn(data.items.map(({ id, label }) => [id, label]), data.now);
  queue.learnMaps(data.model, data.items.map(({ id, verdict }) => [id, verdict]), data.now);
  // While the page is on its way to an image turned to in the browser, what it says of an earlier one must not pull back.
  if (s.awaited === data.current) s.awaited = null;
  if (s.awaited == null) s.current = data.current;

  const item = () => s.data.items.find(({ id }) => id === s.current);
  const isBad = () => queue.label(s.current) === "bad";

  s.judge = (verdict) => {
    if (!item()) return;
    if (!isBad()) s.note = "Only the map of an image labelled Bad can be on the defect.";
    else {
      const said = { model: s.data.model, image: s.current, verdict, name: item().name };
      s.note = queue.recordMap(s.data.project, said) ? "" : "Type your name in the sidebar first.";
      s.dirty = !s.note || s.dirty;
    }
    s.paint();
  };

  s.paint = () => {
    const verdict = queue.mapVerdict(s.data.model, s.current);
    for (const { button, key } of s.buttons) {
      button.disabled = !isBad();
      button.setAttribute("aria-pressed", isBad() && verdict === key.verdict);
    }
    const counts = item()?.counts ?? true;
    s.title.textContent = !isBad() ? "Map verdict: for Bad only" : counts ? "Where does the map look?" : "Map verdict: not counted";
    s.title.title = counts ? "" : "The model has seen this image: only held-out images make the hit rate.";
    s.line.textContent = s.note ?? "";
  };

  const root = parentElement.querySelector(".ssn-map-verdict");
  if (s.root !== root) {
    s.root = root;
    s.buttons = data.keys.map((key) => {
      const button = Object.assign(document.createElement("button"), { className: "judge", title: key.help });
      button.append(key.words, Object.assign(document.createElement("kbd"), { textContent: key.key.toUpperCase() }));
      button.onclick = () => s.judge(key.verdict);
      return { button, key };
    });
    s.title = Object.assign(document.createElement("div"), { className: "title" });
    s.line = Object.assign(document.createElement("div"), { className: "note" });
    s.line.setAttribute("role", "status");
    root.replaceChildren(s.title, ...s.buttons.map(({ button }) => button), s.line);
  }
  if (!s.listening) {
    s.listening = true;
    const onKey = (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.composedPath()[0]?.closest?.(TYPING)) return;
      const chosen = s.data.keys.find(({ key }) => key === event.key.toLowerCase());
      if (!chosen || document.querySelector("[role=dialog]")) return;
      event.preventDefault();
      if (s.root.isConnected) s.judge(chosen.verdict);
      else s.held.push({ verdict: chosen.verdict, at: performance.now() }); // on its way back, or another page is open
    };
    const onTurn = ({ detail }) => {
      s.current = s.awaited = detail.image;
      s.note = "";
      clearTimeout(s.impatience);
      s.impatience = setTimeout(() => {
        s.awaited = null; // the page went elsewhere: it knows better
        s.current = s.data.current;
        s.paint();
      }, AWAIT_MS);
      s.paint();
    };
    document.addEventListener("keydown", onKey);
    document.addEventListener("ssn:turn", onTurn);
    const unsubscribe = queue.subscribe(() => {
      s.paint();
      if (s.dirty && !queue.unsaved) {
        s.dirty = false;
        s.saved(); // the page shows the hit rate
      }
    });
    s.stop = () => {
      document.removeEventListener("keydown", onKey);
      document.removeEventListener("ssn:turn", onTurn);
      clearTimeout(s.impatience);
      unsubscribe();
      JUDGES.delete(data.uid);
    };
  }
  s.paint();
  for (const held of s.held.splice(0)) if (performance.now() - held.at < REMOUNT_MS) s.judge(held.verdict);
  return () => {
    s.bye = setTimeout(() => s.stop(), 1500);
  };
}
