// Blind verdicts (of a study, or second opinions) on their way to the server: kept in the browser until they are stored, in their order.
//
// The label queue (queue.js, in front of this file) belongs to labels; a study's verdicts are none, so they have an
// outbox of their own: one for each study and inspector, whose tab holds a lock, so that two tabs never mix.

class StudyOutbox {
  constructor({ installation, study, inspector, token, desk }, changed) {
    this.key = `ssn.${desk.kind}.${installation}.${study}.${inspector}`;
    this.study = study;
    this.desk = desk;
    this.inspector = inspector;
    this.token = token;
    this.changed = changed;
    this.failures = 0; // requests failed in a row
    this.problem = ""; // for people, when waiting will not help
    this.durable = true;
    this.open = false; // true while this tab holds the lock
    this.box = { client: randomId(), seq: 0, events: [] };
    addEventListener("pagehide", () => this.lastWords());
    addEventListener("online", () => this.wake?.());
  }

  /** Hold the lock until stop(); waits while another tab judges the same study. False when stopped meanwhile. */
  async start() {
    this.stopping = false;
    if (this.controller) return this.open;
    const { signal } = (this.controller = new AbortController());
    if (navigator.locks) {
      const locked = await new Promise((resolve) => {
        const hold = () => new Promise((release) => {
          this.release = release;
          resolve(true);
        });
        navigator.locks.request(this.key, { signal }, hold).catch(() => resolve(false)); // given up while waiting
      });
      if (!locked) return false;
    }
    const kept = readJson(localStorage, this.key, null); // read under the lock
    if (kept && typeof kept.client === "string" && Array.isArray(kept.events)) this.box = kept;
    this.open = true;
    this.changed();
    return true;
  }

  /** Let another tab go on, once everything is stored. */
  stop() {
    this.stopping = true;
    if (this.unsaved || this.pumping) return;
    this.controller?.abort();
    this.release?.();
    this.controller = this.release = null;
    this.open = false;
  }

  get unsaved() {
    return this.box.events.length;
  }

  add(event) {
    this.box.events.push({ seq: ++this.box.seq, ...event });
    this.save();
    this.pump();
  }

  save() {
    try {
      localStorage.setItem(this.key, JSON.stringify(this.box));
      this.durable = true;
    } catch {
      this.durable = false; // full or forbidden: the verdicts stay in memory, and the page says so
    }
  }

  /** Send until nothing is left (at least once, to learn how far the inspector is); `answered` gets each answer. */
  async pump(ask = false) {
    if (this.pumping || !this.open) return;
    this.pumping = true;
    try {
      while (ask || this.box.events.length) {
        const answer = await this.send();
        if (answer) {
          ask = false;
          this.answered?.(answer);
        } else await this.pause(RETRY_MS[Math.min(this.failures, RETRY_MS.length) - 1]);
      }
    } finally {
      this.pumping = false;
      if (this.stopping) this.stop();
    }
  }

  async send() {
    try {
      const response = await fetch(this.desk.address, { ...this.request(), signal: AbortSignal.timeout(TIMEOUT_MS) });
      if (!response.ok) {
        this.problem = response.status < 500 ? ((await response.json().catch(() => ({}))).error ?? "please reload this page") : "";
        throw new Error(`status ${response.status}`);
      }
      const answer = await response.json();
      this.failures = 0;
      this.problem = "";
      this.box.events = this.box.events.filter((event) => event.seq > answer.done);
      this.save();
      return answer;
    } catch {
      this.failures += 1;
      this.changed();
      return null;
    }
  }

  request() {
    const { client, events } = this.box;
    const body = { ...this.desk.more, token: this.token, study: this.study, inspector: this.inspector, client, events: events.slice(0, BATCH) };
    return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  }

  pause(milliseconds) {
    return new Promise((resolve) => {
      this.wake = resolve;
      setTimeout(resolve, milliseconds);
    });
  }

  /** The page may be going away: send once more in a request that outlives it. */
  lastWords() {
    if (this.open && this.unsaved) fetch(this.desk.address, { ...this.request(), keepalive: true }).catch(() => {}); // the outbox stays
  }

  /** {level, text, more} for people, as the label queue says it. */
  status() {
    const n = this.unsaved;
    if (this.problem) return { level: "waiting", text: n ? `${n} not saved yet` : "Not saved", more: this.problem };
    if (n && this.failures) return { level: "waiting", text: `${n} not saved yet`, more: this.durable ? "kept in this browser" : "keep this tab open" };
    if (this.failures > 1) return { level: "waiting", text: "No connection", more: "the server does not answer" };
    return n ? { level: "saving", text: "Saving", more: "" } : { level: "saved", text: "✓ All saved", more: "" };
  }
}
