// The active model's map over the image, while a key is held. Colours are those of every other page.

const MAPS_KEPT = 12;

class ModelMap {
  /** `model`: {id, name, table} or null; `address(image)`: where the map of an image is. */
  constructor(model, address) {
    this.address = address;
    this.canvases = new Map(); // image -> promise of a coloured canvas
    this.take(model);
  }

  take(model) {
    if (this.model?.id !== model?.id) this.canvases.clear();
    this.model = model;
    if (model) this.table = new Uint32Array(Uint8Array.from(atob(model.table), (letter) => letter.charCodeAt(0)).buffer);
  }

  /** The coloured map of an image, as a promise; rejected when there is none. */
  of(image) {
    if (!this.canvases.has(image)) {
      const drawn = this.draw(image);
      drawn.catch(() => this.canvases.delete(image)); // it may be scored later
      this.canvases.set(image, drawn);
      for (const old of [...this.canvases.keys()].slice(0, -MAPS_KEPT)) this.canvases.delete(old);
    }
    return this.canvases.get(image);
  }

  async draw(image) {
    const response = await fetch(this.address(image));
    if (!response.ok) throw new Error((await response.json().catch(() => ({}))).error ?? `status ${response.status}`);
    const grey = await createImageBitmap(await response.blob());
    const canvas = make("canvas", { className: "map", width: grey.width, height: grey.height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(grey, 0, 0);
    const picture = context.getImageData(0, 0, grey.width, grey.height);
    const words = new Uint32Array(picture.data.buffer);
    for (let i = 0; i < words.length; i++) words[i] = this.table[picture.data[4 * i]];
    context.putImageData(picture, 0, 0);
    return canvas;
  }
}
