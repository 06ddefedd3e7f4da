// Leases: while one inspector has an image before him, nobody else on the same queue is served it.
//
// Images are asked for ahead, so that no key waits for the answer. An installation without the route goes on without.

const LEASE_MOST = 400; // images asked for in one request
const LEASE_PAUSE_MS = 250; // between two requests
const LEASE_DEFAULT_S = 45;
const RENEW_MS = 10000;

class Leases {
  constructor(project, told) {
    this.project = project;
    this.told = told; // called when the answer has changed something
    this.held = new Map(); // image -> the other inspector who has it
    this.mine = new Set();
    this.wanted = [];
    this.people = { labels: {}, atWork: {} }; // inspector -> images with his label, images he has now
    this.off = false;
    this.open = false;
    this.renewAt = 0;
  }

  /** Who else has this image, or undefined. */
  holder(image) {
    return this.held.get(image);
  }

  /** Whether it is known who has this image. */
  knows(image) {
    return this.off || this.mine.has(image) || this.held.has(image);
  }

  /**
   * Keep these images, and give back those that are no longer among them. The server is asked when one of the first
   * `near` is not known yet, or when the leases are a third through; so a key press seldom costs a request.
   */
  want(images, near) {
    if (this.off) return;
    this.open = true;
    this.wanted = images.slice(0, LEASE_MOST);
    this.near = near;
    const stale = performance.now() > this.renewAt;
    if (stale || this.wanted.slice(0, near).some((image) => !this.knows(image))) this.ask();
  }

  async ask() {
    if (this.busy || !queue.inspector) return;
    this.busy = true;
    const images = this.wanted;
    const wanted = new Set(images);
    const release = [...this.mine].filter((image) => !wanted.has(image)).slice(0, LEASE_MOST);
    try {
      const response = await fetch("/ssn/leases", this.request(images, release));
      if (response.status === 404 || response.status === 405) this.off = true;
      if (!response.ok) throw new Error(`status ${response.status}`);
      const answer = await response.json();
      const seconds = Number(answer.seconds) || LEASE_DEFAULT_S;
      for (const image of release) this.mine.delete(image);
      for (const image of images) {
        this.mine.delete(image);
        this.held.delete(image);
      }
      for (const image of answer.granted ?? []) this.mine.add(image);
      for (const [image, inspector] of Object.entries(answer.held ?? {})) this.held.set(Number(image), inspector);
      this.people = { labels: answer.inspectors ?? {}, atWork: answer.at_work ?? {} };
      this.renewAt = performance.now() + (seconds * 1000) / 3;
      this.told();
    } catch {
      this.renewAt = performance.now() + 5000; // nobody waits for a lease: verdicts are stored with or without
    }
    setTimeout(() => {
      this.busy = false;
      if (this.open) this.want(this.wanted, this.near);
    }, LEASE_PAUSE_MS);
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.open && this.want(this.wanted, this.near), RENEW_MS);
  }

  request(images, release) {
    const body = { token: queue.tokens[this.project], inspector: queue.inspector, client: queue.tab, images, release };
    return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  }

  /** Give everything back: another filter, another page, the end of the tab. */
  release() {
    this.open = false;
    clearTimeout(this.timer);
    const images = [...this.mine].slice(0, LEASE_MOST);
    this.mine.clear();
    this.held.clear();
    this.wanted = [];
    if (images.length && !this.off && queue.inspector)
      fetch("/ssn/leases", { ...this.request([], images), keepalive: true }).catch(() => {}); // they run out by themselves
  }
}
