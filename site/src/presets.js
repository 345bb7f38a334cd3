// The edits of the page's list as calls.

/** @import { Call } from "./method/run.js" */

/**
 * An edit of the list, as the build wrote it.
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
/** @typedef {{tau: number, until: number, steps: number, guidance: number}} Defaults */

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
