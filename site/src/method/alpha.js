// Injection schedules, as `p2p/alpha.py`: tau [P4] and its per-word form alpha_t [P9]. t counts down from T.

import { columns } from "./words.js";

/** @import { Tokens } from "./tokens.js" */
/** @typedef {number | "never"} Time a fraction of T in [0, 1], or above every timestep */
/** @typedef {{start: number, end: Time}} Window timesteps with start >= t >= end, as fractions of T */

/**
 * The smallest timestep that is at least tau.
 * @param {Time} tau
 * @param {number} T
 * @throws {RangeError} a fraction outside [0, 1]
 */
export function switchTime(tau, T) {
  if (tau === "never") return T + 1;
  if (!(tau >= 0 && tau <= 1)) throw new RangeError(`a time must lie in [0, 1], or be never, got ${tau}`);
  return Math.ceil(tau * T); // exact: T is 1000, and no thousandth times 1000 is rounded to another number
}

/**
 * Return t -> whether the step is in the window, as 0 or 1.
 * @param {Window} window
 * @param {number} T
 * @returns {(t: number) => number}
 * @throws {RangeError} it starts after its end
 */
export function compileWindow({ start, end }, T) {
  const last = switchTime(end, T);
  switchTime(start, T); // throws if out of range
  const first = Math.floor(start * T);
  if (first < last - 1 && last <= T) {
    throw new RangeError(`the window ${start}:${end} starts after its end: t counts down, so the start is the larger`);
  }
  return (t) => (last <= t && t <= first ? 1 : 0);
}

/**
 * [P9] Return t -> alpha_t: for each token of the target, the share of the source's attention in A_used.
 * @param {Time} tau
 * @param {Map<string, Window>} own windows of single words
 * @param {Tokens} target
 * @param {number} T
 * @returns {(t: number) => number[]}
 */
export function compileAlpha(tau, own, target, T) {
  const usual = compileWindow({ start: 1, end: tau }, T);
  const words = [...own].map(([word, window]) => ({ at: compileWindow(window, T), own: columns(target, word) }));
  return (t) => {
    const alpha = Array(target.ids.length).fill(usual(t));
    for (const word of words) for (const j of word.own) alpha[j] = word.at(t);
    return alpha;
  };
}
