// The mapper M [P6-P8], as `p2p/mappers.py`: the columns of the source's attention that each target token takes.

import { columns, normal, words } from "./words.js";

/** @import { Tokens } from "./tokens.js" */
/** @import { Word } from "./words.js" */
/** @typedef {number[][]} Matrix rows of numbers */
/** @typedef {{source: number[], target: number[], aligned: boolean}} Run source tokens matched with target tokens */
/** @typedef {{text: string, columns: number[], word: Word | null}} Unit a word, or what is between words */

const BOS = 0;

/**
 * The units of a prompt, in order; they cover every token between BOS and EOS once.
 * @param {Tokens} tokens
 * @returns {Unit[]}
 */
export function units(tokens) {
  /** @type {Unit[]} */
  const found = words(tokens).map((word) => ({ text: normal(word.text), columns: word.columns, word }));
  const taken = new Set(found.flatMap((unit) => unit.columns));
  const letters = [...tokens.prompt];
  for (let i = 1; i < tokens.count - 1; i++) {
    if (taken.has(i)) continue;
    const [start, end] = tokens.spans[i];
    const last = found.at(-1);
    if (start === end)
      found.push({ text: tokens.pieces[i], columns: [i], word: null }); // a special token
    else if (last && !last.word && String(tokens.spans[last.columns[0]]) === String([start, end])) {
      last.columns.push(i); // an emoji may be several tokens
    } else found.push({ text: normal(letters.slice(start, end).join("")), columns: [i], word: null });
  }
  return found.sort((a, b) => a.columns[0] - b.columns[0]);
}

/**
 * Align the tokens of two prompts; every source token is in exactly one run. The words of each pair are aligned, the
 * rest by the longest common subsequence of words.
 * @param {Tokens} source
 * @param {Tokens} target
 * @param {[string, string][]} [pairs]
 * @returns {Run[]}
 */
export function align(source, target, pairs = []) {
  /** @type {Run[]} */
  const runs = pairs.map(([ours, theirs]) => ({
    source: columns(source, ours),
    target: columns(target, theirs),
    aligned: true,
  }));
  const [ours, theirs] = [source, target].map((tokens, side) => {
    const paired = new Set(runs.flatMap((run) => (side ? run.target : run.source)));
    return units(tokens).filter((unit) => !unit.columns.some((i) => paired.has(i)));
  });
  const { same, gaps } = common(ours, theirs);
  for (const [unit, other] of same) runs.push({ source: unit.columns, target: other.columns, aligned: true });
  for (const gap of gaps) {
    const [left, added] = gap.map((side) => side.flatMap((unit) => unit.columns));
    if (left.length) runs.push({ source: left, target: added.length ? added : [BOS], aligned: false });
  }
  return [...runs, { source: [BOS], target: [BOS], aligned: true }, ...ends(source, target)];
}

/**
 * The longest common subsequence, in pairs, and the units in the gaps between them. Of several such subsequences it is
 * the one that moves words least.
 * @param {Unit[]} ours
 * @param {Unit[]} theirs
 * @returns {{same: [Unit, Unit][], gaps: [Unit[], Unit[]][]}}
 */
export function common(ours, theirs) {
  // best[i][j]: [pairs, minus the total shift] of the first i and the first j units
  const best = Array.from({ length: ours.length + 1 }, () => Array.from({ length: theirs.length + 1 }, () => [0, 0]));
  /** @type {(a: number[], b: number[]) => number[]} */
  const larger = (a, b) => ((b[0] - a[0] || b[1] - a[1]) > 0 ? b : a);
  for (const [i, a] of ours.entries()) {
    for (const [j, b] of theirs.entries()) {
      best[i + 1][j + 1] = larger(best[i][j + 1], best[i + 1][j]);
      if (a.text === b.text) {
        const [pairs, shift] = best[i][j];
        best[i + 1][j + 1] = larger(best[i + 1][j + 1], [pairs + 1, shift - Math.abs(i - j)]);
      }
    }
  }
  /** @type {[number, number][]} */
  const found = [];
  for (let i = ours.length, j = theirs.length; i && j;) {
    if (String(best[i][j]) === String(best[i - 1][j])) i--;
    else if (String(best[i][j]) === String(best[i][j - 1])) j--;
    else found.unshift([--i, --j]);
  }
  const around = [[-1, -1], ...found, [ours.length, theirs.length]];
  return {
    same: found.map(([i, j]) => [ours[i], theirs[j]]),
    gaps: around.slice(1).map(([iNext, jNext], k) => {
      const [i, j] = around[k];
      return [ours.slice(i + 1, iNext), theirs.slice(j + 1, jNext)];
    }),
  };
}

/**
 * Align EOS with EOS, and padding with the padding at the same place, or with the other prompt's first.
 * @param {Tokens} source
 * @param {Tokens} target
 * @returns {Run[]}
 */
function ends(source, target) {
  const length = source.ids.length;
  const [ours, theirs] = [source, target].map((tokens) => Math.min(tokens.count, length - 1));
  const facing = new Map([[source.count - 1, new Set([target.count - 1])]]);
  for (let i = Math.min(source.count, target.count); i < length; i++) {
    const from = Math.max(i, ours);
    if (!facing.has(from)) facing.set(from, new Set());
    facing.get(from)?.add(Math.max(i, theirs));
  }
  return [...facing].map(([i, targets]) => ({ source: [i], target: [...targets], aligned: true }));
}

/**
 * [P10] The runs of A^_j = A_a(j): the words that both prompts have, BOS, EOS, and padding at equal positions.
 * @param {Tokens} source
 * @param {Tokens} target
 * @returns {Run[]}
 */
export function copies(source, target) {
  const end = source.count - 1;
  const shared = align(source, target).filter((run) => run.aligned && Math.max(...run.source) < end);
  const runs = [...shared, { source: [end], target: [target.count - 1], aligned: true }];
  for (let i = Math.max(source.count, target.count); i < source.ids.length; i++) {
    runs.push({ source: [i], target: [i], aligned: true });
  }
  return runs;
}

/**
 * [P6-P8] The matrix of an alignment: M[i][j] is the share of source token i's attention that target token j takes.
 * @param {Run[]} alignment
 * @param {number} length number of tokens of either prompt, padding counted
 * @returns {Matrix}
 */
export function mapper(alignment, length) {
  const M = Array.from({ length }, () => Array(length).fill(0));
  for (const { source, target } of alignment) {
    for (const [k, i] of source.entries()) {
      if (source.length === target.length) M[i][target[k]] += 1;
      else for (const j of target) M[i][j] += 1 / target.length;
    }
  }
  return M;
}

/**
 * [P10] a: 1 for the target tokens that correspond to source tokens, 0 for the new ones.
 * @param {Run[]} alignment
 * @param {number} length
 * @returns {number[]}
 */
export function alignedColumns(alignment, length) {
  const a = Array(length).fill(0);
  for (const run of alignment) if (run.aligned) for (const j of run.target) a[j] = 1;
  return a;
}
