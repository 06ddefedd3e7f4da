// The two lines over Plotly's picture: where they are, dragged and moved by keys; each is an ARIA slider.

const STORE = "ssn.tradeoffs";
const LIMITS = { budget: [0.01, 100000], least: [0, 1] };
const STEPS = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 };
const STEP = { budget: 1.02, least: 0.001 }; // a factor of the time, a difference of the I-AUROC

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** A budget to three digits, an I-AUROC to three decimals: what is shown is what counts. */
const rounded = { budget: (ms) => Number(ms.toPrecision(3)), least: (share) => Number(share.toFixed(3)) };
const words = { budget: (ms) => `Budget ${ms.toLocaleString("en-US")} ms`, least: (share) => `At least ${share.toFixed(3)}` };
const spoken = { budget: "Time budget of one image, milliseconds", least: "Least acceptable I-AUROC" };

/** What was set last in this browser; anything that is no number in its range counts as not set. */
function remembered(start) {
  let kept = {};
  try {
    kept = JSON.parse(localStorage.getItem(STORE) ?? "{}") ?? {};
  } catch {
    kept = {}; // storage is switched off, or holds something else: the lines start where they always do
  }
  const valid = (which) => Number.isFinite(kept[which]) && kept[which] >= LIMITS[which][0] && kept[which] <= LIMITS[which][1];
  return { budget: valid("budget") ? kept.budget : start.budget, least: valid("least") ? kept.least : start.least };
}

class Lines {
  /** `changed` is called after every change. */
  constructor(start, changed) {
    this.values = remembered(start);
    this.changed = changed;
    this.zones = { budget: make("div", { className: "zone" }), least: make("div", { className: "zone" }) };
    this.handles = {};
    for (const which of ["budget", "least"]) {
      const handle = make("div", { className: `handle ${which}`, tabIndex: 0 }, make("span", { className: "tag" }));
      handle.setAttribute("role", "slider");
      handle.setAttribute("aria-label", spoken[which]);
      handle.setAttribute("aria-orientation", which === "budget" ? "horizontal" : "vertical");
      handle.addEventListener("pointerdown", (event) => this.grab(event, which));
      handle.addEventListener("keydown", (event) => this.key(event, which));
      this.handles[which] = handle;
    }
    this.node = make("div", { className: "over" }, ...Object.values(this.zones), ...Object.values(this.handles));
  }

  set(which, value) {
    if (!Number.isFinite(value)) return;
    const [least, most] = LIMITS[which];
    this.values[which] = rounded[which](Math.min(most, Math.max(least, value)));
    try {
      localStorage.setItem(STORE, JSON.stringify(this.values));
    } catch {
      // Storage is full or switched off: the lines hold until the page is left.
    }
    this.place();
    this.changed();
  }

  /** Take the axes as Plotly has them now: `x` in powers of ten, `y` as they are; `box` in px. */
  fit(x, y, box) {
    this.axes = { x, y, box };
    this.place();
  }

  place() {
    if (!this.axes) return;
    const { x, y, box } = this.axes;
    const shares = {
      budget: (Math.log10(this.values.budget) - x[0]) / (x[1] - x[0]),
      least: (this.values.least - y[0]) / (y[1] - y[0]),
    };
    const held = (share) => Math.min(1, Math.max(0, share)); // a line outside the picture waits at its edge
    const across = box.left + held(shares.budget) * box.width;
    const down = box.top + (1 - held(shares.least)) * box.height;
    const put = (node, left, top, width, height) => {
      const styles = { left, top, width, height };
      for (const [name, value] of Object.entries(styles)) node.style[name] = value === null ? "" : `${value}px`;
    };
    put(this.handles.budget, across, box.top, null, box.height);
    put(this.handles.least, box.left, down, box.width, null);
    put(this.zones.budget, across, box.top, box.left + box.width - across, box.height);
    put(this.zones.least, box.left, down, box.width, box.top + box.height - down);
    for (const [which, handle] of Object.entries(this.handles)) {
      const value = this.values[which];
      handle.classList.toggle("outside", shares[which] < 0 || shares[which] > 1);
      handle.firstChild.textContent = words[which](value);
      const said = { "aria-valuenow": value, "aria-valuemin": LIMITS[which][0], "aria-valuemax": LIMITS[which][1], "aria-valuetext": words[which](value) };
      for (const [name, text] of Object.entries(said)) handle.setAttribute(name, text);
    }
    const half = this.handles.budget.firstChild.offsetWidth / 2; // its words stay in the picture
    const shift = Math.min(box.left + box.width - half, Math.max(box.left + half, across)) - across;
    this.handles.budget.firstChild.style.marginLeft = `${shift}px`;
  }

  /** On the window, so that a remount of the element in the middle of a drag loses nothing. */
  grab(event, which) {
    if (event.button !== 0 || !this.axes) return;
    event.preventDefault();
    this.handles[which].focus({ preventScroll: true, focusVisible: false });
    this.node.classList.add("dragging");
    const move = (moved) => {
      const { x, y, box } = this.axes;
      const frame = this.node.getBoundingClientRect();
      if (which === "budget") this.set(which, 10 ** (x[0] + ((moved.clientX - frame.left - box.left) / box.width) * (x[1] - x[0])));
      else this.set(which, y[1] - ((moved.clientY - frame.top - box.top) / box.height) * (y[1] - y[0]));
    };
    const drop = () => {
      removeEventListener("pointermove", move);
      for (const end of ["pointerup", "pointercancel"]) removeEventListener(end, drop);
      this.node.classList.remove("dragging");
    };
    addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"]) addEventListener(end, drop);
  }

  key(event, which) {
    const step = STEPS[event.key];
    if (step === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation();
    const now = this.values[which];
    this.set(which, which === "budget" ? now * STEP.budget ** step : now + step * STEP.least);
  }
}
