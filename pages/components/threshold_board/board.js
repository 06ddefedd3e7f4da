// The threshold board: one or two thresholds, dragged on any of three charts; every figure follows at once, here.
// Python is told when they are let go, and sends new data only when labels, targets or the saved thresholds change.

const BOARDS = new Map(); // model -> Board; survives a remount of the element
const TEARDOWN_MS = 1500;
const KEYS_PAUSE_MS = 350; // after the last arrow key
const CHART = { least: 240, most: 420, below: 196 }; // px; `below`: the notes and the first rows of the table
const COOKIE_SECONDS = 365 * 24 * 3600;
const TARGETS = ["escape", "overkill", "escape_cost", "overkill_cost", "bad_share"];
const RULES = [ // rule, its words and between them the targets typed in, what it does
  ["youden", ["Youden’s J"], "Share of bad parts caught less share of good parts rejected, as large as can be: both errors weigh the same."],
  ["f1", ["Best F1"], "Harmonic mean of precision and recall, as large as can be. It holds for this mix of good and bad."],
  ["escape", ["Escape rate at most", ["escape"], "%"], "The highest threshold that lets no larger share of the bad parts pass."],
  ["overkill", ["Overkill rate at most", ["overkill"], "%"], "The lowest threshold that rejects no larger share of the good parts."],
  ["cost", ["Lowest cost: escape", ["escape_cost"], "overkill", ["overkill_cost"], "at", ["bad_share"], "% bad"], "Cost of one escape and of one overkill in any unit. Without a share of bad parts in production, that of these images is taken."],
  ["above", ["Just above every good part"], "The lowest threshold that rejects no good part."],
  ["pair", ["Both rates kept, the rest to a person"], "Two thresholds that keep both rates typed in above, with the fewest parts for a person."],
];

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Change text only where it differs: a drag touches little, and what is selected stays so. */
function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** As many of the words as there is room for. */
function fitting(start, words, room) {
  return words.reduce((text, word) => (text.length + word.length < room ? `${text} ${word}` : text), start);
}

class Board {
  constructor() {
    this.two = false;
    this.rule = null;
    this.dragging = this.zoomed = false;
    this.onResize = () => this.layout();
    this.build();
  }

  // ---- life ---------------------------------------------------------------------------------------------------

  attach(root, data, tell) {
    clearTimeout(this.goodbye);
    this.tellPython = tell;
    if (this.root !== root) {
      const focused = this.root?.getRootNode().activeElement;
      const returns = !this.root;
      this.root = root;
      root.replaceChildren(this.node);
      if (focused && this.node.contains(focused)) focused.focus({ preventScroll: true });
      this.observer?.disconnect();
      this.observer = new ResizeObserver(this.onResize);
      this.observer.observe(root);
      addEventListener("resize", this.onResize);
      if (returns) this.told = ""; // the page has forgotten what it was told before it was left
    }
    if (this.data?.stamp !== data.stamp) this.take(data);
    this.layout();
    if (!this.told && !this.isSaved() && !this.dragging) this.tell();
  }

  detach() {
    this.goodbye = setTimeout(() => {
      this.observer?.disconnect();
      removeEventListener("resize", this.onResize);
      this.root = null;
    }, TEARDOWN_MS);
  }

  take(data) {
    const scores = data.good !== this.data?.good || data.bad !== this.data?.bad;
    this.data = data;
    if (scores) {
      [this.good, this.bad] = [decodeScores(data.good), decodeScores(data.bad)];
      this.bars = histogram(this.good, this.bad);
      this.corners = this.good.length && this.bad.length ? corners(this.good, this.bad) : [];
    }
    const { saved } = data;
    const known = [this.bars.edges[0], this.bars.edges[BINS], saved.high, saved.low ?? saved.high];
    for (const { high, low } of data.suggestions) known.push(...[high, low].filter((value) => value != null));
    const [from, to] = [Math.min(...known), Math.max(...known)];
    const pad = 0.02 * (to - from) || 0.5;
    this.domain = [from - pad, to + pad];
    this.corners = this.corners.map((corner) => ({ ...corner, threshold: this.inside(corner.threshold) }));
    const retell = this.saved && this.saved.version !== saved.version;
    if (!this.saved || (retell && this.follows(saved))) this.put(saved.high, saved.low, null);
    if (retell) this.sent = null;
    this.saved = saved;
    [this.high, this.low] = [this.inside(this.high), this.inside(this.low)];
    for (const name of TARGETS) {
      const input = this.targets[name];
      if (input.getRootNode().activeElement !== input) input.value = data.targets[name] ?? "";
    }
    this.targets.bad_share.placeholder = this.bad.length ? ((100 * this.bad.length) / (this.good.length + this.bad.length)).toFixed(1) : "";
    this.node.classList.remove("waiting");
    this.drawn = "";
    if (retell && !this.isSaved() && !this.dragging) this.tell();
  }

  /** Whether to show a version that came into force: one restored here, or any while nothing was moved here. */
  follows(saved) {
    if (this.dragging) return false;
    if (this.sent === JSON.stringify([saved.high, saved.low])) return false; // saved here; it may have moved on since
    return saved.mine || (this.saved.high === this.high && (this.saved.low ?? null) === (this.two ? this.low : null));
  }

  // ---- what the inspector does --------------------------------------------------------------------------------

  inside(threshold) {
    return Math.min(this.domain[1], Math.max(this.domain[0], threshold));
  }

  put(high, low, rule) {
    this.two = low !== null && low !== undefined;
    this.high = high;
    this.low = this.two ? low : high;
    this.rule = rule;
  }

  move(which, threshold) {
    const at = this.inside(threshold);
    if (!this.two) this.high = this.low = at;
    else if (which === "low") this.low = Math.min(at, this.high);
    else this.high = Math.max(at, this.low);
    this.rule = null;
    this.paintSoon();
  }

  drag(which, threshold) {
    this.dragging = true;
    this.node.classList.add("dragging");
    this.move(which, threshold);
  }

  drop() {
    this.dragging = false;
    this.node.classList.remove("dragging");
    this.paint();
    this.tell();
  }

  step(which, threshold) {
    this.move(which, threshold);
    this.paint();
  }

  tellSoon() {
    clearTimeout(this.pause);
    this.pause = setTimeout(() => this.tell(), KEYS_PAUSE_MS);
  }

  operating() {
    return { high: this.high, low: this.two ? this.low : null, rule: this.rule, version: this.data.saved.version };
  }

  isSaved() {
    const { saved } = this.data;
    return saved.high === this.high && (saved.low ?? null) === (this.two ? this.low : null);
  }

  tell() {
    clearTimeout(this.pause);
    const now = JSON.stringify(this.operating());
    if (this.told === now) return;
    this.told = now;
    this.tellPython("operating", this.operating());
  }

  /** Go to thresholds that a rule or a version gives. */
  go(high, low, rule) {
    const was = this.two;
    this.put(high, low, rule);
    this.layout(was !== this.two); // two thresholds take more room than one
    this.tell();
  }

  toggle(on) {
    const pair = this.data.suggestions.find(({ id }) => id === "pair");
    const step = (this.domain[1] - this.domain[0]) / 20;
    const low = this.data.saved.low ?? (pair?.low < pair?.high ? pair.low : null) ?? this.high - step;
    this.put(this.high, on ? Math.min(this.inside(low), this.high) : null, null);
    this.layout(true);
    this.tell();
  }

  /** Show the corner of both curves, or the whole of them again. */
  zoom() {
    this.zoomed = !this.zoomed;
    this.layout(true);
  }

  save() {
    const { high, low } = this.operating();
    this.sent = JSON.stringify([high, low]);
    this.tellPython("save", { turn: crypto.randomUUID(), ...this.operating() });
  }

  askTargets() {
    const typed = {};
    for (const name of TARGETS) {
      const { value, max } = this.targets[name];
      const usable = value !== "" && Number.isFinite(Number(value));
      typed[name] = usable ? Math.min(Number(max || 1e9), Math.max(0, Number(value))) : name === "bad_share" ? null : this.data.targets[name];
      this.targets[name].value = typed[name] ?? "";
    }
    if (TARGETS.every((name) => typed[name] === this.data.targets[name])) return;
    const text = TARGETS.map((name) => typed[name] ?? "").join("_");
    document.cookie = `ssn_targets=${encodeURIComponent(text)}; Path=/; SameSite=Lax; Max-Age=${COOKIE_SECONDS}`;
    this.node.classList.add("waiting");
    this.tellPython("targets", typed);
  }

  // ---- figures ------------------------------------------------------------------------------------------------

  sameOutcome(a, b) {
    return below(this.good, a) === below(this.good, b) && below(this.bad, a) === below(this.bad, b);
  }

  /** The point on the curves at one of the thresholds. */
  figuresAt(which) {
    const at = which === "low" ? this.low : this.high;
    const [fp, tp] = [this.good.length - below(this.good, at), this.bad.length - below(this.bad, at)];
    return { fpr: fp / this.good.length, tpr: tp / this.bad.length, precision: fp + tp ? tp / (fp + tp) : null, flagged: (fp + tp) / (this.good.length + this.bad.length) };
  }

  rates(counts) {
    return { escape: counts.nBad ? counts.escapes / counts.nBad : null, overkill: counts.nGood ? counts.overkill / counts.nGood : null };
  }

  /** What the figures at the thresholds shown rest on: of the version in force, a suggestion, or set by hand. */
  basis() {
    const { data, high, low, two } = this;
    if (this.isSaved()) return data.in_force;
    const taken = data.suggestions.find(({ id }) => id === this.rule);
    const stands = taken?.high === high && (taken.low ?? null) === (two ? low : null);
    return stands ? taken : { counted: null, rule: null, note: data.by_hand, flatters: true };
  }

  /** The state of affairs in words, for a screen reader. */
  words(which) {
    const rates = this.rates(this.counts);
    return `Threshold ${signed(which === "low" ? this.low : this.high)}, escape rate ${percent(rates.escape)}, overkill rate ${percent(rates.overkill)}`;
  }

  // ---- drawing ------------------------------------------------------------------------------------------------

  build() {
    const p = (this.parts = {});
    const named = (name, tag, className, ...children) => (p[name] = make(tag, { className }, ...children));
    const tile = (name, title, hint) => named(name, "div", `tile ${name}`, make("h4", { textContent: title, title: hint }), named(`${name}Value`, "div", "value"), named(`${name}Under`, "div", "under"), named(`${name}Range`, "div", "under"));
    named("tiles", "div", "tiles",
      tile("escape", "Escape rate", "Bad parts that pass: false negatives, FN / (FN + TP)."),
      tile("overkill", "Overkill rate", "Good parts that are rejected: false positives, FP / (FP + TN)."),
      tile("person", "To a person", "Parts with a score between the two thresholds, at this mix of good and bad."),
      tile("auroc", "I-AUROC", "Chance that a bad image scores above a good one. It needs no threshold."),
      tile("ap", "AP-det", "Average precision of finding bad images. It needs no threshold."));
    const number = (name, label, which) => {
      const input = (p[name] = make("input", { type: "number", step: "any", className: "threshold" }));
      input.setAttribute("aria-label", label);
      input.onchange = () => {
        if (input.value !== "" && Number.isFinite(Number(input.value))) this.move(which, Number(input.value));
        this.paint(true);
        this.tell();
      };
      return input;
    };
    p.two = make("input", { type: "checkbox" });
    p.two.onchange = () => this.toggle(p.two.checked);
    p.save = make("button", { className: "save", textContent: "Save", onclick: () => this.save() });
    p.back = make("button", { textContent: "Back", title: "Back to the saved threshold", onclick: () => this.go(this.data.saved.high, this.data.saved.low, null) });
    named("controls", "div", "controls",
      named("lowLabel", "label", "", "Good below", number("lowInput", "Lower threshold T1", "low")),
      named("highLabel", "label", "", named("highWord", "span", ""), number("highInput", "Threshold", "high")),
      make("label", { title: "Two thresholds: what lies between them is neither passed nor rejected." }, p.two, "Doubtful ones to a person"),
      named("state", "span", "state"), p.back, p.save);
    named("verdicts", "div", "verdicts");
    this.cells = {};
    const cell = (name, word) => (this.cells[name] = make("div", { className: `cell ${name}` }, make("b"), make("span", { textContent: word })));
    const head = (word, className = "") => make("div", { className: `head ${className}`, textContent: word });
    p.verdicts.append(head(""), head("called good"), head("to a person", "two"), head("called bad"),
      head("Good"), cell("passed", "passed"), cell("personGood", "good"), cell("overkill", "overkill"),
      head("Bad"), cell("escapes", "escape"), cell("personBad", "bad"), cell("caught", "caught"));
    for (const name of ["personGood", "personBad"]) this.cells[name].classList.add("two");
    this.charts = [new HistogramChart(this), rocChart(this), precisionRecallChart(this)];
    named("charts", "div", "charts", ...this.charts.map((chart) => chart.node));
    named("notes", "div", "notes", named("claim", "p", ""), named("chance", "p", ""));
    named("honest", "div", "honest", named("honestRates", "p", "rates"), named("honestNote", "p", ""));
    this.node = make("div", { className: "inner" }, make("div", { className: "top" }, p.tiles, p.verdicts, p.controls), p.honest, p.charts, p.notes, this.buildTable());
  }

  buildTable() {
    const p = this.parts;
    this.targets = {};
    this.rows = {};
    const target = (name) => {
      const words = { escape: "Largest escape rate, %", overkill: "Largest overkill rate, %", escape_cost: "Cost of one escape", overkill_cost: "Cost of one overkill", bad_share: "Share of bad parts in production, %" };
      const input = (this.targets[name] = make("input", { type: "number", min: 0, step: "any", title: words[name] }));
      if (!name.endsWith("cost")) input.max = 100;
      input.setAttribute("aria-label", words[name]);
      input.onchange = () => this.askTargets();
      return input;
    };
    const body = make("tbody");
    for (const [id, words, hint] of RULES) {
      const cells = ["threshold", "escapes", "overkill", "person"].map((name) => make("td", { className: name }));
      const use = make("button", { textContent: "Use" });
      use.setAttribute("aria-label", `Use the threshold of: ${words.filter((word) => typeof word === "string").join(" ")}`);
      use.onclick = () => {
        const suggestion = this.data.suggestions.find((one) => one.id === id);
        if (suggestion?.high != null) this.go(suggestion.high, suggestion.low, id);
      };
      const name = make("td", { className: "rule", title: hint }, ...words.map((word) => (Array.isArray(word) ? target(word[0]) : make("span", { textContent: word }))));
      const row = make("tr", {}, name, ...cells, make("td", { className: "use" }, use));
      this.rows[id] = { row, cells, use };
      body.append(row);
    }
    const heads = ["", "Threshold", "Escapes", "Overkill", "To a person", ""].map((word) => make("th", { textContent: word, scope: "col" }));
    p.chosenOn = heads[0];
    return make("table", { className: "suggestions" }, make("thead", {}, make("tr", {}, ...heads)), body);
  }

  layout(again = false) {
    if (!this.root?.isConnected || !this.data) return;
    const width = Math.floor(this.root.getBoundingClientRect().width);
    if (!width) return;
    this.node.classList.toggle("pair", this.two);
    const scroller = this.root.getRootNode().host?.closest("[data-testid=stMain]");
    const top = this.root.getBoundingClientRect().top + (scroller?.scrollTop ?? 0) + this.parts.charts.offsetTop;
    const height = Math.round(Math.min(CHART.most, Math.max(CHART.least, innerHeight - top - CHART.below)));
    const drawn = `${this.data.stamp} ${width} ${height}`;
    if (drawn === this.drawn && !again) return this.paint();
    this.drawn = drawn;
    const gap = 14;
    const first = Math.floor((width - 2 * gap) * 0.42);
    const other = Math.floor((width - 2 * gap - first) / 2);
    this.charts.forEach((chart, i) => chart.draw(i ? other : first, height));
    this.paintStill();
    this.paint(true);
  }

  paintSoon() {
    this.frame ??= requestAnimationFrame(() => this.paint());
  }

  /** What does not follow the threshold. */
  paintStill() {
    const { parts: p, data } = this;
    for (const [name, nothing] of [["auroc", data.missing], ["ap", data.missing]]) {
      const area = data.areas[name];
      say(p[`${name}Value`], area ? area.value.toFixed(3) : "n/a");
      say(p[`${name}Under`], area?.low == null ? nothing : `95 %: ${area.low.toFixed(3)}–${area.high.toFixed(3)}`);
      say(p[`${name}Range`], area?.method.split(/,| on /)[0].replace("stratified ", "") ?? "");
      p[`${name}Range`].title = area?.method ?? "";
    }
    say(p.chosenOn, data.chosen_on);
    for (const [id, { row, cells, use }] of Object.entries(this.rows)) {
      const found = data.suggestions.find((one) => one.id === id);
      const [threshold, escapes, overkill, person] = cells;
      row.classList.toggle("none", found.high == null);
      use.disabled = found.high == null;
      row.title = found.reason ?? "";
      if (found.high == null) {
        say(threshold, "n/a");
        say(escapes, found.reason ?? "");
        [escapes.colSpan, overkill.hidden, person.hidden] = [3, true, true];
        continue;
      }
      [escapes.colSpan, overkill.hidden, person.hidden] = [1, false, false];
      say(threshold, found.low == null || found.low === found.high ? signed(found.high) : `${signed(found.low)} / ${signed(found.high)}`);
      if (found.uncounted) {
        say(escapes, "n/a");
        [escapes.colSpan, overkill.hidden, person.hidden] = [3, true, true];
        row.title = found.uncounted;
        continue;
      }
      // Out-of-fold, a rule is counted on parts that had no say in its threshold; else its thresholds are counted here.
      const counts = crosswise(found.counted) ?? outcome(this.good, this.bad, found.high, found.low ?? found.high);
      const rates = this.rates(counts);
      escapes.replaceChildren(make("b", { textContent: counts.nBad ? whole(counts.escapes) : "" }), percent(rates.escape));
      overkill.replaceChildren(make("b", { textContent: counts.nGood ? whole(counts.overkill) : "" }), percent(rates.overkill));
      const people = counts.personGood + counts.personBad;
      person.replaceChildren(...(found.low == null && !people ? ["–"] : [make("b", { textContent: whole(people) }), percent(people / (counts.nGood + counts.nBad))]));
    }
  }

  paint(inputs = false) {
    cancelAnimationFrame(this.frame);
    this.frame = null;
    if (!this.data) return;
    const { parts: p, data, good, bad, high, low, two } = this;
    const counts = (this.counts = outcome(good, bad, high, low));
    const rates = this.rates(counts);
    const basis = this.basis();
    const honest = crosswise(basis.counted);
    for (const [name, events, n, done] of [["escape", counts.escapes, counts.nBad, "bad passed"], ["overkill", counts.overkill, counts.nGood, "good rejected"]]) {
      const interval = wilson(events, n, data.z);
      say(p[`${name}Value`], percent(rates[name]));
      say(p[`${name}Under`], n ? fitting(`${whole(events)} of ${whole(n)}`, done.split(" "), two ? 17 : 26) : `no ${done.split(" ")[0]} image`);
      p[name].classList.toggle("nothing", !n);
      p[name].classList.toggle("zero", events === 0);
      const none = name === "escape" && events === 0 && n;
      say(p[`${name}Range`], honest && n ? "honest figure below" : none ? `95 %: at most ${percent(data.claims.most)}` : interval ? `95 %: ${range(interval)}` : "");
    }
    const people = counts.personGood + counts.personBad;
    say(p.personValue, percent(people / (counts.nGood + counts.nBad)));
    say(p.personUnder, `${whole(people)} of ${whole(counts.nGood + counts.nBad)}`);
    say(p.personRange, honest ? "honest figure below" : `95 %: ${range(wilson(people, counts.nGood + counts.nBad, data.z))}`);
    for (const [name, cell] of Object.entries(this.cells)) {
      say(cell.firstChild, whole(counts[name]));
      cell.classList.toggle("zero", !counts[name]);
    }
    for (const chart of this.charts) chart.move();
    this.paintControls(inputs);
    this.paintHonest(basis, honest);
    say(p.claim, this.claim(honest ?? counts));
    say(p.chance, this.chance());
    for (const [id, { row }] of Object.entries(this.rows)) {
      const found = data.suggestions.find((one) => one.id === id);
      row.classList.toggle("now", found.high === high && (found.low ?? null) === (two ? low : null));
    }
  }

  /** Rates that rest on parts without a say in the threshold, or how far those in the tiles may be trusted. */
  paintHonest({ rule, note, flatters }, counts) {
    const { parts: p, data, two } = this;
    const words = (name, events, n) =>
      n ? `${name} ${percent(events / n)}, ${whole(events)} of ${whole(n)} (95 %: ${range(wilson(events, n, data.z))})` : `${name} n/a, ${data.missing}`;
    const shown = counts && [words("escapes", counts.escapes, counts.nBad), words("overkill", counts.overkill, counts.nGood)];
    if (counts && (two || counts.personGood + counts.personBad)) shown.push(words("to a person", counts.personGood + counts.personBad, counts.nGood + counts.nBad));
    say(p.honestRates, shown ? `Honest figure: ${shown.join(" · ")}` : "");
    say(p.honestNote, shown ? `${rule}. ${note} The tiles and charts flatter.` : note);
    p.honest.title = shown ? "These parts chose the one threshold that the tiles and charts show them at." : "";
    p.honest.classList.toggle("flatters", flatters);
  }

  paintControls(inputs) {
    const { parts: p, data, two, high, low } = this;
    say(p.highWord, two ? "Bad from" : "Threshold: bad from");
    p.lowLabel.hidden = !two;
    for (const [input, value] of [[p.highInput, high], [p.lowInput, low]])
      if (inputs || input.getRootNode().activeElement !== input) input.value = value.toFixed(3);
    p.two.checked = two;
    const saved = this.isSaved();
    const at = data.saved.low == null ? signed(data.saved.high) : `${signed(data.saved.low)} / ${signed(data.saved.high)}`;
    say(p.state, saved ? "Saved" : data.inspector ? `Saved: ${at}` : "Type your name in the sidebar to save");
    p.back.disabled = saved;
    p.save.disabled = saved || !data.inspector;
    p.save.title = data.inspector ? "Review, Inspect and the command line use the saved threshold" : "Type your name in the sidebar first";
  }

  claim({ nBad, escapes }) {
    if (!nBad) return "";
    const still = this.data.claims.needed.map(([rate, n]) => [`${100 * rate} %`, n - nBad]);
    if (escapes === 0) {
      const start = `0 of ${whole(nBad)}: with 95 % confidence at most ${percent(this.data.claims.most)} of bad parts pass. `;
      const open = still.filter(([, n]) => n > 0);
      if (!open.length) return start;
      return `${start}Without an escape, a claim of ${open.map(([rate, n]) => `${rate} needs ${whole(n)} more`).join(", ")} bad images.`;
    }
    return `To claim an escape rate of at most ${this.data.claims.needed.map(([rate, n]) => `${100 * rate} % takes ${whole(n)}`).join(", ")} bad images without an escape; here are ${whole(nBad)}.`;
  }

  chance() {
    const { platt, good, bad } = { ...this.data, good: this.good, bad: this.bad };
    if (!platt.n_bad) return platt.reason ?? "";
    const at = (score) => {
      const chance = 1 / (1 + Math.exp(-(platt.slope * score + platt.intercept)));
      return chance < 0.01 ? "under 1 %" : chance > 0.99 ? "over 99 %" : `about ${Math.round(100 * chance)} %`;
    };
    const where = this.two ? `${at(this.low)} at T1 and ${at(this.high)} at T2` : at(this.high);
    const share = (100 * platt.n_bad) / (platt.n_good + platt.n_bad);
    return `A part at this score was bad in ${where} of cases like the labelled ones, of which ${share.toFixed(0)} % are bad; where fewer are, it is less (Platt).`;
  }
}

export default function ({ data, parentElement, setStateValue }) {
  let board = BOARDS.get(data.model);
  if (!board) BOARDS.set(data.model, (board = new Board()));
  board.attach(parentElement.querySelector(".ssn-threshold"), data, setStateValue);
  return () => board.detach();
}
