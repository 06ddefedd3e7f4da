// The chart of trade-offs: Plotly draws, lines.js lies over it, and one sentence says what follows from the lines.

const BOARDS = new Map(); // uid -> Board; survives a remount of the element
const TEARDOWN_MS = 1500;
let loading = null; // of Plotly's script, once a page

/** Plotly's own script, from our own server (pages/components/plotly_route.py). */
function plotly(address) {
  if (window.Plotly) return Promise.resolve(window.Plotly);
  loading ??= new Promise((resolve, reject) => {
    const script = make("script", { src: new URL(address, document.baseURI).href, async: true });
    script.addEventListener("load", () => resolve(window.Plotly));
    script.addEventListener("error", () => {
      loading = null;
      script.remove();
      reject(new Error("the script did not come"));
    });
    document.head.append(script);
  });
  return loading;
}

class Board {
  constructor(start) {
    this.lines = new Lines(start, () => this.say());
    this.plot = make("div");
    this.said = make("p", { className: "said" });
    this.said.setAttribute("role", "status");
    this.inputs = {};
    const controls = make("div", { className: "controls" });
    for (const [which, label, step] of [["budget", "Time budget, ms", "any"], ["least", "Least I-AUROC", "any"]]) {
      const input = (this.inputs[which] = make("input", { type: "number", min: LIMITS[which][0], max: LIMITS[which][1], step }));
      input.addEventListener("change", () => {
        if (input.value.trim() !== "") this.lines.set(which, Number(input.value));
        this.say();
      });
      controls.append(make("label", {}, label, input));
    }
    controls.append(make("span", { className: "hint", textContent: "Drag the lines. Drag a box to zoom, double-click to see everything." }));
    this.stage = make("div", { className: "stage" }, this.plot, this.lines.node);
    this.node = make("div", {}, controls, this.stage, this.said);
    this.onResize = () => { // also when the page is left: Plotly resizes only what is on the screen
      if (this.plotted && this.plot.isConnected && this.plot.offsetWidth > 0) window.Plotly.Plots.resize(this.plot);
    };
  }

  attach(root, data) {
    clearTimeout(this.goodbye);
    this.data = data;
    if (this.root !== root) {
      this.root = root;
      root.replaceChildren(this.node);
      this.observer?.disconnect();
      this.observer = new ResizeObserver(this.onResize);
      this.observer.observe(root);
    }
    this.stage.style.height = `${data.height}px`;
    this.say();
    const stamp = JSON.stringify(data.figure);
    if (this.stamp === stamp) return;
    this.stamp = stamp;
    this.draw(data);
  }

  async draw(data) {
    try {
      const Plotly = await plotly(data.script);
      if (this.data !== data && this.stamp !== JSON.stringify(data.figure)) return; // newer data came meanwhile
      const { layout } = data.figure;
      const family = getComputedStyle(this.root ?? document.body).fontFamily;
      const hoverlabel = { ...layout.hoverlabel, font: { ...layout.hoverlabel.font, family } };
      if (!this.plotted) this.plot.replaceChildren(); // the word that it could not be loaded, of an earlier try
      const config = { displayModeBar: false, responsive: false, showTips: false };
      await Plotly.react(this.plot, data.figure.data, { ...layout, hoverlabel, font: { ...layout.font, family } }, config);
      if (!this.plotted) {
        this.plot.on("plotly_afterplot", () => this.fit());
        for (const [event, over] of [["plotly_hover", true], ["plotly_unhover", false]])
          this.plot.on(event, () => this.lines.node.classList.toggle("behind", over)); // what is read lies below the lines
      }
      this.plotted = true;
      this.fit();
    } catch (error) {
      this.stamp = null; // the next visit tries again
      this.plot.replaceChildren(make("div", { className: "failed", textContent: "The chart could not be loaded; the table below has all its figures. Reload the page to try again." }));
      console.error(error);
    }
  }

  fit() {
    const { xaxis, yaxis, _size: size } = this.plot._fullLayout;
    this.lines.fit(xaxis.range, yaxis.range, { left: size.l, top: size.t, width: size.w, height: size.h });
  }

  detach() {
    this.goodbye = setTimeout(() => {
      this.observer?.disconnect();
      this.root = null;
    }, TEARDOWN_MS);
  }

  say() {
    const { budget, least } = this.lines.values;
    for (const [which, input] of Object.entries(this.inputs))
      if (input.getRootNode().activeElement !== input || Number(input.value) !== this.lines.values[which]) input.value = this.lines.values[which];
    const named = ({ number, name, ms, auroc }) => `${number}. ${name.length > 40 ? `${name.slice(0, 39)}…` : name} (${ms.toFixed(1)} ms, ${auroc.toFixed(3)})`;
    const inside = this.data.models.filter(({ ms, auroc }) => ms <= budget && auroc >= least).sort((a, b) => a.ms - b.ms);
    let text;
    if (inside.length) {
      const shown = inside.slice(0, 4).map(named).join(", ");
      const sure = inside.filter(({ low }) => low !== null && low >= least).length;
      text = `Within both lines: ${shown}${inside.length > 4 ? ` and ${inside.length - 4} more` : ""}. ` +
        (sure ? `Of ${sure === inside.length ? "each" : `${sure} of them`} the whole 95 % interval lies above the line.` : "No 95 % interval lies above the line as a whole: so few images do not prove it.");
    } else {
      const quick = this.data.models.filter(({ ms }) => ms <= budget).sort((a, b) => b.auroc - a.auroc)[0];
      const good = this.data.models.filter(({ auroc }) => auroc >= least).sort((a, b) => a.ms - b.ms)[0];
      text = "No model is within both lines. " +
        (quick ? `The best in time: ${named(quick)}. ` : "None is quick enough. ") + (good ? `The quickest that is good enough: ${named(good)}.` : "None is good enough.");
    }
    if (this.said.textContent !== text) this.said.textContent = text;
  }
}

export default function ({ data, parentElement }) {
  let board = BOARDS.get(data.uid);
  if (!board) BOARDS.set(data.uid, (board = new Board(data.start)));
  board.attach(parentElement.querySelector(".ssn-tradeoffs"), data);
  return () => board.detach();
}
