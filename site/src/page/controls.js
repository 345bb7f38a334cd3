// The sliders, the sampler, and the words of local blend.

import { el, short } from "./dom.js";
import { LIMITS } from "./link.js";

/** @import { Call } from "../method/run.js" */
/** @import { Time } from "../method/alpha.js" */

/** @typedef {[number, number, number]} Range least, most, step */

/** @type {Range} the last place is never */
const TIMES = [0, 1.05, 0.05];
const timeAt = (/** @type {number} */ place) => /** @type {Time} */ (place > 1 ? "never" : place);

/**
 * A slider of one number of the call.
 * @typedef {object} Slider
 * @property {string} label
 * @property {Range} range
 * @property {(call: Call) => number | bigint | Time} get
 * @property {(place: number) => Partial<Call>} set
 */

/** @type {Record<string, Slider>} */
const SLIDERS = {
  tau: {
    label: "τ of all words",
    range: TIMES,
    get: (call) => call.tau,
    set: (place) => ({ tau: timeAt(place) }),
  },
  until: {
    label: "τ of self-attention",
    range: TIMES,
    get: (call) => call.until.end,
    set: (place) => ({ until: { start: 1, end: timeAt(place) } }),
  },
  seed: {
    label: "seed",
    range: [0, 99, 1],
    get: (call) => call.seed,
    set: (place) => ({ seed: BigInt(place) }),
  },
  steps: {
    label: "steps",
    range: [2, LIMITS.steps, 1],
    get: (call) => call.steps,
    set: (place) => ({ steps: place }),
  },
  guidance: {
    label: "guidance w",
    range: [1, LIMITS.guidance, 0.5],
    get: (call) => call.guidance,
    set: (place) => ({ guidance: place }),
  },
};

export class Controls {
  /** @type {Map<Slider, {input: HTMLInputElement, output: HTMLOutputElement}>} */
  #sliders = new Map();
  #sampler = el(
    "select",
    { id: "sampler" },
    el("option", { value: "ddim" }, "DDIM"),
    el("option", { value: "dpm++" }, "DPM-Solver++"),
  );
  #blend;
  #blended = /** @type {string[]} */ ([]);

  /**
   * @param {HTMLElement} place
   * @param {HTMLElement} blend
   * @param {(changes: Partial<Call>) => void} changed
   */
  constructor(place, blend, changed) {
    this.changed = changed;
    this.#blend = blend;
    for (const [id, slider] of Object.entries(SLIDERS)) {
      const [min, max, step] = slider.range;
      const input = el("input", { type: "range", id, min, max, step });
      const output = el("output", { for: id });
      input.addEventListener("input", () => changed(slider.set(Number(input.value))));
      place.append(el("div", { class: "slider" }, el("label", { for: id }, slider.label), output, input));
      this.#sliders.set(slider, { input, output });
    }
    this.#sampler.addEventListener("change", () =>
      changed({ sampler: this.#sampler.value === "ddim" ? "ddim" : "dpm++" }),
    );
    place.append(el("div", { class: "slider" }, el("label", { for: "sampler" }, "sampler"), el("span"), this.#sampler));
  }

  /** @param {Call} call @param {string[]} words of both prompts */
  show(call, words) {
    for (const [{ range, get }, { input, output }] of this.#sliders) {
      const value = get(call);
      const written = typeof value === "number" ? short(value) : String(value);
      input.value = value === "never" ? input.max : String(value);
      output.textContent = range === TIMES && value !== "never" ? `t ≥ ${written} T` : written;
      input.setAttribute("aria-valuetext", output.textContent);
    }
    this.#sampler.value = call.sampler;
    this.#blended = call.blend;
    const before = [...this.#blend.children].map((chip) => chip.textContent).join("\n");
    if (before !== words.join("\n")) {
      const chip = (/** @type {string} */ word) =>
        el("button", { type: "button", class: "chip", onclick: () => this.#toggle(word) }, word);
      this.#blend.replaceChildren(...words.map(chip));
    }
    for (const chip of this.#blend.children) {
      chip.setAttribute("aria-pressed", String(call.blend.includes(chip.textContent ?? "")));
    }
  }

  /** @param {string} word */
  #toggle(word) {
    const others = this.#blended.filter((other) => other !== word);
    this.changed({ blend: others.length < this.#blended.length ? others : [...others, word] });
  }
}
