// The one-image view: a picture to look at closely, the verdicts beside it, limit samples and the model's map.

const LEAST = 16; // px: a picture of 20,000 x 10 pixels would be a line that nobody sees; it is stretched to a band
const PANE_ROOM = 24; // px around a fitted picture
const SIDE = 206; // px: the column of verdicts and its gap
const LIMITS = 112; // px: the column of limit samples and its gap
const MAP_WAIT_MS = 150; // until it is asked again whether a verdict is saved
const MAP_AHEAD_MS = 400; // a picture that is looked at for so long has its map fetched, before anybody asks

class SingleView extends BoardView {
  constructor(data) {
    super(data);
    this.lens = new Lens(() => this.lensChanged());
    this.modelMap = new ModelMap(data.model, (id) => `/ssn/map/${this.data.model.id}/${id}.png?t=${this.data.token}`);
    this.limits = new LimitSamples(data.project, (path, query) => this.get(path, query), () => this.layout(true));
  }

  buildSingle(press, palette) {
    const p = this.parts;
    p.photo = make("div", { className: "photo" });
    p.plate = make("div", { className: "plate" });
    p.photo.append(p.plate);
    p.beside = make("div", { className: "photo beside", hidden: true });
    this.lens.listenTo(p.photo);
    this.lens.listenTo(p.beside);
    p.nowMark = make("span", { className: "mark" });
    p.nowWord = make("span");
    p.now = make("div", { className: "now" }, p.nowMark, p.nowWord);
    p.letters = {};
    p.verdicts = Object.fromEntries(VERDICT_KEYS.map((verdict) => {
      const { sign, word, colour } = palette[verdict];
      p.letters[verdict] = make("kbd");
      const button = press(make("button", { className: `verdict give-${verdict}` }, make("span", { className: "sign", textContent: sign }), word, p.letters[verdict]), () => this.give(verdict, this.current, { advance: true }));
      button.style.setProperty("--verdict", colour);
      return [verdict, button];
    }));
    const small = (name, className, text, action) => {
      p.letters[name] = make("kbd");
      p[name] = press(make("button", { className: `plain ${className}` }, make("span", { textContent: text }), p.letters[name]), action);
      return p[name];
    };
    p.members = make("div", { className: "members" });
    p.place = make("div", { className: "where" });
    p.name = make("div", { className: "name" });
    const side = make("div", { className: "side" }, p.now, ...Object.values(p.verdicts), small("undo", "undo", "Undo", () => this.undo()), small("pin", "pin", "Pin as limit sample", () => this.pin()), small("stack", "unstack", "Open stack", () => this.turnStack()), p.members, p.place, p.name);
    p.single = make("div", { className: "single" }, this.limits.node, p.photo, p.beside, side);
    this.buildLens(press, small);
  }

  buildLens(press, small) {
    const p = this.parts;
    const slider = (name, word) => {
      const input = make("input", { type: "range", min: 30, max: 300, step: 5 });
      input.setAttribute("aria-label", word);
      input.oninput = () => {
        this.lens[name] = Number(input.value);
        this.lensChanged();
      };
      p[name] = input;
      return make("label", { className: "dial" }, word, input);
    };
    p.zoom = make("span", { className: "zoom" });
    p.lens = make("div", { className: "lens" }, slider("brightness", "Brightness"), slider("contrast", "Contrast"), small("invert", "toggle", "Invert", () => this.invert()), p.zoom, small("fit", "", "Reset", () => this.fit()));
  }

  // ---- the lens, the map --------------------------------------------------------------------------------------

  invert() {
    this.lens.inverted = !this.lens.inverted;
    this.lensChanged();
  }

  fit() {
    this.lens.reset();
    this.lensChanged();
  }

  lensChanged() {
    const p = this.parts;
    if (!p) return;
    p.brightness.value = this.lens.brightness;
    p.contrast.value = this.lens.contrast;
    p.invert.setAttribute("aria-pressed", String(this.lens.inverted));
    p.fit.disabled = this.lens.isPlain;
    p.zoom.textContent = `${Math.round(100 * this.lens.scale)} %`;
    const item = this.items.get(this.ids?.[this.current]);
    if (item && p.plate.firstChild) this.lens.apply(p.photo, p.plate, p.plate.offsetWidth, item.w);
    if (this.limits.compared && p.beside.firstChild) this.lens.apply(p.beside, p.beside.firstChild, p.beside.firstChild.offsetWidth, this.limits.compared.w);
  }

  /** Show the model's map while a key is held. */
  async showMap(on) {
    this.mapWanted = on;
    const id = this.ids?.[this.current];
    if (!on || id === undefined || this.view !== "single") {
      this.parts?.plate.querySelector(".map")?.remove();
      if (this.message === this.mapMessage) this.message = "";
      return this.paint();
    }
    this.message = this.mapMessage = "";
    if (!this.data.model) this.message = "No model is in use yet: train one, then hold this key to see where it looks";
    else if (this.data.verdictFirst && queue.label(id) === null) this.message = "Your verdict comes first in this project: the map shows after it";
    else if (this.data.verdictFirst && queue.pending().has(id)) {
      this.message = this.mapMessage = "The map comes as soon as your verdict is saved";
      setTimeout(() => this.mapWanted && this.showMap(true), MAP_WAIT_MS);
    } else {
      try {
        const canvas = await this.modelMap.of(id);
        if (!this.mapWanted || this.ids[this.current] !== id || this.view !== "single") return;
        queue.sawMap(id);
        this.parts.plate.querySelector(".map")?.remove();
        this.parts.plate.append(canvas);
        this.message = this.mapMessage = `Where ${this.data.model.name} looks`;
      } catch (error) {
        this.message = `No map: ${error.message}`;
      }
    }
    this.paint();
  }

  mapAhead(id) {
    clearTimeout(this.mapTimer);
    if (!this.data.model || (this.data.verdictFirst && (queue.label(id) === null || queue.pending().has(id)))) return;
    this.mapTimer = setTimeout(() => this.modelMap.of(id).catch(() => {}), MAP_AHEAD_MS); // said when it is asked for
  }

  async pin() {
    const id = this.ids?.[this.current];
    if (id === undefined || this.view !== "single") return;
    if (!queue.inspector) this.message = "Please type your name in the sidebar first";
    else this.message = await this.limits.toggle(id, this.items.get(id)?.name ?? "", queue.label(id));
    this.paint();
  }

  // ---- painting -----------------------------------------------------------------------------------------------

  /** Size in px of a picture in a pane, and both in a style. */
  fitted(shown, width, height, w, h) {
    const scale = Math.min((width - PANE_ROOM) / w, (height - PANE_ROOM) / h);
    shown.style.width = `${Math.max(LEAST, Math.round(w * scale))}px`;
    shown.style.height = `${Math.max(LEAST, Math.round(h * scale))}px`;
    return shown;
  }

  paintSingle() {
    const p = this.parts;
    const id = this.ids[this.current];
    const item = this.items.get(id);
    const { label, word } = this.look(id);
    if (p.stage.firstChild !== p.single) {
      forget([...p.grid.querySelectorAll("img"), ...(this.ahead ?? [])]);
      this.pageKey = this.aheadOf = null;
      this.tiles = [];
      p.stage.replaceChildren(p.single);
    }
    const { samples, compared } = this.limits;
    this.limits.draw(this.data.palette, (image) => this.url("thumb", image));
    p.single.style.gridTemplateColumns = `${samples.length ? "96px " : ""}1fr ${compared ? "1fr " : ""}190px`;
    const room = this.stage.width - SIDE - (samples.length ? LIMITS : 0);
    const width = compared ? (room - 16) / 2 : room;
    this.paintPicture(id, item, width);
    this.paintBeside(compared, width);
    for (const node of [p.photo, p.now]) {
      if (label) node.style.setProperty("--verdict", this.data.palette[label].colour);
      else node.style.removeProperty("--verdict");
    }
    p.nowMark.textContent = label ? this.data.palette[label].sign : "";
    const holder = this.holder(id);
    p.nowWord.textContent = holder === undefined ? word : `${holder} has it`;
    p.nowWord.style.color = label ? "" : "#5b6774";
    for (const [verdict, button] of Object.entries(p.verdicts)) button.setAttribute("aria-pressed", String(verdict === label));
    for (const [name, letter] of Object.entries(p.letters)) letter.textContent = this.keyMap.shown(name);
    p.undo.disabled = !queue.undoStack.some((step) => step.kind === "label" && step.project === this.project);
    p.pin.setAttribute("aria-pressed", String(this.limits.has(id)));
    p.pin.firstChild.textContent = this.limits.has(id) ? "Limit sample" : "Pin as limit";
    this.paintMembers(id);
    p.place.textContent = `${this.current + 1} of ${this.ids.length}`;
    p.name.textContent = [item?.name, this.picture(id).reason].filter(Boolean).join(" · ");
    p.name.title = item?.name ?? "";
    this.paintStrip();
  }

  paintPicture(id, item, width) {
    const p = this.parts;
    const image = this.picture(id);
    const key = `${id}/${image.ready ? "full" : "thumb"}/${item ? 1 : 0}/${width}x${this.stage.height}`;
    if (this.shownPicture === key) return;
    this.shownPicture = key;
    const shown = image.ready ? image : persist(make("img", { src: this.url("thumb", id), alt: item?.name ?? "", draggable: false }));
    const [w, h] = [item?.w || 1, item?.h || 1];
    this.fitted(p.plate, width, this.stage.height, w, h);
    p.plate.replaceChildren(shown);
    this.root.dataset.shown = image.ready ? id : "";
    this.lensChanged();
    this.mapAhead(id);
    if (this.mapWanted) this.showMap(true);
  }

  /** The limit sample that is compared, at the same zoom. */
  paintBeside(sample, width) {
    const p = this.parts;
    p.beside.hidden = !sample;
    const key = sample ? `${sample.image}/${width}x${this.stage.height}` : "";
    if (this.besideKey === key && (!sample || p.beside.firstChild)) return;
    this.besideKey = key;
    if (!sample) return p.beside.replaceChildren();
    const { word, colour } = this.data.palette[sample.verdict];
    const plate = this.fitted(make("div", { className: "plate" }), width, this.stage.height, sample.w || 1, sample.h || 1);
    plate.append(persist(make("img", { src: this.url("image", sample.image), alt: sample.name, draggable: false })));
    p.beside.style.setProperty("--verdict", colour);
    p.beside.replaceChildren(plate, make("div", { className: "caption", textContent: `Limit sample: ${word.toLowerCase()}` }));
    this.lensChanged();
  }

  /** The images of a closed stack, which share one verdict. */
  paintMembers(id) {
    const p = this.parts;
    const stack = this.stackAt(id);
    const opened = !stack && this.stacked && this.stackOf.has(id);
    p.stack.hidden = !stack && !opened;
    p.stack.firstChild.textContent = stack ? `Open stack of ${stack.length}` : "Close stack";
    p.members.hidden = !stack;
    const key = stack ? stack.join() : "";
    if (this.membersKey === key) return;
    this.membersKey = key;
    p.members.replaceChildren(...(stack ?? []).map((member) => persist(make("img", { src: this.url("thumb", member), alt: "", draggable: false, title: this.items.get(member)?.name ?? "" }))));
  }

  paintStrip() {
    const slots = Math.max(3, Math.floor((this.stage.width + 6) / 68));
    const from = this.current - Math.floor(slots / 2);
    const tiles = new Map();
    const nodes = [];
    for (let at = from; at < from + slots; at++) {
      const id = this.ids[at];
      if (id === undefined) {
        nodes.push(make("span", { className: "gap" }));
        continue;
      }
      const node = this.stripTiles.get(id) ?? this.tile(id, at);
      node.at = at;
      node.tabIndex = -1;
      node.onclick = (event) => this.click(node.at, event, true);
      node.refresh(at === this.current);
      tiles.set(id, node);
      nodes.push(node);
    }
    for (const [id, node] of this.stripTiles) if (!tiles.has(id)) forget(node.querySelectorAll("img"));
    this.stripTiles = tiles;
    this.parts.strip.replaceChildren(...nodes);
  }
}
