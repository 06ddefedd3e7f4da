// Leases: while one inspector has an image before him, nobody else on the same queue is served it.
//
// Images are asked for ahead, so that no key waits for the answer. An installation without the route goes on without.

const LEASE_MOST = 400; // images asked for in one request
const LEASE_PAUSE_MS = 250; // between two requests
const LEASE_DEFAULT_S = 45;
const LOOK_MS = 5000; // between two looks
const AWAY_MS = 180000; // without a key or the pointer: whoever left his place holds nothing up
const QUIET_MS = 5000; // after a request that failed

class Leases {
  /** `refresh(images)` reads labels anew; `told` is called when an answer has come. */
  constructor(project, refresh, told) {
    this.project = project;
    this.refresh = refresh;
    this.told = told;
    this.held = new Map(); // image -> {inspector, until}: who else has it, and how long that is known
    this.mine = new Set();
    this.wanted = [];
    this.people = { labels: {}, atWork: {} }; // inspector -> images with his label, images he has now
    this.compared = false; // whether the server has compared the images with each other, so that the best to label are known
    this.off = false;
    this.open = false;
    this.timer = null; // while open: the look at whether the leases have to be renewed
    this.renewAt = this.quietUntil = 0;
    this.activeAt = performance.now();
    const active = () => {
      const back = this.away;
      this.activeAt = performance.now();
      if (back && this.open) this.want(this.wanted, this.near); // at once: others may have the images by now
    };
    for (const kind of ["keydown", "pointermove", "pointerdown", "wheel"]) addEventListener(kind, active, { capture: true, passive: true });
  }

  get away() {
    return performance.now() - this.activeAt > AWAY_MS;
  }

  /** Who else has this image, or undefined. */
  holder(image) {
    const held = this.held.get(image);
    return held && held.until > performance.now() ? held.inspector : undefined;
  }

  /** Whether it is known who has this image. */
  knows(image) {
    return this.off || this.mine.has(image) || this.holder(image) !== undefined;
  }

  /**
   * Keep these images, and give back those that are no longer among them. The server is asked when one of the first
   * `near` is not known yet, or when the leases are a third through; so a key press seldom costs a request.
   */
  want(images, near) {
    if (this.off) return;
    this.open = true;
    this.timer ??= setInterval(() => this.want(this.wanted, this.near), LOOK_MS);
    this.wanted = images.slice(0, LEASE_MOST);
    this.near = near;
    const stale = performance.now() > this.renewAt;
    if (performance.now() < this.quietUntil) return;
    if (stale || (!this.away && this.wanted.slice(0, near).some((image) => !this.knows(image)))) this.ask();
  }

  async ask() {
    if (this.busy || !queue.inspector) return;
    this.busy = true;
    const images = this.away ? [] : this.wanted;
    const wanted = new Set(images);
    const release = [...this.mine].filter((image) => !wanted.has(image)).slice(0, LEASE_MOST);
    try {
      const response = await fetch("/ssn/leases", this.request(images, release));
      if (response.status === 404 || response.status === 405) this.off = true;
      if (!response.ok) throw new Error(`status ${response.status}`);
      const answer = await response.json();
      const seconds = Number(answer.seconds) || LEASE_DEFAULT_S;
      const granted = answer.granted ?? [];
      // Whoever had an image before may have labelled it: only its label as of now says that it is free.
      await this.refresh(granted.filter((image) => !this.mine.has(image)));
      for (const image of release) this.mine.delete(image);
      for (const image of images) {
        this.mine.delete(image);
        this.held.delete(image);
      }
      for (const image of granted) this.mine.add(image);
      for (const [image, inspector] of Object.entries(answer.held ?? {})) this.held.set(Number(image), { inspector, until: performance.now() + seconds * 1000 });
      this.people = { labels: answer.inspectors ?? {}, atWork: answer.at_work ?? {} };
      this.compared = answer.compared === true;
      this.renewAt = performance.now() + (seconds * 1000) / 3;
      this.told();
    } catch {
      this.quietUntil = performance.now() + QUIET_MS; // nobody waits for a lease: verdicts are stored with or without
    }
    setTimeout(() => {
      this.busy = false;
      if (this.open) this.want(this.wanted, this.near);
    }, LEASE_PAUSE_MS);
  }

  request(images, release) {
    const body = { token: queue.tokens[this.project], inspector: queue.inspector, client: queue.tab, images, release };
    return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  }

  /** Give everything back: another filter, another page, the end of the tab. */
  release() {
    this.open = false;
    clearInterval(this.timer);
    this.timer = null;
    const images = [...this.mine].slice(0, LEASE_MOST);
    this.mine.clear();
    this.held.clear();
    this.wanted = [];
    if (images.length && !this.off && queue.inspector)
      fetch("/ssn/leases", { ...this.request([], images), keepalive: true }).catch(() => {}); // they run out by themselves
  }
}
