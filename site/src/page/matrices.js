// The mapper as lines between the words, P_t and Q_t as matrices, and the formula with the numbers of a step.

import { el, short, svg } from "./dom.js";

/** @import { Tokens } from "../method/tokens.js" */
/** @import { Matrices } from "../method/edit.js" */
/** @typedef {{i: number, name: string}[]} Drawn tokens, by their columns */

/**
 * The columns that are drawn: every token but padding, of which the first stands for all.
 * @param {Tokens} tokens
 * @param {number} length
 * @returns {Drawn}
 */
function drawn(tokens, length) {
  return Array.from({ length: Math.min(length + 1, tokens.ids.length) }, (_, i) => ({ i, name: tokens.pieces[i] }));
}

/**
 * @param {HTMLElement} place
 * @param {Tokens} source
 * @param {Tokens} target
 * @param {Matrices} matrices of the step
 * @param {number[][]} M the mapper: P_t where all of the source's attention is used
 */
export function drawMatrices(place, source, target, matrices, M) {
  const length = Math.max(source.count, target.count);
  const [rows, columns] = [drawn(source, length), drawn(target, length)];
  place.replaceChildren(lines(rows, columns, matrices, M), matrix(rows, columns, matrices, M));
}

/**
 * The words under each other, a line for each number of the mapper; dashed where the step does not use it.
 * @param {Drawn} rows
 * @param {Drawn} columns
 * @param {Matrices} matrices
 * @param {number[][]} M
 */
function lines(rows, columns, { P, Q }, M) {
  const [step, width] = [20, 280];
  const height = step * Math.max(rows.length, columns.length) + 30;
  const y = (/** @type {number} */ k) => 36 + step * k;
  const picture = drawing(width, height, "The mapper as lines from the source's words to the edit's");
  picture.append(
    svg("text", { x: 100, y: 12, "text-anchor": "end" }, "source"),
    svg("text", { x: 180, y: 12 }, "edit"),
  );
  rows.forEach(({ name }, k) => picture.append(svg("text", { x: 100, y: y(k) + 4, "text-anchor": "end" }, name)));
  columns.forEach(({ i, name }, k) => {
    picture.append(svg("text", { x: 180, y: y(k) + 4 }, name));
    if (Q[i])
      picture.append(svg("circle", { cx: 172, cy: y(k), r: Math.min(5, 1 + 3 * Math.abs(Q[i])), class: "own" }));
  });
  rows.forEach((row, a) =>
    columns.forEach((column, b) => {
      if (!M[row.i][column.i]) return;
      const used = P[row.i][column.i];
      const given = { x1: 106, y1: y(a), x2: 166, y2: y(b), class: used ? "link" : "link dim" };
      picture.append(svg("line", { ...given, "stroke-width": used ? Math.min(5, 0.5 + 1.5 * Math.abs(used)) : 1 }));
    }),
  );
  const caption = "Lines: the source's attention that a word takes, dashed where this step does not. Dots: its own.";
  return el("figure", {}, picture, el("figcaption", {}, caption));
}

/**
 * @param {Drawn} rows
 * @param {Drawn} columns
 * @param {Matrices} matrices
 * @param {number[][]} M
 */
function matrix(rows, columns, { P, Q }, M) {
  const [cell, left, top] = [19, 74, 74];
  const [width, height] = [left + cell * columns.length + 30, top + cell * (rows.length + 1) + 12];
  const picture = drawing(width, height, "P_t, and the diagonal of Q_t below it");
  columns.forEach(({ name }, k) => {
    const x = left + cell * (k + 0.7);
    picture.append(svg("text", { x, y: top - 6, transform: `rotate(-60 ${x} ${top - 6})` }, name));
  });
  rows.forEach((row, a) => {
    const y = top + cell * a;
    picture.append(svg("text", { x: left - 5, y: y + 0.72 * cell, "text-anchor": "end" }, row.name));
    columns.forEach((column, b) => box(left + cell * b, y, P[row.i][column.i], "cell", M[row.i][column.i]));
  });
  const below = top + cell * rows.length + 8;
  picture.append(svg("text", { x: left - 5, y: below + 0.72 * cell, "text-anchor": "end" }, "own, Q"));
  columns.forEach((column, b) => box(left + cell * b, below, Q[column.i], "own", 0));

  /** @param {number} x @param {number} y @param {number} value @param {string} kind @param {number} mapped */
  function box(x, y, value, kind, mapped) {
    const given = { x, y, width: cell, height: cell };
    picture.append(svg("rect", { ...given, class: "empty" }));
    const inside = { x: x + 1, y: y + 1, width: cell - 2, height: cell - 2 };
    if (mapped) picture.append(svg("rect", { ...inside, class: "mapped" }));
    if (!value) return;
    const filled = { ...inside, class: kind, "fill-opacity": Math.min(1, 0.15 + 0.85 * Math.abs(value)) };
    picture.append(svg("rect", filled));
    if (value === 1) return;
    const number = short(value).replace(/^(-?)0/, "$1");
    picture.append(svg("text", { x: x + cell / 2, y: y + 0.7 * cell, class: "value" }, number));
  }
  const [P_t, Q_t] = ["P", "Q"].map((name) => [name, el("sub", {}, "t")]);
  const caption = el("figcaption", {}, ...P_t, " (a row for each word of the source), and the diagonal of ", ...Q_t);
  return el("figure", {}, picture, caption);
}

/** @param {number} width @param {number} height @param {string} label */
function drawing(width, height, label) {
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label });
}

/**
 * The formula of a word with its numbers, one line for each of its tokens.
 * @param {Tokens} source
 * @param {string} name of the word
 * @param {number[]} own its columns
 * @param {Matrices} matrices
 * @param {number} t
 * @returns {HTMLElement}
 */
export function formula(source, name, own, { P, Q }, t) {
  const lines = own.map((j) => {
    const taken = P.flatMap((row, i) => (row[j] ? [`${short(row[j])} · A[${source.pieces[i]}] + `] : []));
    return `[${name}] = ${taken.join("") || "0 · A + "}${short(Q[j])} · A*[${name}]`;
  });
  const distinct = [...new Set(lines)].map((line) => el("div", {}, "A", el("sub", {}, "used"), line));
  return el("div", {}, el("span", { class: "hint" }, `t = ${t}`), ...distinct);
}
