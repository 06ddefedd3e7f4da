// Sidebar: remembers who is looking and where, and shows the project's progress and what is not saved yet. It is on
// every page, so it also sees to the keys of dialogs.

const YEAR_SECONDS = 365 * 24 * 3600;
let unsubscribe = null;
const DIALOG_KEYS = Symbol.for("ssn.dialog-keys");
const told = {}; // what this tab remembered last: an empty value only forgets what was there before

function remember(name, value) {
  if (!value && !told[name]) return;
  told[name] = value;
  const text = value === null || value === undefined ? "" : encodeURIComponent(value);
  document.cookie = `${name}=${text}; Path=/; SameSite=Lax; Max-Age=${text ? YEAR_SECONDS : 0}`;
}

function element(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

/** A dialog whose focused button is gone (a deletion took it along) gets the keys that would go to the page instead. */
function toDialog(event) {
  const dialog = event.target === document.body && [...document.querySelectorAll("[role=dialog]")].at(-1);
  if (!dialog) return;
  dialog.focus();
  if (event.key === "Escape") dialog.dispatchEvent(new KeyboardEvent("keydown", { key: "Escape", bubbles: true }));
}

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".ssn-progress");
  if (!globalThis[DIALOG_KEYS]) document.addEventListener("keydown", toDialog);
  globalThis[DIALOG_KEYS] = true;
  remember("ssn_inspector", data.queue.inspector);
  remember("ssn_project", data.queue.project);
  queue.configure(data.queue);

  const draw = () => {
    const counts = queue.liveCounts(data.queue.project);
    const status = queue.status();
    root.hidden = !counts || (!counts.total && status.level === "saved");
    if (root.hidden) return;
    const head = element("div", "head");
    head.append(element("span", "", "Labelled"), element("b", "labelled", `${counts.labelled} of ${counts.total}`));
    const bar = element("div", "bar");
    const numbers = element("div", "counts");
    for (const verdict of VERDICT_NAMES) {
      const { sign, word, colour } = data.palette[verdict];
      const part = element("i", "");
      part.style.width = `${counts.total ? (100 * counts[verdict]) / counts.total : 0}%`;
      part.style.background = colour;
      bar.append(part);
      const number = element("b", verdict, `${sign} ${counts[verdict]}`);
      number.style.color = colour;
      number.title = word;
      number.setAttribute("aria-label", `${word}: ${counts[verdict]}`);
      numbers.append(number);
    }
    const state = element("div", "state", [status.text, status.more].filter(Boolean).join(": "));
    state.dataset.level = status.level;
    root.replaceChildren(head, bar, numbers, state);
  };

  unsubscribe?.();
  unsubscribe = queue.subscribe(draw);
  draw();
}
