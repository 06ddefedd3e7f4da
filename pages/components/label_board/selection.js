// What is selected on the board: a set of places in the list, and the frame that is drawn to select more.

const DRAG_PX = 6; // a shorter way is a click with an unsteady hand

class Selection {
  constructor() {
    this.ids = new Set();
    this.anchor = null; // image from which a range goes on
  }

  get size() {
    return this.ids.size;
  }

  has(id) {
    return this.ids.has(id);
  }

  clear() {
    this.ids.clear();
    this.anchor = null;
  }

  toggle(id) {
    if (!this.ids.delete(id)) this.ids.add(id);
    this.anchor = id;
  }

  /** Select from the anchor (or `from` when there is none) to a place of the list, instead of what was selected. */
  range(list, from, to) {
    const start = Math.max(0, list.indexOf(this.anchor ?? list[from]));
    this.anchor = list[start];
    this.ids = new Set(list.slice(Math.min(start, to), Math.max(start, to) + 1));
  }

  set(ids) {
    this.ids = new Set(ids);
    this.anchor = ids[0] ?? null;
  }

  /** Drop what is no longer in the list. */
  keepOnly(list) {
    if (!this.size && this.anchor === null) return;
    const there = new Set(list);
    this.ids = new Set([...this.ids].filter((id) => there.has(id)));
    if (!there.has(this.anchor)) this.anchor = null;
  }
}

/**
 * Let a frame be drawn over `stage` with the mouse; `touched(ids, keep)` hears which tiles it touches, while it grows.
 * `keep` is true when Shift or Ctrl asks for what was selected before, too. Returns a function that says (once)
 * whether the click that just came was the end of a drag.
 */
function rubberBand(stage, tiles, touched) {
  const frame = make("div", { className: "band", hidden: true });
  let from = null;
  let ended = false;
  stage.addEventListener("pointerdown", (event) => {
    ended = false;
    if (event.button !== 0 || event.pointerType === "touch" || !tiles().length) return;
    from = { x: event.clientX, y: event.clientY, keep: event.shiftKey || event.ctrlKey || event.metaKey };
  });
  stage.addEventListener("pointermove", (event) => {
    if (!from) return;
    if (frame.hidden && Math.hypot(event.clientX - from.x, event.clientY - from.y) < DRAG_PX) return;
    if (frame.hidden) {
      stage.setPointerCapture(event.pointerId);
      stage.append(frame);
      frame.hidden = false;
    }
    const box = { left: Math.min(from.x, event.clientX), right: Math.max(from.x, event.clientX), top: Math.min(from.y, event.clientY), bottom: Math.max(from.y, event.clientY) };
    const room = stage.getBoundingClientRect();
    Object.assign(frame.style, { left: `${box.left - room.left}px`, top: `${box.top - room.top}px`, width: `${box.right - box.left}px`, height: `${box.bottom - box.top}px` });
    const under = tiles().filter((tile) => {
      const at = tile.getBoundingClientRect();
      return at.left < box.right && at.right > box.left && at.top < box.bottom && at.bottom > box.top;
    });
    touched(under.map((tile) => Number(tile.dataset.id)), from.keep);
  });
  const end = () => {
    ended = !frame.hidden;
    frame.hidden = true;
    frame.remove();
    from = null;
  };
  stage.addEventListener("pointerup", end);
  stage.addEventListener("pointercancel", end);
  return () => {
    const was = ended;
    ended = false;
    return was;
  };
}
