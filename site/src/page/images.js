// The three images, each with the attention map of a word over it.

import { el } from "./dom.js";

/** @import { Image, Name } from "../worker.js" */

/** @typedef {{figure: HTMLElement, canvas: HTMLCanvasElement, image: Image | null, map: Float32Array | null}} Shown */

const COLOUR = [255, 96, 0]; // of a map, over the image darkened

export class Images {
  #side;
  /** @type {Map<Name, Shown>} */
  #shown = new Map();

  /** @param {HTMLElement} place @param {number} side of an image, in pixels */
  constructor(place, side) {
    this.#side = side;
    for (const figure of place.querySelectorAll("figure")) {
      const label = figure.querySelector("b")?.textContent ?? "";
      const canvas = el("canvas", { width: side, height: side, role: "img", "aria-label": label });
      figure.querySelector(".image")?.append(canvas);
      this.#shown.set(/** @type {Name} */ (figure.dataset.name), { figure, canvas, image: null, map: null });
    }
  }

  /** Leave out the images that the page came with. */
  clear() {
    for (const { figure } of this.#shown.values()) figure.querySelector("img")?.remove();
  }

  /** @param {Name} name @param {Image} image */
  show(name, image) {
    const shown = this.#of(name);
    shown.image = image;
    shown.figure.querySelector("img")?.remove();
    shown.figure.classList.remove("stale");
    this.#draw(name);
  }

  /** The image is of an earlier call. @param {Name} name */
  age(name) {
    this.#of(name).figure.classList.add("stale");
  }

  /**
   * Lay a map over an image, or take it away.
   * @param {Name} name
   * @param {Float32Array | null} map (h, w)
   * @param {string} note
   */
  overlay(name, map, note) {
    const shown = this.#of(name);
    shown.map = map;
    const caption = shown.figure.querySelector("figcaption span");
    if (caption) caption.textContent = note;
    this.#draw(name);
  }

  /** @param {Name} name */
  #draw(name) {
    const { canvas, image, map } = this.#of(name);
    // kept in memory, where the images' bytes come from
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
    context.clearRect(0, 0, this.#side, this.#side);
    if (image) context.putImageData(new ImageData(image, this.#side, this.#side), 0, 0);
    if (!map) return;
    const side = Math.round(Math.sqrt(map.length));
    const pixels = new ImageData(side, side);
    const most = Math.max(...map, 1e-9);
    map.forEach((x, i) => pixels.data.set([...COLOUR, 200 * (x / most)], 4 * i));
    const small = new OffscreenCanvas(side, side);
    /** @type {OffscreenCanvasRenderingContext2D} */ (small.getContext("2d")).putImageData(pixels, 0, 0);
    context.fillStyle = "rgb(0 0 0 / 0.45)";
    context.fillRect(0, 0, this.#side, this.#side);
    context.imageSmoothingQuality = "high";
    context.drawImage(small, 0, 0, this.#side, this.#side);
  }

  /** @param {Name} name */
  #of(name) {
    const shown = this.#shown.get(name);
    if (!shown) throw new Error(`no image ${name}`);
    return shown;
  }
}
