// The switch times that an edit has by default, as `p2p/switch_times.py`, whose times it is given.

import { read } from "./reading.js";

/** @import { Lists } from "./reading.js" */
/** @import { Tokens } from "./tokens.js" */

/** @typedef {{tau: number, until: number}} Times of cross-attention, and of self-attention; fractions of T */
/** @typedef {{objects: Times, others: Times}} Kinds of an edit that replaces an object by another, and of any other */

/**
 * @param {Tokens} source
 * @param {Tokens} target
 * @param {Lists} lists
 * @param {Kinds} kinds
 */
export function switchTimes(source, target, lists, kinds) {
  return read(source, target, lists).replacesObject ? kinds.objects : kinds.others;
}
