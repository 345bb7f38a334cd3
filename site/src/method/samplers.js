// Steps from z_t to z_{t_prev}, as `ldm/samplers.py` [D16, D17]: DDIM without noise, and DPM-Solver++(2M).

/** @import { Schedule, Prediction } from "./schedule.js" */
/** @typedef {"ddim" | "dpm++"} Sampler */
/** @typedef {{t: number, z_0: Float32Array}} Visit the last network evaluation */

/**
 * [D17] The timesteps to visit, evenly spaced from T down, then 0.
 * @param {Schedule} schedule
 * @param {number} steps
 * @returns {number[]}
 */
export function times(schedule, steps) {
  const { T } = schedule;
  if (!(Number.isInteger(steps) && 1 <= steps && steps <= T)) {
    throw new RangeError(`the number of steps must lie in 1..${T}, got ${steps}`);
  }
  return [...Array.from({ length: steps }, (_, i) => toEven(T - (T * i) / steps)), 0];
}

/** Round halves to even, as Python does. @param {number} x */
export function toEven(x) {
  const floor = Math.floor(x);
  return x - floor === 0.5 ? floor + (floor % 2) : Math.round(x);
}

/**
 * [D17] The deterministic DDIM step.
 * @param {Schedule} schedule
 * @param {Prediction} prediction
 * @param {number} tPrev
 * @returns {Float32Array}
 */
export function ddimStep(schedule, { eps, z_0 }, tPrev) {
  const [signal, noise] = [schedule.signal(tPrev), schedule.noise(tPrev)];
  return z_0.map((x, i) => signal * x + noise * eps[i]);
}

/**
 * DPM-Solver++(2M): the DDIM step of a z_0 that is extrapolated from the last two predictions. The first step, and the
 * one to t = 0, are plain DDIM steps.
 * @param {Schedule} schedule
 * @param {Float32Array} z_t
 * @param {Prediction} prediction
 * @param {number} t
 * @param {number} tPrev
 * @param {Visit | null} past
 * @returns {Float32Array}
 */
export function dpmStep(schedule, z_t, prediction, t, tPrev, past) {
  let { z_0 } = prediction;
  if (past && tPrev > 0) {
    const [before, now, next] = [past.t, t, tPrev].map((at) => halfLogSnr(schedule, at));
    const share = 1 / ((2 * (now - before)) / (next - now));
    const earlier = past.z_0;
    z_0 = z_0.map((x, i) => x + (x - earlier[i]) * share);
  }
  const [signal, noise] = [schedule.signal(t), schedule.noise(t)];
  const eps = z_t.map((z, i) => (z - signal * z_0[i]) / noise);
  return ddimStep(schedule, { eps, z_0 }, tPrev);
}

/** @param {Schedule} schedule @param {number} t */
function halfLogSnr(schedule, t) {
  const abar = schedule.alphaBar[t];
  return Math.log(abar / (1 - abar)) / 2;
}
