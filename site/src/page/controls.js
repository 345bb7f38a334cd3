// The sliders, the sampler, and the words of local blend.

import { el, short } from "./dom.js";
import { LIMITS } from "./link.js";

/** @import { Call } from "../method/run.js" */
/** @import { Time } from "../method/alpha.js" */

const NEVER = 1.05; // the last place of a slider of times

/**
 * A slider of one number.
 * @typedef {object} Slider
 * @property {string} id
 * @property {string} label
 * @property {[number, number, number]} range least, most, step
 * @property {(call: Call) => number} get
 * @property {(call: Call, value: number) => Partial<Call>} set
 * @property {(call: Call) => string} text
 */

const timeOf = (/** @type {number} */ value) => /** @type {Time} */ (value > 1 ? "never" : value);
const placeOf = (/** @type {Time} */ time) => (time === "never" ? NEVER : time);
const told = (/** @type {Time} */ time) => (time === "never" ? "never" : `t ≥ ${short(time)} T`);

/** @type {Slider[]} */
const SLIDERS = [
  {
    id: "tau",
    label: "τ of cross-attention",
    range: [0, NEVER, 0.05],
    get: (call) => placeOf(call.tau),
    set: (_, value) => ({ tau: timeOf(value) }),
    text: (call) => told(call.tau),
  },
  {
    id: "until",
    label: "τ of self-attention",
    range: [0, NEVER, 0.05],
    get: (call) => placeOf(call.until.end),
    set: (_, value) => ({ until: { start: 1, end: timeOf(value) } }),
    text: (call) => told(call.until.end),
  },
  {
    id: "seed",
    label: "seed",
    range: [0, 99, 1],
    get: (call) => Number(call.seed),
    set: (_, value) => ({ seed: BigInt(value) }),
    text: (call) => String(call.seed),
  },
  {
    id: "steps",
    label: "steps",
    range: [2, LIMITS.steps, 1],
    get: (call) => call.steps,
    set: (_, value) => ({ steps: value }),
    text: (call) => String(call.steps),
  },
  {
    id: "guidance",
    label: "guidance w",
    range: [1, LIMITS.guidance, 0.5],
    get: (call) => call.guidance,
    set: (_, value) => ({ guidance: value }),
    text: (call) => short(call.guidance),
  },
];

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

  /**
   * @param {HTMLElement} place
   * @param {HTMLElement} blend
   * @param {(change: (call: Call) => Partial<Call>) => void} changed
   */
  constructor(place, blend, changed) {
    this.changed = changed;
    this.#blend = blend;
    for (const slider of SLIDERS) {
      const [min, max, step] = slider.range;
      const input = el("input", { type: "range", id: slider.id, min, max, step });
      const output = el("output", { for: slider.id });
      input.addEventListener("input", () => changed((call) => slider.set(call, Number(input.value))));
      place.append(el("div", { class: "slider" }, el("label", { for: slider.id }, slider.label), output, input));
      this.#sliders.set(slider, { input, output });
    }
    this.#sampler.addEventListener("change", () => {
      const sampler = this.#sampler.value === "ddim" ? "ddim" : "dpm++";
      changed(() => ({ sampler }));
    });
    place.append(el("div", { class: "slider" }, el("label", { for: "sampler" }, "sampler"), el("span"), this.#sampler));
  }

  /** @param {Call} call @param {string[]} words of both prompts */
  show(call, words) {
    for (const [slider, { input, output }] of this.#sliders) {
      input.value = String(slider.get(call));
      output.textContent = slider.text(call);
      input.setAttribute("aria-valuetext", slider.text(call));
    }
    this.#sampler.value = call.sampler;
    const before = [...this.#blend.children].map((chip) => chip.textContent).join("\n");
    if (before !== words.join("\n")) {
      const toggle = (/** @type {string} */ word) => (/** @type {Call} */ now) => ({
        blend: now.blend.includes(word) ? now.blend.filter((other) => other !== word) : [...now.blend, word],
      });
      this.#blend.replaceChildren(
        ...words.map((word) =>
          el("button", { type: "button", class: "chip", onclick: () => this.changed(toggle(word)) }, word),
        ),
      );
    }
    for (const chip of this.#blend.children) {
      chip.setAttribute("aria-pressed", String(call.blend.includes(chip.textContent ?? "")));
    }
  }
}
