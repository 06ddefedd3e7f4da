// A photo with its anomaly map. The grey map is coloured here; no slider step asks the server.

const VIEWERS = new Map(); // component key -> Viewer; survives a remount of the element
const TEARDOWN_MS = 1500;
const SETTINGS = "ssn.viewer";
const AWAIT_MS = 3000; // how long the page may take to follow to a picture that was turned to here
const KNOWN = 200; // pictures remembered for turning back
const LEAST = 16; // px: a picture of 20,000 x 10 pixels would be a line that nobody sees; it is stretched to a band
const TYPING = "textarea, select, [contenteditable=true], input:not([type=checkbox]):not([type=radio]):not([type=range])";

function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function settings() {
  const start = { opacity: 60, threshold: 0, outline: true, cells: false };
  try {
    return { ...start, ...JSON.parse(localStorage.getItem(SETTINGS)) };
  } catch {
    return start; // storage is forbidden: the settings last as long as the tab
  }
}

async function load(address) {
  if (!address) return null;
  const image = Object.assign(new Image(), { src: address, draggable: false });
  await image.decode();
  return image;
}

/** Pixels of an image at a size, RGBA. */
function pixels(image, width, height) {
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}

class Viewer {
  constructor() {
    this.set = settings();
    this.turn = 0;
    this.hidden = false;
    this.onKeyDown = (event) => this.key(event, true);
    this.onKeyUp = (event) => this.key(event, false);
    this.layer = new EvidenceLayer(this);
    this.known = new Map(); // image -> picture, of those the page has spoken of
    this.onTurn = (event) => this.turnTo(event.detail.image);
    this.onBlur = () => this.hide(false);
    this.onResize = () => this.layout();
  }

  attach(root, data) {
    clearTimeout(this.goodbye);
    for (const picture of [data.picture, ...data.ahead]) if (picture.id !== null) this.known.set(picture.id, picture);
    for (const id of this.known.keys()) if (this.known.size > KNOWN) this.known.delete(id);
    this.said = data.picture;
    if (this.awaited === data.picture.id) this.awaited = null;
    // While the page is on its way to a picture turned to here, what it says of an earlier one must not pull back.
    const picture = this.awaited != null && this.data ? this.data.picture : data.picture;
    this.data = { ...data, picture };
    this.table = Uint8Array.from(atob(data.table), (letter) => letter.charCodeAt(0));
    if (this.root !== root) {
      this.root = root;
      this.build();
      this.drawn = "";
    }
    if (!this.listening) {
      this.listening = true;
      document.addEventListener("keydown", this.onKeyDown, true);
      document.addEventListener("keyup", this.onKeyUp, true);
      document.addEventListener("ssn:turn", this.onTurn);
      addEventListener("blur", this.onBlur);
      addEventListener("resize", this.onResize);
    }
    this.observer?.disconnect();
    this.observer = new ResizeObserver(this.onResize);
    this.observer.observe(root);
    this.show();
  }

  detach() {
    this.goodbye = setTimeout(() => {
      document.removeEventListener("keydown", this.onKeyDown, true);
      document.removeEventListener("keyup", this.onKeyUp, true);
      document.removeEventListener("ssn:turn", this.onTurn);
      removeEventListener("blur", this.onBlur);
      removeEventListener("resize", this.onResize);
      this.observer?.disconnect();
      this.listening = false;
      this.root = null;
    }, TEARDOWN_MS);
  }

  build() {
    const p = (this.parts = {});
    const slider = (name, label, max) => {
      const input = make("input", { type: "range", min: 0, max, value: this.set[name], ariaLabel: label });
      input.oninput = () => this.change(name, Number(input.value));
      input.onchange = () => input.blur(); // the arrow keys belong to the page again
      p[name] = input;
      return input;
    };
    p.canvas = make("canvas");
    p.outline = make("canvas");
    p.note = make("div", { className: "note" });
    p.frame = make("div", { className: "frame" });
    this.layer.build(p.frame);
    p.frame.append(p.canvas, p.outline, this.layer.canvas, p.note);
    const opacity = make("label", {}, "Opacity", slider("opacity", "Opacity", 100));
    // The threshold's track is the legend: the model's one fixed scale, the same colours in every image.
    [p.from, p.low, p.high] = [make("b"), make("span"), make("span")];
    const scale = slider("threshold", "Show the map from", 255);
    scale.className = "scale";
    const stops = [0, 32, 64, 96, 128, 160, 192, 224, 255].map((at) => {
      const [r, g, b, a] = this.table.slice(4 * at, 4 * at + 4);
      return `rgb(${r} ${g} ${b} / ${a / 255})`;
    });
    scale.style.backgroundImage = `linear-gradient(to right, ${stops.join(", ")})`;
    const threshold = make("label", { title: "The model's one fixed scale. Nothing below the mark is shown." }, "Show from", p.from, p.low, scale, p.high);
    p.check = make("input", { type: "checkbox", checked: this.set.outline });
    p.check.setAttribute("aria-label", "Outline of the mask");
    p.check.onchange = () => this.change("outline", p.check.checked);
    p.mask = make("label", { title: "Outline of the defect mask" }, p.check, "Mask", make("kbd", { textContent: "M" }));
    p.hide = make("span", {}, make("kbd", { textContent: "H" }), " hold to hide");
    p.controls = make("div", { className: "controls" }, threshold, opacity, p.mask, p.hide);
    this.root.replaceChildren(p.frame, this.layer.line, p.controls);
  }

  change(name, value) {
    this.set[name] = value;
    try {
      localStorage.setItem(SETTINGS, JSON.stringify(this.set));
    } catch {
      this.kept = false; // comfort only: they start anew with the next tab
    }
    this.paint();
  }

  key(event, down) {
    if (!this.root?.isConnected || event.ctrlKey || event.metaKey || event.altKey) return;
    const letter = event.key.toLowerCase();
    if (down && (event.composedPath()[0]?.closest?.(TYPING) || document.querySelector("[role=dialog]"))) return;
    if (letter === "h") this.hide(down);
    else if (down && letter === "k" && !event.repeat && this.layer.someCount()) this.change("cells", !this.set.cells);
    else if (down && this.layer.key(event)) {
      event.preventDefault();
      event.stopPropagation(); // the list of images has the same keys
    } else if (letter !== "m") return;
    else if (down && !event.repeat && this.mask) {
      this.parts.check.checked = !this.set.outline;
      this.change("outline", !this.set.outline);
    }
  }

  /** A score's verdict in words, at the model's thresholds in force. */
  verdictOf(score) {
    const { high, low, words } = this.data.thresholds;
    return words[score >= high ? "bad" : low !== null && score >= low ? "check" : "good"];
  }

  hide(on) {
    if (this.hidden === on) return;
    this.hidden = on;
    this.paint();
  }

  /** Another component chose this image: show it now, the page follows. */
  turnTo(id) {
    if (!this.root?.isConnected) return;
    const picture = this.known.get(id);
    this.awaited = picture ? id : null; // an unknown one comes with the page
    clearTimeout(this.impatience);
    if (!picture) return;
    this.impatience = setTimeout(() => {
      if (this.awaited !== id) return;
      this.awaited = null; // the page went elsewhere: it knows better
      this.data = { ...this.data, picture: this.said };
      this.show();
    }, AWAIT_MS);
    this.data = { ...this.data, picture };
    this.show();
  }

  /** Load photo, map and mask, then change all three at once: the old picture stays until the new one is complete. */
  async show() {
    const { picture, ahead } = this.data;
    const wanted = [picture.image, picture.map, picture.mask, picture.cells].join(" ");
    const turn = ++this.turn; // what is still loading comes too late
    if (wanted === this.drawn) return this.layout();
    const [photo, map, mask, cells] = await Promise.allSettled([
      load(picture.image), load(picture.map), load(picture.mask), evidenceAt(picture.cells),
    ]);
    if (turn !== this.turn || !this.root) return;
    this.drawn = wanted;
    this.photo?.remove();
    this.photo = photo.value ?? null;
    this.map = map.value ?? null;
    this.mask = mask.value ?? null;
    this.problem = !this.photo ? "The photo could not be loaded" : map.status === "rejected" ? "There is no map of this image" : picture.note ?? "";
    if (this.photo) {
      this.photo.alt = picture.name;
      this.parts.frame.prepend(this.photo);
    }
    this.grey = null;
    if (this.map) {
      const [w, h] = [this.map.naturalWidth, this.map.naturalHeight];
      const rgba = pixels(this.map, w, h);
      this.grey = { w, h, values: Uint8Array.from({ length: w * h }, (_, i) => rgba[4 * i]) };
    }
    this.colouredFor = this.outlinedFor = null;
    this.layer.take(cells.value);
    this.layout();
    this.root.dataset.shown = picture.name;
    this.later = ahead.flatMap((later) => [later.image, later.map].filter(Boolean).map((src) => Object.assign(new Image(), { src })));
    for (const later of ahead) evidenceAt(later.cells);
  }

  layout() {
    if (!this.root?.isConnected) return;
    const p = this.parts;
    const scroller = this.root.getRootNode().host?.closest("[data-testid=stMain]");
    const top = this.root.getBoundingClientRect().top + (scroller?.scrollTop ?? 0);
    const width = Math.floor(this.root.getBoundingClientRect().width);
    // Where the map is only withheld, the line keeps its place: the photo must not jump when the map appears.
    this.layer.line.hidden = !this.data.picture.cells && !this.data.picture.note;
    this.layer.line.style.visibility = this.data.picture.cells ? "" : "hidden";
    const below = p.controls.offsetHeight + this.layer.line.offsetHeight + (this.layer.line.hidden ? 10 : 20);
    const height = Math.max(300, Math.floor(innerHeight - top - below - this.data.room - 24));
    p.frame.style.height = `${height}px`;
    const { w, h } = this.data.picture;
    const scale = Math.min(width / w, height / h);
    const box = { w: Math.max(LEAST, Math.round(w * scale)), h: Math.max(LEAST, Math.round(h * scale)) };
    for (const node of [this.photo, p.canvas, p.outline, this.layer.canvas]) {
      if (!node) continue;
      node.style.width = `${box.w}px`;
      node.style.height = `${box.h}px`;
      node.style.left = `${Math.round((width - box.w) / 2)}px`;
      node.style.top = `${Math.round((height - box.h) / 2)}px`;
    }
    this.box = box;
    this.paint();
  }

  paint() {
    const p = this.parts;
    const { opacity, threshold, outline } = this.set;
    const { low, high } = this.data.scale;
    const at = (step) => signed(low + ((high - low) * step) / 255, 2);
    p.opacity.title = `${opacity} %`;
    [p.from.textContent, p.low.textContent, p.high.textContent] = [at(threshold), at(0), at(255)];
    p.mask.hidden = !this.mask;
    p.note.textContent = this.problem ?? "";
    p.canvas.hidden = !this.grey || this.hidden;
    p.canvas.style.opacity = String(opacity / 100);
    if (this.grey && this.colouredFor !== threshold) this.colour(threshold);
    p.outline.hidden = !this.mask || !outline || this.hidden;
    if (!p.outline.hidden && this.box) this.drawOutline();
    this.layer.paint();
  }

  colour(threshold) {
    this.colouredFor = threshold;
    const { w, h, values } = this.grey;
    const canvas = this.parts.canvas;
    [canvas.width, canvas.height] = [w, h];
    const picture = new ImageData(w, h);
    const words = new Uint32Array(picture.data.buffer);
    const table = new Uint32Array(this.table.buffer.slice(0));
    table.fill(0, 0, threshold);
    for (let i = 0; i < values.length; i++) words[i] = table[values[i]];
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }

  /** White around the mask and black around that, at the screen's own resolution: visible on any photo. */
  drawOutline() {
    const ratio = globalThis.devicePixelRatio || 1;
    const [w, h] = [Math.round(this.box.w * ratio), Math.round(this.box.h * ratio)];
    if (this.outlinedFor === `${w}x${h}`) return;
    this.outlinedFor = `${w}x${h}`;
    const rgba = pixels(this.mask, w, h);
    const steps = Math.max(1, Math.round(1.5 * ratio));
    let inside = Uint8Array.from({ length: w * h }, (_, i) => (rgba[4 * i] > 0 ? 1 : 0));
    const picture = new ImageData(w, h);
    const words = new Uint32Array(picture.data.buffer);
    for (const colour of [0xffffffff, 0xff000000]) {
      for (let step = 0; step < steps; step++) {
        const grown = inside.slice();
        for (let y = 0; y < h; y++)
          for (let x = 0; x < w; x++) {
            if (!inside[y * w + x]) continue;
            for (let dy = y ? -1 : 0; dy <= (y < h - 1 ? 1 : 0); dy++)
              for (let dx = x ? -1 : 0; dx <= (x < w - 1 ? 1 : 0); dx++) {
                const i = (y + dy) * w + x + dx;
                if (grown[i]) continue;
                grown[i] = 1;
                words[i] = colour;
              }
          }
        inside = grown;
      }
    }
    const canvas = this.parts.outline;
    [canvas.width, canvas.height] = [w, h];
    canvas.getContext("2d").putImageData(picture, 0, 0);
  }
}

export default function ({ data, key, parentElement }) {
  let viewer = VIEWERS.get(key);
  if (!viewer) VIEWERS.set(key, (viewer = new Viewer()));
  viewer.attach(parentElement.querySelector(".ssn-viewer"), data);
  return () => viewer.detach();
}
