// How the label board looks: built once for each element, then painted from the state that board.js keeps.

const GAP = 8; // px between tiles
const EDGE_ROOM = 5; // px around the board, for the frame of the current tile
const BOTTOM = 26; // px below the board, of the page's own margin
const EDGE = { min: 90, max: 420, start: 170 }; // px: the side of a square tile of the same area
const MOSAIC = 4; // pictures on the tile of a stack

/** The drawing half of the board; `class Board` adds what the inspector does. */
class BoardView extends BoardList {
  build() {
    const { palette } = this.data;
    const p = (this.parts = {});
    const press = (button, action) => {
      button.type = "button";
      button.onclick = () => {
        action();
        this.root.focus({ preventScroll: true }); // so that keys go to the board again
      };
      return button;
    };
    p.views = { board: press(make("button", { textContent: "Board" }), () => this.show("board")), single: press(make("button", { textContent: "One image" }), () => this.show("single")) };
    p.keys = press(make("button", { className: "plain", textContent: "?", title: "Keys", ariaLabel: "Keys" }), () => this.toggleHelp());
    p.save = make("div", { className: "save" });
    p.save.setAttribute("role", "status");
    p.progress = make("div", { className: "progress" });
    p.bars = Object.fromEntries(VERDICT_NAMES.map((verdict) => {
      const bar = make("i");
      bar.style.background = palette[verdict].colour;
      p.progress.append(bar);
      return [verdict, bar];
    }));
    p.grid = make("div", { className: "grid" });
    p.stage = make("div", { className: "stage" });
    p.wasDrag = rubberBand(p.stage, () => (this.view === "board" ? this.tiles ?? [] : []), (ids, keep) => this.frame(ids, keep));
    p.strip = make("div", { className: "strip" });
    p.previous = press(make("button", { className: "plain", textContent: "‹ Previous" }), () => this.turnPage(-1));
    p.next = press(make("button", { className: "plain", textContent: "Next ›" }), () => this.turnPage(1));
    p.where = make("span");
    p.message = make("div", { className: "message" });
    p.message.setAttribute("role", "status");
    p.chosen = make("div", { className: "chosen" });
    p.chosen.setAttribute("role", "status");
    p.help = this.keyPanel.node;
    this.buildSingle(press, palette);
    const tools = this.buildTools(press);
    const views = make("div", { className: "segments" }, p.views.board, p.views.single);
    const head = make("div", { className: "head" }, this.buildFilters(press, palette), p.people, views, p.keys, p.save);
    const second = make("div", { className: "head tools" }, ...tools, make("div", { className: "spacer" }), p.sizeLabel, p.lens);
    p.foot = make("div", { className: "foot" }, p.previous, p.where, p.next);
    this.root.replaceChildren(head, p.help, second, p.progress, p.stage, p.strip, p.foot, p.chosen, p.message); // in the order of Tab
    this.pageKey = this.shownPicture = null;
    this.stripTiles = new Map();
  }

  buildFilters(press, palette) {
    const p = this.parts;
    p.filters = {};
    const filters = make("div", { className: "segments" });
    filters.setAttribute("role", "group");
    filters.setAttribute("aria-label", "Which images");
    for (const filter of FILTERS) {
      const { sign, word, colour } = palette[filter] ?? { sign: "", word: "All" };
      const mark = make("span", { className: "sign", textContent: filter === "none" ? "" : sign });
      if (colour) mark.style.color = colour;
      const n = make("span", { className: "n" });
      const button = press(make("button", { className: `filter-${filter}` }, ...(mark.textContent ? [mark] : []), word, n), () => this.load(filter));
      p.filters[filter] = { button, n };
      filters.append(button);
    }
    return filters;
  }

  /** Second line: order and stacks, and the size of the thumbnails (its place is the lens's in the one-image view). */
  buildTools(press) {
    const p = this.parts;
    p.order = make("select", { className: "order" }, ...Object.entries(ORDERS).map(([value, textContent]) => make("option", { value, textContent })));
    p.order.setAttribute("aria-label", "Order of the images");
    p.order.onchange = () => {
      this.load(this.filter, p.order.value);
      this.root.focus({ preventScroll: true }); // letters are for the board again, not for the menu
    };
    p.refresh = press(make("button", { className: "plain", textContent: "Refresh list", title: "Read the list again, as it is now" }), () => this.load(this.filter));
    p.better = press(make("button", { className: "plain", textContent: `${ORDERS.informative}: ready now`, title: "The images have been compared. Labelled in this order, fewer of them are enough" }), () => this.takeBetter());
    p.stacks = press(make("button", { className: "plain toggle", textContent: "Stacks" }), () => this.showStacks(!this.stacked));
    p.stacks.title = "Near-duplicates and images of one view of a part on one tile, with one verdict for all";
    p.size = make("input", { type: "range", min: EDGE.min, max: EDGE.max, step: 10, value: this.edge });
    p.size.setAttribute("aria-label", "Size of the thumbnails");
    p.size.oninput = () => {
      this.edge = Number(p.size.value);
      kept.write(localStorage, "ssn.edge", this.edge);
      this.layout(true);
    };
    p.sizeLabel = make("label", { className: "size" }, "Size", p.size);
    p.people = make("span", { className: "people" });
    return [p.order, p.refresh, p.stacks, p.better];
  }

  turnPage(by) {
    this.move(this.view === "single" ? this.current + by : this.pageStart() + by * this.columns * this.rows);
  }

  /** Fit the stage into the window and the tiles into the stage; redraw. */
  layout(force = false) {
    if (!this.root?.isConnected) return;
    const p = this.parts;
    p.strip.hidden = this.view !== "single" || !this.ids?.length;
    p.foot.hidden = p.sizeLabel.hidden = this.view === "single";
    p.lens.hidden = this.view !== "single";
    const around = this.root.getBoundingClientRect().height - p.stage.getBoundingClientRect().height;
    const scroller = this.root.getRootNode().host?.closest("[data-testid=stMain]");
    const top = this.root.getBoundingClientRect().top + (scroller?.scrollTop ?? 0);
    const height = Math.max(260, Math.floor(innerHeight - top - around - BOTTOM));
    const width = Math.floor(this.root.getBoundingClientRect().width);
    const key = `${width}x${height}/${this.edge}/${this.view}`;
    if (!force && key === this.layoutKey) return;
    this.layoutKey = key;
    p.stage.style.height = `${height}px`;
    this.stage = { width, height };
    if (this.ids) {
      const sizes = this.ids.slice(Math.max(0, this.current - 50), this.current + 50).map((id) => this.items.get(id)).filter(Boolean);
      const ratios = sizes.map((item) => item.w / item.h).sort((a, b) => a - b);
      const ratio = Math.min(3, Math.max(0.3, ratios[Math.floor(ratios.length / 2)] ?? 1));
      // Whole rows fill the height; the width of a tile follows from the images' shape.
      const [roomX, roomY] = [width - 2 * EDGE_ROOM + GAP, height - 2 * EDGE_ROOM + GAP];
      this.rows = Math.max(1, Math.round(roomY / (this.edge / Math.sqrt(ratio) + GAP)));
      const tileHeight = Math.floor(roomY / this.rows) - GAP;
      this.columns = Math.max(1, Math.floor(roomX / (tileHeight * ratio + GAP)));
      p.grid.style.gridTemplateColumns = `repeat(${this.columns}, 1fr)`;
      p.grid.style.gridAutoRows = `${tileHeight}px`;
      this.pageKey = this.shownPicture = null;
      this.paint();
      this.lookAhead();
    } else this.paint();
  }

  paint() {
    if (!this.root?.isConnected) return;
    this.paintHead();
    const single = this.view === "single";
    if (!this.ids || !this.ids.length || (single && this.current >= this.ids.length)) this.paintEmpty();
    else if (single) this.paintSingle();
    else this.paintBoard();
    this.paintFoot();
    const id = this.ids?.[this.current];
    this.root.dataset.current = id ?? "";
    this.root.dataset.ready = String(this.ids !== null);
  }

  paintHead() {
    const p = this.parts;
    const counts = queue.liveCounts(this.project);
    for (const filter of FILTERS) {
      const { button, n } = p.filters[filter];
      button.setAttribute("aria-pressed", String(filter === this.filter));
      n.textContent = counts ? counts[{ all: "total", none: "unlabelled" }[filter] ?? filter] : "";
    }
    for (const verdict of VERDICT_NAMES) p.bars[verdict].style.width = `${counts?.total ? (100 * counts[verdict]) / counts.total : 0}%`;
    for (const [view, button] of Object.entries(p.views)) button.setAttribute("aria-pressed", String(view === this.view));
    p.order.value = this.order;
    p.refresh.textContent = this.order === "random" ? "Shuffle again" : "Refresh list";
    p.stacks.hidden = !this.stackOf.size;
    p.better.hidden = !this.betterIsReady;
    p.stacks.setAttribute("aria-pressed", String(this.stacked));
    const { labels, atWork } = this.leases.people;
    const names = [...new Set([...Object.keys(labels), ...Object.keys(atWork)])];
    const people = names.length < 2 ? "" : names.map((name) => `${name in atWork ? "● " : ""}${name} ${labels[name] ?? 0}`).join("  ");
    if (p.people.textContent !== people) p.people.textContent = people;
    p.people.title = "Labels that stand, by inspector; ● is at work now";
    const status = queue.status();
    p.save.dataset.level = status.level;
    p.save.dataset.unsaved = String(queue.unsaved);
    p.save.title = status.more;
    if (p.save.textContent !== status.text) p.save.textContent = status.text;
  }

  paintFoot() {
    const p = this.parts;
    const n = this.ids?.length ?? 0;
    const page = this.columns * this.rows;
    const start = n ? this.pageStart() : 0;
    const single = this.view === "single";
    p.previous.disabled = single ? this.current <= 0 : start <= 0;
    p.next.disabled = single ? this.current >= n - 1 : start + page >= n;
    p.where.textContent = !n ? "" : single ? `${Math.min(this.current + 1, n)} of ${n}` : `${start + 1}–${Math.min(start + page, n)} of ${n}`;
    const end = n && this.current >= n && !single ? "End of this list" : "";
    if (p.message.textContent !== (this.message || end)) p.message.textContent = this.message || end;
    const below = this.root.getBoundingClientRect().bottom - p.stage.getBoundingClientRect().bottom;
    p.message.style.bottom = `${below + 12}px`;
    p.chosen.style.top = `${p.stage.getBoundingClientRect().top - this.root.getBoundingClientRect().top + 12}px`;
    const images = [...this.selection.ids].reduce((n, id) => n + this.members(id).length, 0);
    const [good, bad, unsure] = VERDICT_KEYS.map((name) => this.keyMap.shown(name));
    const chosen = images ? `${images} selected: ${good}, ${bad} or ${unsure} labels ${images === 1 ? "it" : "them all"} · Esc drops` : "";
    if (p.chosen.textContent !== chosen) p.chosen.textContent = chosen;
  }

  paintEmpty() {
    const p = this.parts;
    if (this.view === "single" && this.ids?.length) this.paintStrip();
    this.pageKey = this.shownPicture = null;
    this.tiles = [];
    const button = (text, action) => make("button", { className: "plain", type: "button", textContent: text, onclick: action });
    let title = "";
    let text = "";
    const row = make("div", { className: "row" });
    if (this.failed) {
      [title, text] = ["The list could not be read", `${this.failed}. Trying again …`];
      if (this.order !== "oldest") row.append(button("Oldest first", () => this.load(this.filter, "oldest")));
    } else if (this.ids?.length) {
      [title, text] = ["End of this list", "All its images have been shown."];
      row.append(button("‹ Last image", () => this.move(this.ids.length - 1)), button("Board", () => this.show("board")), button("Refresh list", () => this.load(this.filter)));
    } else if (this.ids && this.reason) {
      [title, text] = [`“${ORDERS[this.order]}” cannot be had yet`, this.reason];
      if (this.filter !== "all") row.append(button("Show all images", () => this.load("all")));
      row.append(button("Oldest first", () => this.load(this.filter, "oldest")));
    } else if (this.ids) {
      const none = this.filter === "none";
      title = none ? "Every image has a verdict" : this.filter === "all" ? "No images yet" : `No image is marked ${this.data.palette[this.filter].word.toLowerCase()}`;
      text = none ? "Time to train, or to look at all images once more." : "";
      row.append(button("Show all images", () => this.load("all")));
    }
    p.stage.replaceChildren(make("div", { className: "empty" }, make("h3", { textContent: title }), make("div", { textContent: text }), row));
  }

  /** What a stack or an image wears: {label, sign, word}; a stack of different labels says how far it is. */
  look(id) {
    const { palette } = this.data;
    const members = this.members(id);
    const labels = members.map((member) => queue.label(member));
    if (labels.every((label) => label === labels[0])) {
      const { sign, word } = palette[labels[0] ?? "none"];
      return { label: labels[0], sign: labels[0] ? sign : "", word };
    }
    const n = labels.filter(Boolean).length;
    if (n === labels.length) return { label: null, sign: "mixed", word: "Mixed verdicts" };
    return { label: null, sign: `${n}/${labels.length}`, word: `${n} of ${labels.length} labelled` };
  }

  tile(id, at) {
    const { palette } = this.data;
    const stack = this.stackAt(id);
    const pictures = (stack ?? [id]).slice(0, MOSAIC).map((member) => persist(make("img", { src: this.url("thumb", member), alt: "", draggable: false, decoding: "async" })));
    const mark = make("span", { className: "mark" });
    const node = make("button", { type: "button", className: "tile" }, ...pictures, mark);
    if (stack) node.append(make("span", { className: "count", textContent: `${stack.length}` }));
    node.dataset.id = id;
    node.refresh = (current) => {
      const { label, sign, word } = this.look(id);
      const name = this.items.get(id)?.name ?? "";
      const holder = this.holder(id);
      const chosen = this.selection.has(id);
      node.classList.toggle("current", current);
      node.classList.toggle("selected", chosen);
      node.classList.toggle("stack", Boolean(stack));
      node.classList.toggle("opened", this.stacked && !stack && this.stackOf.has(id));
      node.classList.toggle("held", holder !== undefined);
      node.classList.toggle("unsaved", queue.failures > 0 && this.members(id).some((member) => queue.pending().has(member)));
      const said = `${label}/${sign}/${name}/${holder}/${chosen}`;
      if (node.said === said) return;
      node.said = said;
      node.dataset.label = label ?? "none";
      if (label) node.style.setProperty("--verdict", palette[label].colour);
      else node.style.removeProperty("--verdict");
      mark.textContent = sign;
      const all = stack ? `${name} and ${stack.length - 1} more: one verdict for all` : name;
      node.title = holder === undefined ? all : `${all} (${holder} has it now)`;
      node.setAttribute("aria-label", [`${all}: ${word}`, ...(holder === undefined ? [] : [`${holder} has it now`]), ...(chosen ? ["selected"] : [])].join(", "));
    };
    node.at = at;
    return node;
  }

  paintBoard() {
    const p = this.parts;
    const start = this.pageStart();
    const ids = this.ids.slice(start, start + this.columns * this.rows);
    const key = `${this.columns}x${this.rows}/${this.stacked}/${ids.join()}`;
    const hadFocus = this.root.getRootNode().activeElement?.classList.contains("tile");
    if (this.pageKey !== key) {
      this.pageKey = key;
      forget(p.grid.querySelectorAll("img"));
      this.tiles = ids.map((id, k) => {
        const node = this.tile(id, start + k);
        const open = make("span", { className: "open", textContent: "⤢", title: "Show large" });
        node.append(open);
        node.onclick = (event) => {
          if (!p.wasDrag()) this.click(node.at, event, event.target === open);
        };
        node.oncontextmenu = (event) => {
          event.preventDefault();
          this.give("unsure", node.at, { advance: false });
        };
        return node;
      });
      p.grid.replaceChildren(...this.tiles);
    }
    if (p.stage.firstChild !== p.grid) p.stage.replaceChildren(p.grid);
    this.tiles.forEach((node) => {
      const current = node.at === this.current;
      node.refresh(current);
      node.tabIndex = current ? 0 : -1;
      if (current && hadFocus) node.focus({ preventScroll: true });
    });
  }
}
