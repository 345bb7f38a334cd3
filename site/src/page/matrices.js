// The mapper as lines between the words, P_t and Q_t as matrices, and the formula with the numbers of a step.

import { el, short, svg } from "./dom.js";

/** @import { Tokens } from "../method/tokens.js" */
/** @import { Matrices } from "../method/edit.js" */
/** @typedef {{name: string, columns: number[]}} Column a word with its tokens, or one token between words */

/**
 * The columns that are drawn: every token but padding, of which the first stands for all.
 * @param {Tokens} tokens
 * @param {number} length
 */
function drawn(tokens, length) {
  return Array.from({ length: Math.min(length + 1, tokens.ids.length) }, (_, i) => ({ i, name: tokens.pieces[i] }));
}

/**
 * @param {HTMLElement} place
 * @param {Tokens} source
 * @param {Tokens} target
 * @param {Matrices} matrices
 */
export function drawMatrices(place, source, target, { P, Q }) {
  const length = Math.max(source.count, target.count);
  const [rows, columns] = [drawn(source, length), drawn(target, length)];
  place.replaceChildren(lines(rows, columns, P, Q), matrix(rows, columns, P, Q));
}

/** @typedef {{i: number, name: string}[]} Drawn */

/**
 * The words under each other, a line for each number of P_t.
 * @param {Drawn} rows @param {Drawn} columns @param {number[][]} P @param {number[]} Q
 */
function lines(rows, columns, P, Q) {
  const [step, width] = [22, 280];
  const height = step * Math.max(rows.length, columns.length) + 22;
  const y = (/** @type {number} */ k) => 32 + step * k;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "The mapper as lines from the source's words to the edit's" });
  picture.append(svg("text", { x: 100, y: 12, "text-anchor": "end" }, "source"), svg("text", { x: 180, y: 12 }, "edit"));
  rows.forEach(({ name }, k) => picture.append(svg("text", { x: 100, y: y(k) + 4, "text-anchor": "end" }, name)));
  columns.forEach(({ i, name }, k) => {
    picture.append(svg("text", { x: 180, y: y(k) + 4 }, name));
    if (Q[i]) picture.append(svg("circle", { cx: 172, cy: y(k), r: Math.min(4, 1 + 3 * Math.abs(Q[i])), class: "own" }));
  });
  rows.forEach((row, a) =>
    columns.forEach((column, b) => {
      const share = P[row.i][column.i];
      if (share) picture.append(svg("line", { x1: 106, y1: y(a), x2: 166, y2: y(b), class: "link", "stroke-opacity": Math.min(1, 0.25 + 0.75 * Math.abs(share)) }));
    }),
  );
  return el("figure", {}, picture, el("figcaption", {}, "Lines: attention taken from the source. Dots: a word's own."));
}

/** @param {Drawn} rows @param {Drawn} columns @param {number[][]} P @param {number[]} Q */
function matrix(rows, columns, P, Q) {
  const [cell, left, top] = [18, 74, 74];
  const [width, height] = [left + cell * columns.length + 4, top + cell * (rows.length + 1) + 12];
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": "P_t, and the diagonal of Q_t below it" });
  columns.forEach(({ name }, k) => {
    const x = left + cell * (k + 0.7);
    picture.append(svg("text", { x, y: top - 6, transform: `rotate(-60 ${x} ${top - 6})` }, name));
  });
  rows.forEach((row, a) => {
    picture.append(svg("text", { x: left - 5, y: top + cell * (a + 0.72), "text-anchor": "end" }, row.name));
    columns.forEach((column, b) => box(left + cell * b, top + cell * a, P[row.i][column.i], "cell"));
  });
  const below = top + cell * rows.length + 8;
  picture.append(svg("text", { x: left - 5, y: below + 0.72 * cell, "text-anchor": "end" }, "own, Q"));
  columns.forEach((column, b) => box(left + cell * b, below, Q[column.i], "own"));

  /** @param {number} x @param {number} y @param {number} value @param {string} kind */
  function box(x, y, value, kind) {
    const given = { x, y, width: cell, height: cell };
    picture.append(svg("rect", { ...given, class: "empty" }));
    if (value) picture.append(svg("rect", { ...given, class: kind, "fill-opacity": Math.min(1, Math.abs(value)) }, svg("title", {}, short(value))));
  }
  return el("figure", {}, picture, el("figcaption", {}, "P", el("sub", {}, "t"), " (rows: source, columns: edit), and the diagonal of Q", el("sub", {}, "t")));
}

/**
 * The formula of one column with its numbers: what a word of the edit attends by.
 * @param {Tokens} source
 * @param {string} name of the word
 * @param {number[]} own its columns
 * @param {Matrices} matrices
 * @param {number} t
 */
export function formula(source, name, own, { P, Q }, t) {
  const parts = own.map((j) => {
    const taken = P.flatMap((row, i) => (row[j] ? [`${short(row[j])} · A[${source.pieces[i]}]`] : []));
    return [...(taken.length ? taken : ["0 · A"]), `${short(Q[j])} · A*[${name}]`].join(" + ");
  });
  const each = own.length > 1 ? parts.map((part, k) => `token ${k + 1}: ${part}`) : parts;
  return `At t = ${t}: A_used[${name}] = ${[...new Set(each)].join("; ")}`;
}
