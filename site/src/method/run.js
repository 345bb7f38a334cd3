// A run of Prompt-to-Prompt [P3]: the source, the same seed with the target's prompt, and the edit, from one noise.

import { compileWindow } from "./alpha.js";
import { LocalBlend } from "./blend.js";
import { compileEdit } from "./edit.js";
import { randn } from "./noise.js";
import { ddimStep, dpmStep, times } from "./samplers.js";
import { guided } from "./schedule.js";

/** @import { PromptTokenizer } from "./tokens.js" */
/** @import { Schedule } from "./schedule.js" */
/** @import { Sampler } from "./samplers.js" */
/** @import { Time, Window } from "./alpha.js" */
/** @import { Options } from "./edit.js" */
/** @import { Lists } from "./reading.js" */
/** @import { Step } from "../model.js" */

/**
 * Everything that determines the images.
 * @typedef {object} CallFields
 * @property {string} source
 * @property {string} target
 * @property {bigint} seed
 * @property {number} steps
 * @property {number} guidance
 * @property {Sampler} sampler
 * @property {Window} until the window of self-attention injection
 * @property {string[]} blend words whose region may differ; none is everywhere
 * @typedef {CallFields & Options} Call
 */

/**
 * What samples: the networks, and the settings that they were trained with.
 * @typedef {object} Networks
 * @property {number} size numbers of a latent
 * @property {[number, number, number]} latent
 * @property {(ids: number[][]) => Promise<Float32Array>} encode
 * @property {(z: Float32Array, t: number, context: Float32Array, matrices: import("./edit.js").Matrices,
 *   selfShare: number) => Promise<Step>} step
 */

/**
 * The rows after a step: latents, predicted clean latents, and the maps of the words.
 * @typedef {object} State
 * @property {number} t the timestep of the call
 * @property {number} tPrev the timestep reached
 * @property {Float32Array[]} z of each row
 * @property {Float32Array[]} z_0 predicted, of each row
 * @property {Float32Array} maps (2, m, h, w): of the row before the last, and of the last
 */

/**
 * The source and its edit, a state for each step. With `fixed`, the row of the same seed comes before them.
 * @param {Networks} model
 * @param {Schedule} schedule
 * @param {PromptTokenizer} tokenizer
 * @param {Lists} lists
 * @param {Call} call
 * @param {boolean} fixed
 * @returns {AsyncGenerator<State>}
 * @throws {RangeError} the call does not fit the prompts
 */
export async function* run(model, schedule, tokenizer, lists, call, fixed) {
  const { T } = schedule;
  const [source, target] = [call.source, call.target].map((prompt) => tokenizer.encode(prompt));
  const matrices = compileEdit(source, target, call, lists, T);
  const selfShare = compileWindow(call.until, T);
  const blend = call.blend.length ? new LocalBlend(source, target, call.blend, T, model.latent[1]) : null;
  const visited = times(schedule, call.steps);

  const rows = fixed ? [target, source, target] : [source, target];
  const prompts = call.guidance === 1 ? rows : [...rows.map(() => tokenizer.encode("")), ...rows];
  const context = await model.encode(prompts.map((tokens) => tokens.ids));
  const z_T = randn(model.size, call.seed);
  let z = rows.map(() => z_T);
  /** @type {({t: number, z_0: Float32Array} | null)[]} */
  let past = rows.map(() => null);
  for (const [k, t] of visited.slice(0, -1).entries()) {
    const tPrev = visited[k + 1];
    const input = new Float32Array(prompts.length * model.size);
    for (let row = 0; row < prompts.length; row++) input.set(z[row % rows.length], row * model.size);
    const { v, maps } = await model.step(input, t, context, matrices(t), selfShare(t));
    const output = (/** @type {number} */ row) => v.subarray(row * model.size, (row + 1) * model.size);
    const predictions = rows.map((_, row) => {
      const own = call.guidance === 1 ? output(row) : guided(output(row), output(rows.length + row), call.guidance);
      return schedule.predict(z[row], own, t);
    });
    z = predictions.map((prediction, row) =>
      call.sampler === "ddim"
        ? ddimStep(schedule, prediction, tPrev)
        : dpmStep(schedule, z[row], prediction, t, tPrev, past[row]),
    );
    past = predictions.map(({ z_0 }) => ({ t, z_0 }));
    if (blend) {
      blend.add(maps);
      z = z.with(-1, blend.apply(z[z.length - 1], z[z.length - 2], tPrev));
    }
    yield { t, tPrev, z, z_0: predictions.map(({ z_0 }) => z_0), maps };
  }
}
