// The attention maps of a word: which word of the other prompt it is compared with, and its map at a step.

import { align, mapper } from "../method/mapper.js";
import { swaps } from "../method/reading.js";
import { columns, names } from "../method/words.js";

/** @import { Tokens } from "../method/tokens.js" */
/** @import { Lists } from "../method/reading.js" */
/** @import { Shown } from "./engine.js" */

/**
 * A word and the one that it is aligned with: of the source, and of the target.
 * @param {Tokens} source
 * @param {Tokens} target
 * @param {Lists} lists
 * @param {string} word
 * @param {boolean} ofSource
 * @returns {[string | null, string | null]}
 */
export function counterparts(source, target, lists, word, ofSource) {
  const M = mapper(align(source, target, swaps(source, target, lists)), source.ids.length);
  const [from, to] = ofSource ? [source, target] : [target, source];
  const own = columns(from, word);
  const faces = (/** @type {number} */ j) => own.some((i) => (ofSource ? M[i][j] : M[j][i]));
  const other = names(to).find((name) => columns(to, name).some(faces)) ?? null;
  return ofSource ? [word, other] : [other, word];
}

/**
 * The map of a word, the sum of its tokens' maps, or null before there is one.
 * @param {Shown} shown
 * @param {number} share how far the run is, from 0 to 1: a preview has fewer steps
 * @param {0 | 1} row of the source, or of the edit
 * @param {number[]} own the word's columns
 * @param {number} m tokens of a prompt
 * @returns {Float32Array | null} (h, w)
 */
export function mapOf(shown, share, row, own, m) {
  const at = Math.max(1, Math.round(share * shown.call.steps));
  const maps = shown.steps[Math.min(shown.steps.length, at) - 1]?.maps;
  if (!maps) return null;
  const n = maps.length / 2 / m;
  return Float32Array.from({ length: n }, (_, i) => own.reduce((sum, j) => sum + maps[(row * m + j) * n + i], 0));
}
