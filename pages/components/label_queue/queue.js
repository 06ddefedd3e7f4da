// The label queue: verdicts leave the browser once each, whatever happens on the way.
//
// One queue per browser tab, shared by all components through globalThis (each component is a module of its own).
// A verdict gets a sequence number, goes into localStorage (the outbox), is shown at once, and is posted until the
// server has acknowledged it. The server ignores a (client, sequence number) it has already stored, so sending
// twice is harmless. Outboxes of tabs that are gone are adopted: a Web Lock, held for the life of a tab, says
// which ones are alive.
//
// There are two kinds of verdict: on an image ("label") and on where a model's map of it looks ("map"). Each kind has
// outboxes and an address of its own, so that labels never wait for the other kind. A verdict's subject is the image,
// or "<model>.<image>".
//
// This file has no exports: Python puts it in front of each component's own module code.

const VERDICT_NAMES = ["good", "bad", "unsure"];
const BATCH = 200; // events in one request: about 40 kB, below the limit of requests that outlive the page
const RETRY_MS = [400, 800, 1600, 3200, 5000];
const POLL_MS = 4000; // how often an idle, visible tab asks for the work of others
const ADOPT_MS = 15000; // how often a tab looks for outboxes of dead tabs
const TIMEOUT_MS = 20000;
const ALIVE_MS = 150000; // without Web Locks: a tab silent for longer counts as gone (timers slow down to 60 s)
const REMOUNT_MS = 400; // Streamlit may remount a component's element: keys pressed meanwhile still count
const OUTBOX = "ssn.outbox.";
const ADDRESSES = { label: "/ssn/labels", map: "/ssn/map-verdicts" };
const MAP_RETRY_MS = 5000;

const mapSubject = (model, image) => `${model}.${image}`;
const subjectOf = (event) => (event.model_id === undefined ? event.image_id : mapSubject(event.model_id, event.image_id));
const stateAfter = (event) => (event.verdict === "cleared" ? null : event.verdict);

function randomId() {
  if (globalThis.crypto?.randomUUID) return crypto.randomUUID(); // exists only on https and localhost
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

function readJson(storage, key, fallback) {
  try {
    return JSON.parse(storage.getItem(key)) ?? fallback;
  } catch {
    return fallback; // storage is forbidden, or somebody else wrote there
  }
}

class LabelQueue {
  constructor() {
    this.installation = null;
    this.tokens = {}; // project -> permission to post
    this.project = null; // the project whose counts are watched
    this.inspector = "";
    this.own = new Map(); // kind and project -> box {key, kind, project, client, seq, events}
    this.adopted = new Map(); // outbox key -> box
    this.known = new Map(); // subject -> {label, at}: what the server said, and when (server time)
    this.counts = new Map(); // project -> {at, total, good, bad, unsure, unlabelled}
    this.undoStack = []; // this tab's verdicts, newest last
    this.rejected = []; // [sequence number, reason] of verdicts the server cannot use
    this.failures = 0; // requests failed in a row
    this.problem = ""; // for people, when waiting will not help
    this.durable = true; // false when the browser refuses to keep the outbox
    this.tab = randomId();
    this.watchers = new Set(); // functions that return the images on the screen
    this.listeners = new Set();
    this.wake = null;
    this.pumping = false;
    this.holdTabLock();
    this.listen();
  }

  // ---- what components call -----------------------------------------------------------------------------------

  /** Take over what the page knows: {installation, tokens, project, inspector, counts, now}. */
  configure({ installation, tokens, project, inspector, counts, now }) {
    const first = this.installation === null;
    this.installation = installation;
    this.tokens = tokens;
    this.project = project;
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
  record(project, { image, verdict, origin, seconds = null, name = "" }) {
    if (!this.inspector) return false;
    const was = this.label(image);
    this.undoStack.push({ kind: "label", project, image, verdict, was, name });
    this.enqueue("label", project, { image_id: image, verdict, was, origin, seconds, is_undo: false });
    return true;
  }

  /** One verdict on a model's map of an image. Returns false when nobody has said who is looking. */
  recordMap(project, { model, image, verdict, name = "" }) {
    if (!this.inspector) return false;
    const was = this.mapVerdict(model, image);
    this.undoStack.push({ kind: "map", project, model, image, verdict, was, name });
    this.enqueue("map", project, { model_id: model, image_id: image, verdict, was });
    return true;
  }

  /**
   * Take back this tab's newest verdict; returns {kind, image, was, name}, or null when there is none left.
   * A verdict that somebody else has changed since is left alone: then {overruled: true, now, ...}.
   * `seen` tells of a step whether the page shows what it changed: nobody takes back what he cannot see.
   */
  undo(project, origin, seen = ({ kind }) => kind === "label") {
    if (!this.inspector) return null;
    const at = this.undoStack.findLastIndex((step) => step.project === project && seen(step));
    if (at < 0) return null;
    const [step] = this.undoStack.splice(at, 1);
    const now = step.kind === "map" ? this.mapVerdict(step.model, step.image) : this.label(step.image);
    if (now !== step.verdict) return { ...step, now, overruled: true };
    const back = { image_id: step.image, verdict: step.was ?? "cleared", was: now };
    if (step.kind === "map") this.enqueue("map", project, { ...back, model_id: step.model });
    else this.enqueue("label", project, { ...back, origin, seconds: null, is_undo: true });
    return step;
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

  // ---- boxes --------------------------------------------------------------------------------------------------

  /** Boxes in the order in which their verdicts were given: those of dead tabs first. */
  boxes() {
    return [...this.adopted.values(), ...this.own.values()];
  }

  pending() {
    if (!this.pendingLabels) {
      this.pendingLabels = new Map();
      for (const box of this.boxes())
        for (const event of box.events) this.pendingLabels.set(subjectOf(event), stateAfter(event));
    }
    return this.pendingLabels;
  }

  enqueue(kind, project, said) {
    const which = `${kind} ${project}`;
    let box = this.own.get(which);
    if (!box) {
      const client = `${this.tab}.${this.own.size + 1}`;
      box = { key: `${OUTBOX}${this.installation}.${project}.${client}`, kind, project, client, seq: 0, events: [] };
      this.own.set(which, box);
    }
    box.events.push({ client: box.client, seq: ++box.seq, inspector: this.inspector, ...said });
    this.save(box);
    this.changed();
    this.pump();
  }

  save(box) {
    this.pendingLabels = null;
    try {
      if (box.events.length) localStorage.setItem(box.key, JSON.stringify(box.events));
      else localStorage.removeItem(box.key);
      this.durable = true;
    } catch {
      this.durable = false; // full or forbidden: the verdicts stay in memory, and the page says so
    }
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

  // ---- other tabs, dead tabs, the end of this tab -------------------------------------------------------------

  holdTabLock() {
    if (navigator.locks) navigator.locks.request(this.lockName(this.tab), () => new Promise(() => {}));
    const alive = () => {
      try {
        localStorage.setItem(`ssn.alive.${this.tab}`, String(Date.now()));
      } catch {
        this.durable = false;
      }
    };
    if (!navigator.locks) {
      alive();
      setInterval(alive, 5000);
    }
  }

  lockName(tab) {
    return `ssn.tab.${tab}`;
  }

  /** Look for outboxes of dead tabs. A tab that is being reloaded lets go of its lock a moment late: look again. */
  lookAgain() {
    for (const wait of [0, 300, 1000, 3000]) setTimeout(() => this.adopt(), wait);
    setInterval(() => this.adopt(), ADOPT_MS);
    setInterval(() => this.poll(), POLL_MS);
  }

  adopt() {
    const prefix = `${OUTBOX}${this.installation}.`;
    let keys = [];
    try {
      keys = Object.keys(localStorage).filter((key) => key.startsWith(prefix));
    } catch {
      return; // storage is forbidden: there is nothing to adopt
    }
    for (const key of keys) {
      const [project, tab] = key.slice(prefix.length).split(".");
      if (tab === this.tab || this.adopted.has(key) || !this.tokens[project]) continue;
      if (navigator.locks) {
        // Held until the box is empty: no second tab adopts it meanwhile, and if this tab dies another one can.
        navigator.locks.request(this.lockName(tab), { ifAvailable: true }, (lock) => (lock ? this.take(key, Number(project)) : null));
      } else if (Date.now() - Number(readJson(localStorage, `ssn.alive.${tab}`, 0)) > ALIVE_MS) {
        this.take(key, Number(project));
      }
    }
  }

  take(key, project) {
    const events = readJson(localStorage, key, []); // read under the lock
    if (!Array.isArray(events) || !events.length || this.adopted.has(key)) return null;
    return new Promise((resolve) => {
      const drained = () => {
        this.adopted.delete(key);
        this.pendingLabels = null;
        resolve();
      };
      const kind = events[0].model_id === undefined ? "label" : "map";
      this.adopted.set(key, { key, kind, project, client: events[0].client, events, drained });
      this.pendingLabels = null;
      this.changed();
      this.pump();
    });
  }

  poll() {
    if (document.hidden || this.pumping || this.unsaved || !this.tokens[this.project]) return;
    this.send(null, this.project);
  }

  listen() {
    addEventListener("online", () => this.wake?.());
    document.addEventListener("visibilitychange", () => (document.hidden ? this.lastWords() : this.poll()));
    addEventListener("pagehide", () => this.lastWords());
  }

  /** The page may be going away: send once more in a request that outlives it. The outbox stays until acknowledged. */
  lastWords() {
    for (const box of this.own.values()) {
      if (!box.events.length || !this.tokens[box.project]) continue;
      const { signal, ...request } = this.request(box.project, box.events.slice(0, BATCH), []);
      fetch(ADDRESSES[box.kind], { ...request, keepalive: true }).catch(() => {}); // the next page adopts the outbox
    }
  }
}

const queue = (globalThis[Symbol.for("ssn.label-queue.1")] ??= new LabelQueue());
