// The label queue: verdicts leave the browser once each, whatever happens on the way.
//
// One queue per browser tab, shared by all components through globalThis (each component is a module of its own).
// A verdict gets a sequence number, goes into localStorage (the outbox), is shown at once, and is posted until the
// server has acknowledged it. The server ignores a (client, sequence number) it has already stored, so sending
// twice is harmless. Outboxes of tabs that are gone are adopted: a Web Lock, held for the life of a tab, says
// which ones are alive (tabs.js).
//
// There are two kinds of verdict: on an image ("label") and on where a model's map of it looks ("map"). Each kind has
// outboxes and an address of its own, so that labels never wait for the other kind. A verdict's subject is the image,
// or "<model>.<image>".
//
// These files have no exports: Python puts them in front of each component's own module code.

const VERDICT_NAMES = ["good", "bad", "unsure"];
const BATCH = 200; // events in one request: about 40 kB, below the limit of requests that outlive the page
const RETRY_MS = [400, 800, 1600, 3200, 5000];
const TIMEOUT_MS = 20000;
const REMOUNT_MS = 1500; // Streamlit may remount a component's element, slowly on a busy machine: keys pressed meanwhile still count
const ADDRESSES = { label: "/ssn/labels", map: "/ssn/map-verdicts" };
const MAP_RETRY_MS = 5000;

class LabelQueue extends TabOutboxes {
  constructor() {
    super();
    this.project = null; // the project whose counts are watched
    this.inspector = "";
    this.known = new Map(); // subject -> {label, at}: what the server said, and when (server time)
    this.counts = new Map(); // project -> {at, total, good, bad, unsure, unlabelled}
    this.undoStack = []; // this tab's verdicts, newest last; those of one key press share a turn
    this.turns = 0;
    this.mapsSeen = new Set(); // images whose map this tab has shown to this inspector; it outlives a reload
    this.mapsKey = ""; // where in sessionStorage they are
    this.rejected = []; // [sequence number, reason] of verdicts the server cannot use
    this.failures = 0; // requests failed in a row
    this.problem = ""; // for people, when waiting will not help
    this.watchers = new Set(); // functions that return the images on the screen
    this.listeners = new Set();
    this.wake = null;
    this.pumping = false;
  }

  // ---- what components call -----------------------------------------------------------------------------------

  /** Take over what the page knows: {installation, tokens, project, inspector, counts, now}. */
  configure({ installation, tokens, project, inspector, counts, now }) {
    const first = this.installation === null;
    this.installation = installation;
    this.tokens = tokens;
    this.project = project;
    this.recallMaps(`ssn.maps-seen.${installation}.${inspector}`, this.inspector);
    this.inspector = inspector;
    this.problem = "";
    if (counts) this.learnCounts(project, counts, now);
    this.wake?.();
    if (first) this.lookAgain();
    this.pump();
    this.changed();
  }

  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** The label of an image as the inspector sees it: what is on its way counts before what the server said. */
  label(image) {
    return this.verdict(image);
  }

  /** The same for where a model's map looks: on_defect, elsewhere, unsure or null. */
  mapVerdict(model, image) {
    return this.verdict(mapSubject(model, image));
  }

  verdict(subject) {
    const pending = this.pending().get(subject);
    if (pending !== undefined) return pending;
    return this.known.get(subject)?.label ?? null;
  }

  /** Labels read by the server at its time `now`; older news never replaces newer. */
  learn(pairs, now) {
    for (const [subject, label] of pairs) {
      const have = this.known.get(subject);
      if (!have || have.at <= now) this.known.set(subject, { label: label ?? null, at: now });
    }
  }

  /** The same for maps of a model. */
  learnMaps(model, pairs, now) {
    this.learn(pairs.map(([image, verdict]) => [mapSubject(model, image), verdict]), now);
  }

  /** One verdict. Returns false when nobody has said who is looking. */
  record(project, said) {
    return this.recordAll(project, [said]);
  }

  /** Verdicts of one key press, which one undo takes back: [{image, verdict, origin, seconds, name}]. */
  recordAll(project, all) {
    if (!this.inspector) return false;
    const turn = ++this.turns;
    this.enqueue("label", project, all.map(({ image, verdict, origin, seconds = null, name = "" }) => {
      const was = this.label(image);
      this.undoStack.push({ kind: "label", project, image, verdict, was, name, turn });
      return { image_id: image, verdict, was, origin, seconds, is_undo: false, map_seen: this.mapsSeen.has(image) };
    }));
    return true;
  }

  /** A component has shown the model's map of this image: verdicts from now on say so. */
  sawMap(image) {
    if (this.mapsSeen.has(image)) return;
    this.mapsSeen.add(image);
    try {
      sessionStorage.setItem(this.mapsKey, JSON.stringify([...this.mapsSeen]));
    } catch {
      return; // full or forbidden: it is known until the page is reloaded
    }
  }

  /** The maps that this inspector has seen in this tab; `before`: the name until now, "" where nobody had said one. */
  recallMaps(key, before) {
    if (key === this.mapsKey) return;
    const seen = readJson(sessionStorage, key, []);
    this.mapsSeen = new Set([...(before ? [] : this.mapsSeen), ...(Array.isArray(seen) ? seen : [])]);
    this.mapsKey = key;
  }

  /** One verdict on a model's map of an image. Returns false when nobody has said who is looking. */
  recordMap(project, { model, image, verdict, name = "" }) {
    if (!this.inspector) return false;
    const was = this.mapVerdict(model, image);
    this.undoStack.push({ kind: "map", project, model, image, verdict, was, name, turn: ++this.turns });
    this.enqueue("map", project, [{ model_id: model, image_id: image, verdict, was }]);
    return true;
  }

  /**
   * Take back this tab's newest key press; returns {kind, image, was, name, n, left}, or null when there is none left.
   * `n` verdicts were taken back, `left` were not, because somebody else has changed the label since; with n = 0 the
   * answer has {overruled: true, now}. `image` is the first of several.
   * `seen` tells of a step whether the page shows what it changed: nobody takes back what he cannot see.
   */
  undo(project, origin, seen = ({ kind }) => kind === "label") {
    if (!this.inspector) return null;
    const last = this.undoStack.findLastIndex((step) => step.project === project && seen(step));
    if (last < 0) return null;
    const { turn } = this.undoStack[last];
    const first = this.undoStack.findIndex((step) => step.turn === turn);
    const steps = this.undoStack.splice(first, last - first + 1);
    const state = (step) => (step.kind === "map" ? this.mapVerdict(step.model, step.image) : this.label(step.image));
    const mine = steps.filter((step) => state(step) === step.verdict);
    if (!mine.length) return { ...steps[0], n: 0, left: steps.length, now: state(steps[0]), overruled: true };
    this.enqueue(mine[0].kind, project, mine.map((step) => {
      const back = { image_id: step.image, verdict: step.was ?? "cleared", was: state(step) };
      if (step.kind === "map") return { ...back, model_id: step.model };
      return { ...back, origin, seconds: null, is_undo: true, map_seen: this.mapsSeen.has(step.image) };
    }));
    return { ...mine[0], n: mine.length, left: steps.length - mine.length };
  }

  /** Verdicts that are not stored yet. */
  get unsaved() {
    let n = 0;
    for (const box of this.boxes()) n += box.events.length;
    return n;
  }

  /** Label counts of a project, with what is on its way. */
  liveCounts(project) {
    const server = this.counts.get(project);
    if (!server) return null;
    const live = { ...server };
    const first = new Map();
    const last = new Map();
    for (const box of this.boxes()) {
      if (box.kind !== "label" || box.project !== project) continue;
      for (const event of box.events) {
        if (!first.has(event.image_id)) first.set(event.image_id, this.known.get(event.image_id)?.label ?? event.was ?? null);
        last.set(event.image_id, event.verdict);
      }
    }
    for (const [image, verdict] of last) {
      live[VERDICT_NAMES.includes(first.get(image)) ? first.get(image) : "unlabelled"] -= 1;
      live[VERDICT_NAMES.includes(verdict) ? verdict : "unlabelled"] += 1;
    }
    live.labelled = live.good + live.bad + live.unsure;
    return live;
  }

  /** {level, text, more} for people; level is "saved", "saving" or "waiting", `text` is short, `more` may be "". */
  status() {
    const n = this.unsaved;
    const kept = this.durable ? "kept in this browser" : "keep this tab open";
    if (n && (this.failures || this.problem)) return { level: "waiting", text: `${n} not saved yet`, more: this.problem || kept };
    if (n) return { level: "saving", text: `Saving ${n}`, more: "" };
    if (this.failures > 1) return { level: "waiting", text: "No connection", more: "the server does not answer" };
    if (this.rejected.length) return { level: "waiting", text: `${this.rejected.length} refused`, more: this.rejected.at(-1)[1] };
    return { level: "saved", text: "✓ All saved", more: "" };
  }

  // ---- new verdicts ---------------------------------------------------------------------------------------------

  enqueue(kind, project, all) {
    const which = `${kind} ${project}`;
    let box = this.own.get(which);
    if (!box) {
      const client = `${this.tab}.${this.own.size + 1}`;
      box = { key: `${OUTBOX}${this.installation}.${project}.${client}`, kind, project, client, seq: 0, events: [] };
      this.own.set(which, box);
    }
    for (const said of all) box.events.push({ client: box.client, seq: ++box.seq, inspector: this.inspector, ...said });
    this.save(box);
    this.changed();
    this.pump();
  }

  // ---- sending ------------------------------------------------------------------------------------------------

  async pump() {
    if (this.pumping || this.installation === null) return;
    this.pumping = true;
    try {
      for (;;) {
        const box = this.boxes().find((b) => b.events.length && this.tokens[b.project] && !(b.blockedUntil > Date.now()));
        if (!box) break;
        if (!(await this.send(box))) await this.pause(RETRY_MS[Math.min(this.failures, RETRY_MS.length) - 1] ?? RETRY_MS[0]);
      }
    } finally {
      this.pumping = false;
    }
  }

  /** Post the head of a box (or nothing, to ask for news). True when the server answered. */
  async send(box, project = box?.project) {
    const events = (box?.events ?? []).slice(0, BATCH);
    const watch = [...this.watchers].flatMap((images) => images());
    let answer;
    try {
      const response = await fetch(ADDRESSES[box?.kind ?? "label"], this.request(project, events, watch));
      if (response.status === 403 || response.status === 400 || response.status === 413) {
        if (box) box.blockedUntil = Date.now() + 10000; // others go on; this one is tried again later
        this.problem = "please reload this page";
        setTimeout(() => this.pump(), 10100);
      }
      if (!response.ok) throw new Error(`status ${response.status}`);
      answer = await response.json();
    } catch {
      if (box?.kind === "map") {
        box.blockedUntil = Date.now() + MAP_RETRY_MS; // labels do not wait for it
        setTimeout(() => this.pump(), MAP_RETRY_MS + 100);
      }
      this.failures += 1;
      this.changed();
      return false;
    }
    this.failures = 0;
    this.problem = "";
    if (box) this.acknowledge(box, answer);
    if (answer.counts) this.learnCounts(project, answer.counts, answer.now);
    this.learn(Object.entries(answer.labels ?? {}).map(([image, label]) => [Number(image), label]), answer.now);
    this.changed();
    return true;
  }

  request(project, events, watch) {
    const plain = events.map(({ was, ...event }) => event);
    return {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token: this.tokens[project], events: plain, watch: watch.slice(0, 500) }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    };
  }

  acknowledge(box, { acks, rejected, now }) {
    const highest = acks?.[box.client] ?? 0;
    const refused = new Map((rejected ?? []).filter(([client]) => client === box.client).map(([, seq, why]) => [seq, why]));
    for (const event of box.events) {
      if (event.seq > highest) continue;
      if (refused.has(event.seq)) this.rejected.push([event.seq, refused.get(event.seq)]);
      else this.learn([[subjectOf(event), stateAfter(event)]], now);
    }
    box.events = box.events.filter((event) => event.seq > highest);
    this.save(box);
    if (!box.events.length) box.drained?.();
  }

  learnCounts(project, counts, now) {
    const have = this.counts.get(project);
    if (!have || have.at <= now) this.counts.set(project, { ...counts, at: now });
  }

  pause(milliseconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(done, milliseconds * (0.8 + 0.4 * Math.random()));
      const queue = this;
      queue.wake = done;
      function done() {
        clearTimeout(timer);
        queue.wake = null;
        resolve();
      }
    });
  }

  changed() {
    if (this.notifying) return;
    this.notifying = true;
    queueMicrotask(() => {
      this.notifying = false;
      for (const listener of [...this.listeners]) listener();
    });
  }
}

const queue = (globalThis[Symbol.for("ssn.label-queue.1")] ??= new LabelQueue());
