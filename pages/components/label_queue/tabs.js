// The outboxes of all tabs of this browser: kept in localStorage, and taken over when their tab is gone.
//
// The lower half of the label queue (queue.js), which stands behind this file in each component's module.

const ADOPT_MS = 15000; // how often a tab looks for outboxes of dead tabs
const POLL_MS = 4000; // how often an idle, visible tab asks for the work of others
const ALIVE_MS = 150000; // without Web Locks: a tab silent for longer counts as gone (timers slow down to 60 s)
const OUTBOX = "ssn.outbox.";

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

class TabOutboxes {
  constructor() {
    this.installation = null;
    this.tokens = {}; // project -> permission to post
    this.own = new Map(); // kind and project -> box {key, kind, project, client, seq, events}
    this.adopted = new Map(); // outbox key -> box
    this.durable = true; // false when the browser refuses to keep the outbox
    this.tab = randomId();
    this.holdTabLock();
    this.listen();
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
