// Local blend, as `p2p/local_blend.py`: the change is confined to the region that chosen words attend to.

import { switchTime } from "./alpha.js";
import { columns } from "./words.js";

/** @import { Tokens } from "./tokens.js" */
/** @typedef {{row: number, columns: number[]}} Mention a word of one prompt; row 0 is the source */

const START = 0.8; // blending begins once t < start
const THRESHOLD = 0.3; // of a map's own maximum
const WIDEN = 1; // positions by which a map is dilated

/** Confines the edit of one run. The maps have the latent's size, so nothing is resized. */
export class LocalBlend {
  /**
   * @param {Tokens} source
   * @param {Tokens} target
   * @param {string[]} words whose region may differ
   * @param {number} T
   * @param {number} side of the maps and of the latent
   * @throws {RangeError} a word is in neither prompt
   */
  constructor(source, target, words, T, side) {
    this.start = switchTime(START, T);
    this.side = side;
    /** @type {Float64Array | null} sum of the maps so far, (2, m, h, w) */
    this.sum = null;
    this.mentions = words.flatMap((word) => {
      const found = [source, target].flatMap((tokens, row) => {
        const own = columnsIfAny(tokens, word);
        return own.length ? [{ row, columns: own }] : [];
      });
      if (!found.length) throw new RangeError(`neither prompt has “${word}” to blend by`);
      return found;
    });
    this.m = source.ids.length;
  }

  /** Add the maps of a step. @param {Float32Array} maps (2, m, h, w) */
  add(maps) {
    this.sum ??= new Float64Array(maps.length);
    for (let i = 0; i < maps.length; i++) this.sum[i] += maps[i];
  }

  /**
   * The positions where the target may differ, from the maps so far.
   * @returns {boolean[]}
   */
  mask() {
    const { side, sum, m } = this;
    const n = side * side;
    const mask = Array(n).fill(false);
    if (!sum) return mask;
    for (const { row, columns: own } of this.mentions) {
      const map = Array.from({ length: n }, (_, i) => own.reduce((x, j) => x + sum[(row * m + j) * n + i], 0));
      const wide = map.map((_, i) => around(map, i, side));
      const least = THRESHOLD * Math.max(...wide);
      wide.forEach((x, i) => (mask[i] ||= x > least));
    }
    return mask;
  }

  /**
   * The edit's latent with the source's outside the mask; unchanged before the start.
   * @param {Float32Array} edit
   * @param {Float32Array} source
   * @param {number} t the timestep reached
   */
  apply(edit, source, t) {
    if (t >= this.start) return edit;
    const mask = this.mask();
    return edit.map((x, i) => (mask[i % mask.length] ? x : source[i]));
  }
}

/**
 * The largest of the positions within WIDEN of one.
 * @param {number[]} map
 * @param {number} i
 * @param {number} side
 */
function around(map, i, side) {
  const [y, x] = [Math.floor(i / side), i % side];
  let most = -Infinity;
  for (let v = Math.max(y - WIDEN, 0); v <= Math.min(y + WIDEN, side - 1); v++) {
    for (let u = Math.max(x - WIDEN, 0); u <= Math.min(x + WIDEN, side - 1); u++)
      most = Math.max(most, map[v * side + u]);
  }
  return most;
}

/** The columns of a word, none if the prompt does not have it. @param {Tokens} tokens @param {string} word */
function columnsIfAny(tokens, word) {
  try {
    columns(tokens, word.includes("#") ? word : `${word}#1`);
  } catch {
    return [];
  }
  return columns(tokens, word);
}
