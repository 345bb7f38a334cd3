// What the build wrote of the model and the method (world.json), and its edits to start from as calls.

/** @import { Call } from "./method/run.js" */
/** @import { Lists } from "./method/reading.js" */
/** @import { Kinds } from "./method/switch_times.js" */
/** @import { ScheduleConfig } from "./method/schedule.js" */
/** @import { TextConfig } from "./method/tokens.js" */
/** @import { TextShape } from "./model.js" */
/** @import { Vocabulary } from "./page/vocabulary.js" */

/**
 * An edit to start from.
 * @typedef {object} Preset
 * @property {string} title
 * @property {string} source
 * @property {string} target
 * @property {number} seed
 * @property {number} tau
 * @property {number} until
 * @property {Record<string, number>} weights
 * @property {string[]} blend
 */
/** @typedef {{steps: number, guidance: number}} Defaults */
/** @typedef {{prompt: string, seed: number, t: number, v: number[]}} Check a call of the UNet, as Python computes it */

/**
 * @typedef {object} World
 * @property {ScheduleConfig} schedule
 * @property {TextConfig & TextShape} text
 * @property {[number, number, number]} latent
 * @property {number} imageSize pixels a side
 * @property {Vocabulary} vocabulary
 * @property {Lists} lists
 * @property {Defaults} defaults
 * @property {Kinds} switchTimes
 * @property {Preset[]} presets
 * @property {Record<string, number>} sizes bytes of each graph
 * @property {Check} check
 */

/**
 * @param {Preset} preset
 * @param {Defaults} defaults
 * @returns {Call}
 */
export function callOf(preset, defaults) {
  return {
    source: preset.source,
    target: preset.target,
    seed: BigInt(preset.seed),
    steps: defaults.steps,
    guidance: defaults.guidance,
    sampler: "ddim",
    tau: preset.tau,
    until: { start: 1, end: preset.until },
    alpha: new Map(),
    weights: new Map(Object.entries(preset.weights)),
    blend: preset.blend,
  };
}
