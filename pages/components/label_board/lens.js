// Looking closely: zoom and pan, brightness, contrast and inversion, kept from image to image until they are reset.

const ZOOM = { max: 40, step: 1.25 };
const PIXELS_FROM = 3; // screen pixels for one of the image: from here on it is shown as squares, not smoothed

class Lens {
  constructor(changed) {
    this.changed = changed;
    this.reset();
  }

  reset() {
    Object.assign(this, { scale: 1, x: 0, y: 0, brightness: 100, contrast: 100, inverted: false });
  }

  get isPlain() {
    return this.scale === 1 && this.brightness === 100 && this.contrast === 100 && !this.inverted;
  }

  /** Zoom by a factor; the point (x, y), in px from the middle of the pane, stays where it is. */
  zoom(factor, x = 0, y = 0) {
    const scale = Math.min(ZOOM.max, Math.max(1, this.scale * factor));
    const ratio = scale / this.scale;
    this.x = scale === 1 ? 0 : x - (x - this.x) * ratio;
    this.y = scale === 1 ? 0 : y - (y - this.y) * ratio;
    this.scale = scale;
    this.changed();
  }

  pan(dx, dy) {
    if (this.scale === 1) return;
    this.x += dx;
    this.y += dy;
    this.changed();
  }

  /** Wheel and mouse on a pane. */
  listenTo(pane) {
    pane.addEventListener("wheel", (event) => {
      event.preventDefault();
      const room = pane.getBoundingClientRect();
      const lines = event.deltaMode === 1 ? 30 : 1;
      this.zoom(Math.exp(-event.deltaY * lines * 0.0016), event.clientX - room.left - room.width / 2, event.clientY - room.top - room.height / 2);
    }, { passive: false });
    let last = null;
    pane.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || this.scale === 1) return;
      last = { x: event.clientX, y: event.clientY };
      pane.setPointerCapture(event.pointerId);
    });
    pane.addEventListener("pointermove", (event) => {
      if (!last) return;
      this.pan(event.clientX - last.x, event.clientY - last.y);
      last = { x: event.clientX, y: event.clientY };
    });
    for (const end of ["pointerup", "pointercancel"]) pane.addEventListener(end, () => (last = null));
    pane.addEventListener("dblclick", (event) => {
      const room = pane.getBoundingClientRect();
      if (this.scale > 1) this.zoom(0);
      else this.zoom(4, event.clientX - room.left - room.width / 2, event.clientY - room.top - room.height / 2);
    });
  }

  /** Show a plate (a picture and what lies on it) of an image `width` pixels wide, fitted to `fitted` px. */
  apply(pane, plate, fitted, width) {
    // Never further than the edge of the picture in the middle of the pane: it cannot get lost.
    const room = { w: (plate.offsetWidth * this.scale) / 2, h: (plate.offsetHeight * this.scale) / 2 };
    this.x = Math.max(-room.w, Math.min(room.w, this.x));
    this.y = Math.max(-room.h, Math.min(room.h, this.y));
    plate.style.transform = this.scale === 1 ? "" : `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    pane.classList.toggle("zoomed", this.scale > 1);
    const filters = [];
    if (this.brightness !== 100) filters.push(`brightness(${this.brightness}%)`);
    if (this.contrast !== 100) filters.push(`contrast(${this.contrast}%)`);
    if (this.inverted) filters.push("invert(1)");
    for (const picture of plate.querySelectorAll("img")) {
      picture.style.filter = filters.join(" ");
      picture.style.imageRendering = (fitted / width) * this.scale >= PIXELS_FROM ? "pixelated" : "";
    }
  }
}
