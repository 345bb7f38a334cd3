// An edit as a pair of matrices for each step, as `p2p/edits.py`: A_used = A P_t + A* Q_t [P10].

import { compileAlpha } from "./alpha.js";
import { align, alignedColumns, copies, mapper } from "./mapper.js";
import { swaps } from "./reading.js";
import { columns, names } from "./words.js";

/** @import { Tokens } from "./tokens.js" */
/** @import { Matrix } from "./mapper.js" */
/** @import { Time, Window } from "./alpha.js" */
/** @import { Lists } from "./reading.js" */
/** @typedef {{P: Matrix, Q: number[]}} Matrices P_t, and the diagonal of Q_t */
/** @typedef {(t: number) => Matrices} MatricesAt */

/**
 * What is edited, beside the two prompts.
 * @typedef {object} Options
 * @property {Time} tau switch time of all words
 * @property {Map<string, Window>} alpha windows of single words of the target
 * @property {Map<string, number>} weights factors of single words of the target
 */

/**
 * The edit that is inferred from two prompts, and then the weights: t -> P_t and Q_t.
 * @param {Tokens} source
 * @param {Tokens} target
 * @param {Options} options
 * @param {Lists} lists
 * @param {number} T
 * @returns {MatricesAt}
 */
export function compileEdit(source, target, options, lists, T) {
  const m = source.ids.length;
  const alpha = compileAlpha(options.tau, options.alpha, target, T);
  const compiled = claims(source, target, lists).map((runs) => ({ M: mapper(runs, m), a: alignedColumns(runs, m) }));
  const c = Array(m).fill(1);
  for (const [word, factor] of options.weights) for (const j of columns(target, word)) c[j] *= factor;
  return (t) => {
    const alpha_t = alpha(t);
    const matrices = compiled.reduce((before, { M, a }) => claim(before, a, M, alpha_t), untouched(m));
    return { P: matrices.P.map((row) => row.map((x, j) => x * c[j])), Q: matrices.Q.map((x, j) => x * c[j]) };
  };
}

/**
 * The words of the target that are new: the edit injects nothing of the source for them, so they have no window.
 * @param {Tokens} source
 * @param {Tokens} target
 * @param {Lists} lists
 * @returns {string[]}
 */
export function newWords(source, target, lists) {
  const taken = claims(source, target, lists).map((runs) => alignedColumns(runs, source.ids.length));
  return names(target).filter((word) => !columns(target, word).some((j) => taken.some((a) => a[j])));
}

/**
 * What the edit aligns: the words that both prompts have, then each swap.
 * @param {Tokens} source
 * @param {Tokens} target
 * @param {Lists} lists
 */
function claims(source, target, lists) {
  return [copies(source, target), ...swaps(source, target, lists).map((pair) => align(source, target, [pair]))];
}

/**
 * P = 0 and Q = I: the target uses its own attention.
 * @param {number} m
 * @returns {Matrices}
 */
export function untouched(m) {
  return { P: Array.from({ length: m }, () => Array(m).fill(0)), Q: Array(m).fill(1) };
}

/**
 * P = M diag(alpha), Q = diag(1 - alpha) on the columns where a is 1; the others keep the earlier matrices.
 * @param {Matrices} before
 * @param {number[]} a
 * @param {Matrix} M
 * @param {number[]} alpha
 * @returns {Matrices}
 */
function claim(before, a, M, alpha) {
  const take = a.map((x, j) => x * alpha[j]);
  return {
    P: before.P.map((row, i) => row.map((x, j) => x * (1 - a[j]) + M[i][j] * take[j])),
    Q: before.Q.map((x, j) => x * (1 - a[j]) + (a[j] - take[j])),
  };
}
