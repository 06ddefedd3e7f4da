// The list behind the label board: which images, in which order, in which stacks, and what is fetched ahead of the eye.

const DETAILS = 200; // images in one request for names and labels
const AHEAD = 8; // full-size images fetched ahead in the one-image view
const STACK_MOST = 50; // images: a larger group (all of one batch, say) is no stack that a single verdict fits
const WALK_MOST = 5000; // places: how far ahead free images are looked for
const FILTERS = ["all", "none", "good", "bad", "unsure"];
const ORDERS = {
  oldest: "Oldest first",
  informative: "Most informative first",
  suspicious: "Most suspicious first",
  disagreement: "Label against model first",
  random: "Random order",
};

const kept = {
  read: (storage, key, fallback) => readJson(storage, key, fallback),
  write(storage, key, value) {
    try {
      storage.setItem(key, JSON.stringify(value));
    } catch {
      return; // comfort only: the place, the size and the view are chosen anew next time
    }
  },
};

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Stop loading pictures nobody will see: a browser opens six connections, and verdicts need one of them. */
function forget(images) {
  for (const image of images) if (!image.complete) image.removeAttribute("src");
}

/** Why there is no picture at an address, for people; empty where there may be one later. `again`: it failed before. */
async function whyNone(address, again) {
  try {
    const answer = await fetch(address);
    if (answer.status === 404) return (await answer.json()).error;
    await answer.body?.cancel();
    return answer.ok && again ? "The stored file of this picture is damaged: it cannot be shown." : "";
  } catch {
    return ""; // no answer at all: it is starting again
  }
}

/** Try again later when a picture could not be loaded and is still wanted, unless the server says that it has none. */
function persist(image, wait = 1500) {
  image.onerror = () => setTimeout(async () => {
    const address = image.getAttribute("src");
    if (!address || !image.isConnected) return;
    const reason = await whyNone(address, wait > 1500);
    if (image.getAttribute("src") !== address) return; // it shows another picture by now
    if (reason) {
      image.alt = image.title = reason;
      image.classList.add("missing");
      return;
    }
    persist(image, Math.min(2 * wait, 15000));
    image.src = address;
  }, wait);
  return image;
}

class BoardList {
  constructor(data) {
    this.project = data.project;
    this.data = data;
    this.items = new Map(); // image -> {id, name, w, h, label}
    this.asked = new Set(); // images whose details are on their way
    this.pictures = new Map(); // image -> full-size Image, fetched ahead
    this.brokenAtFirst = new Set(); // images whose full-size picture could not be had at first
    this.filter = null;
    this.picked = null; // the order that the inspector chose in this tab; null: none, so the best one that can be had
    this.waiting = false; // the best order could not be had yet, and the list stays as it is until it is asked for
    this.order = "oldest";
    this.reason = ""; // why the order cannot be had, for people
    this.all = null; // every image of the list, in its order; null: not loaded yet
    this.stackOf = new Map(); // image -> images of its stack
    this.opened = new Set(); // stacks (arrays) that are laid out image by image
    this.stacked = kept.read(localStorage, "ssn.stacks", true) !== false;
    this.ids = null; // what the board shows: images, and of each closed stack its first image
    this.current = 0; // place in ids; ids.length means past the end, where no key can give a verdict
    this.selection = new Selection();
    this.given = new Set(); // images that this tab has given a verdict
    this.chosen = false; // the current image was gone to although it was known that another has it
    this.leases = new Leases(data.project, (images) => this.refresh(images), () => this.leasesCame());
  }

  storageKey(name) {
    return `ssn.${name}.${queue.installation}.${this.project}`;
  }

  startFilter() {
    const filter = kept.read(sessionStorage, this.storageKey("filter"), null);
    if (FILTERS.includes(filter)) return filter;
    return queue.liveCounts(this.project)?.unlabelled ? "none" : "all";
  }

  startOrder() {
    const order = kept.read(sessionStorage, this.storageKey("order"), null);
    return order in ORDERS ? order : null;
  }

  /** The order that saves labels, where there is something to label; what is labelled is looked through as it came in. */
  bestOrder(filter) {
    return filter === "none" && !this.waiting ? "informative" : "oldest";
  }

  /** Whether the order that saves labels can be had by now, although this list was read without it. */
  get betterIsReady() {
    return this.picked === null && this.filter === "none" && this.waiting && this.leases.compared;
  }

  takeBetter() {
    this.waiting = false;
    this.load(this.filter);
  }

  async get(path, query) {
    const response = await fetch(`${path}?${new URLSearchParams({ t: this.data.token, ...query })}`);
    if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? `status ${response.status}`);
    return response.json();
  }

  url(kind, id) {
    return `/ssn/${kind}/${id}?t=${this.data.token}`;
  }

  // ---- reading the list ---------------------------------------------------------------------------------------

  /** Read the list anew; a random order is a new one when it is asked for again. */
  async load(filter, picked = this.picked) {
    const turn = (this.turn = (this.turn ?? 0) + 1);
    this.leases.release();
    clearTimeout(this.retry);
    let order = picked ?? this.bestOrder(filter);
    [this.filter, this.picked, this.order] = [filter, picked, order];
    kept.write(sessionStorage, this.storageKey("filter"), filter);
    kept.write(sessionStorage, this.storageKey("order"), picked);
    this.paint();
    try {
      const query = { filter, order };
      if (order === "random") query.seed = String(crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000);
      let { ids, stacks, reason } = await this.get("/ssn/list", query);
      if (turn !== this.turn) return;
      if (reason && picked === null) {
        this.order = order = "oldest"; // nobody waits until the images have been compared
        this.waiting = true;
        ({ ids, stacks, reason } = await this.get("/ssn/list", { filter, order }));
        if (turn !== this.turn) return;
      }
      this.all = ids;
      this.reason = reason ?? "";
      this.takeStacks(stacks ?? []);
      const place = kept.read(sessionStorage, this.storageKey(`place.${filter}.${order}`), 0);
      // The oldest come first in the order of their numbers: where an image has left the list, its successor follows.
      const at = this.ids.findIndex((id) => (order === "oldest" ? id >= place : id === place));
      this.current = at < 0 ? 0 : at;
      this.chosen = false;
      this.selection.keepOnly(this.ids);
      this.failed = "";
      await this.details(Math.max(0, this.current - 60), this.current + DETAILS - 60);
      if (turn !== this.turn) return;
    } catch (error) {
      if (turn !== this.turn) return;
      this.failed = error.message;
      this.retry = setTimeout(() => this.load(filter, picked), 3000);
    }
    this.message = this.reason && this.ids?.length ? this.reason : "";
    this.shownAt = performance.now();
    this.layout(true);
  }

  takeStacks(stacks) {
    const listed = stacks.length ? new Set(this.all) : null;
    this.stackOf = new Map();
    this.opened = new Set();
    for (const stack of stacks) {
      const members = stack.filter((id) => listed.has(id));
      if (members.length < 2 || members.length > STACK_MOST) continue;
      for (const id of members) this.stackOf.set(id, members);
    }
    this.fold();
  }

  /** Work out what is shown: a closed stack stands where its first image is. */
  fold() {
    const seen = new Set();
    this.ids = !this.stacked || !this.stackOf.size ? this.all : this.all.filter((id) => {
      const stack = this.stackOf.get(id);
      if (!stack || this.opened.has(stack)) return true;
      if (seen.has(stack)) return false;
      seen.add(stack);
      return true;
    });
    this.selection.keepOnly(this.ids);
    this.stripTiles?.clear();
  }

  /** Read the labels of these images as they are now. */
  async refresh(images) {
    for (let start = 0; start < images.length; start += DETAILS) {
      const { items, now } = await this.get("/ssn/details", { ids: images.slice(start, start + DETAILS).join(",") });
      for (const item of items) this.items.set(item.id, item);
      queue.learn(items.map((item) => [item.id, item.label]), now);
    }
  }

  /** The closed stack at this image, or null. */
  stackAt(id) {
    const stack = this.stacked ? this.stackOf.get(id) : null;
    return stack && !this.opened.has(stack) ? stack : null;
  }

  /** Every image that a verdict on this one is for. */
  members(id) {
    return this.stackAt(id) ?? [id];
  }

  /** Open the stack at the current image, or close it; false when there is none. */
  turnStack() {
    const id = this.ids?.[this.current];
    const stack = this.stacked ? this.stackOf.get(id) : null;
    if (!stack) return false;
    if (!this.opened.delete(stack)) this.opened.add(stack);
    this.fold();
    const first = this.all.find((member) => this.stackOf.get(member) === stack);
    this.current = Math.max(0, this.ids.indexOf(this.opened.has(stack) ? id : first));
    this.layout(true);
    return true;
  }

  showStacks(on) {
    const id = this.ids?.[this.current];
    this.stacked = on;
    kept.write(localStorage, "ssn.stacks", on);
    if (!this.all) return;
    this.fold();
    const at = this.ids.indexOf(id);
    this.current = Math.max(0, at >= 0 ? at : this.ids.findIndex((other) => this.stackOf.get(other)?.includes(id)));
    this.layout(true);
  }

  // ---- fetching ahead -----------------------------------------------------------------------------------------

  /** Fetch names, sizes and labels of ids[from..to), with those in stacks, that are not here yet. */
  async details(from, to) {
    const shown = this.ids.slice(Math.max(0, from), to).flatMap((id) => this.members(id));
    const missing = shown.filter((id) => !this.items.has(id) && !this.asked.has(id));
    for (let start = 0; start < missing.length; start += DETAILS) {
      const some = missing.slice(start, start + DETAILS);
      for (const id of some) this.asked.add(id);
      try {
        await this.refresh(some);
      } finally {
        for (const id of some) this.asked.delete(id);
      }
    }
    if (missing.length) this.paint();
  }

  lookAhead() {
    const page = this.columns * this.rows || DETAILS;
    const [from, to] = [this.current - page, this.current + 2 * page + 60];
    this.details(from, to).catch(() => setTimeout(() => this.root && this.lookAhead(), 2000));
    this.askLeases(page);
    if (this.view === "board") {
      const next = this.pageStart() + page;
      if (this.aheadOf === next) return;
      this.aheadOf = next;
      forget(this.ahead ?? []);
      this.ahead = this.ids.slice(next, next + page).map((id) => Object.assign(new Image(), { src: this.url("thumb", id) }));
      return;
    }
    const near = new Set(this.ids.slice(Math.max(0, this.current - 2), this.current + AHEAD + 1));
    for (const [id, image] of this.pictures) {
      if (near.has(id)) continue;
      forget([image]);
      this.pictures.delete(id);
    }
    for (const id of this.ids.slice(this.current, this.current + AHEAD + 1)) this.picture(id);
  }

  picture(id) {
    let image = this.pictures.get(id);
    if (!image) {
      image = Object.assign(new Image(), { fetchPriority: this.ids[this.current] === id ? "high" : "auto", src: this.url("image", id), alt: this.items.get(id)?.name ?? "", draggable: false });
      this.pictures.set(id, image);
      image.decode().then(
        () => ((image.ready = true), this.ids?.[this.current] === id && this.paint()),
        () => setTimeout(async () => {
          if (this.pictures.get(id) !== image) return;
          const again = this.brokenAtFirst.has(id);
          this.brokenAtFirst.add(id);
          image.reason = await whyNone(image.src, again);
          if (this.pictures.get(id) !== image) return;
          if (!image.reason) this.pictures.delete(id); // asked for again when it is painted or near
          if (this.ids?.[this.current] === id) this.paint();
        }, 1500),
      );
    }
    return image;
  }

  /** Images on the screen, for news about their labels. */
  visible() {
    if (!this.ids) return [];
    const [from, to] = this.view === "single" ? [Math.max(0, this.current - 12), this.current + 13] : [this.pageStart(), this.pageStart() + this.columns * this.rows];
    return this.ids.slice(from, to).flatMap((id) => this.members(id));
  }

  pageStart() {
    const page = Math.max(1, this.columns * this.rows);
    return Math.floor(Math.min(this.current, Math.max(0, this.ids.length - 1)) / page) * page;
  }

  // ---- working beside others ----------------------------------------------------------------------------------

  /** Whether the list is work to be shared out; in the others everybody may look at everything. */
  get isQueue() {
    return this.filter === "none" || this.order !== "oldest";
  }

  askLeases(page) {
    if (!this.isQueue || !this.ids?.length) return this.leases.want([], 0); // the news alone: who is at work
    const single = this.view === "single";
    const wanted = [];
    const most = single ? 3 * AHEAD : 2 * page;
    const from = single ? this.current : this.pageStart();
    for (let at = from; at < Math.min(this.ids.length, from + WALK_MOST) && wanted.length < most; at++)
      if (!this.isTaken(this.ids[at])) wanted.push(this.ids[at]);
    return this.leases.want(wanted.flatMap((id) => this.members(id)), single ? AHEAD : page);
  }

  /** The other inspector who has an image (or one of its stack), or undefined. */
  holder(id) {
    if (!this.isQueue || id === undefined) return undefined;
    for (const member of this.members(id)) {
      const inspector = this.leases.holder(member);
      if (inspector !== undefined) return inspector;
    }
    return undefined;
  }

  /** Whether another has an image now or, in the list of unlabelled ones, has labelled it since. */
  isTaken(id) {
    return this.holder(id) !== undefined || (this.filter === "none" && queue.label(id) !== null && !this.given.has(id));
  }

  /** The first place from `at` on that is not taken; the end of the list when there is none. */
  nextFree(at) {
    let place = at;
    while (place < this.ids.length && this.isTaken(this.ids[place])) place += 1;
    return place;
  }

  leasesCame() {
    if (!this.root || !this.ids) return;
    const id = this.ids[this.current];
    if (id !== undefined && this.isTaken(id) && !this.chosen) {
      const holder = this.holder(id);
      const free = this.nextFree(this.current);
      if (free < this.ids.length) {
        this.move(free, { chosen: false });
        this.message = holder === undefined ? "" : `${holder} has the images before this one`;
      }
    } else this.askLeases(this.columns * this.rows || DETAILS); // some of those asked for may be done already
    this.paint();
  }
}
