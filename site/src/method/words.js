// A word's columns of the attention matrix, as `p2p/words.py`.

/** @import { Tokens } from "./tokens.js" */

/**
 * A word of a prompt, and its position.
 * @typedef {object} Word
 * @property {string} text with composed accents
 * @property {number} start characters [start, end) of the prompt
 * @property {number} end
 * @property {number[]} columns its tokens, at least one
 */

const JOINED = /L[LM]*(?:['’‐‑_\u00ad\u200c\u200d-]L[LM]*)*/g;

/**
 * The words of a prompt, in order.
 * @param {Tokens} tokens
 * @returns {Word[]}
 */
export function words(tokens) {
  /** @type {Word[]} */
  const found = [];
  const shape = shapeOf(tokens.prompt);
  for (const run of shape.matchAll(JOINED)) {
    let word = grown(tokens, shape, run.index, run.index + run[0].length);
    const last = found.at(-1);
    if (last && word.columns.length && word.columns[0] <= /** @type {number} */ (last.columns.at(-1))) {
      found.pop(); // one token spans both runs
      word = grown(tokens, shape, last.start, word.end);
    }
    if (word.columns.length) found.push(word);
  }
  return found;
}

/**
 * The name of each word for `columns`, in order: the word itself, or `cat#1`, `cat#2` if it occurs twice.
 * @param {Tokens} tokens
 * @returns {string[]}
 */
export function names(tokens) {
  return words(tokens).map((word) => nameOf(tokens, word, word));
}

/**
 * The name for `columns` of the phrase from one word of the prompt to another.
 * @param {Tokens} tokens
 * @param {Word} first
 * @param {Word} last
 */
export function nameOf(tokens, first, last) {
  const phrase = [...tokens.prompt].slice(first.start, last.end).join("");
  const text = split(phrase.normalize("NFC")).join(" ");
  const starts = places(tokens, text).map((place) => place.start);
  return starts.length > 1 ? `${text}#${starts.indexOf(first.start) + 1}` : text;
}

/**
 * The columns of a word or phrase of the prompt; `cat#2` names the second cat.
 * @param {Tokens} tokens
 * @param {string} word
 * @returns {number[]}
 * @throws {RangeError} the prompt does not have the word, or has it several times
 */
export function columns(tokens, word) {
  const hash = word.lastIndexOf("#");
  let text = hash < 0 ? "" : word.slice(0, hash);
  let which = hash < 0 ? word : word.slice(hash + 1);
  const numbered = /^\p{Nd}+$/u.test(which) && places(tokens, text).length;
  if (!numbered && (hash < 0 || places(tokens, word).length)) [text, which] = [word, ""];
  const found = places(tokens, text);
  if (!found.length) {
    const have = words(tokens).map((w) => w.text);
    throw new RangeError(`the prompt “${tokens.prompt}” has no word “${text}”; its words are: ${have.join(", ")}`);
  }
  if (which && !(/^\d+$/.test(which) && found[Number(which) - 1])) {
    throw new RangeError(`“${word}”: the prompt “${tokens.prompt}” has “${text}” ${found.length} times`);
  }
  if (!which && found.length > 1) {
    const choices = found.map((_, i) => `${text}#${i + 1}`).join(" or ");
    throw new RangeError(`“${text}” occurs ${found.length} times in “${tokens.prompt}”: write ${choices}`);
  }
  return found[which ? Number(which) - 1 : 0].columns;
}

/**
 * Normalise case and Unicode equivalence, for comparing spellings.
 * @param {string} text
 */
export function normal(text) {
  // the upper case first, which spells ß and ligatures out as Python's casefold does; one letter at a time, since a
  // sigma's lower case depends on its place
  return [...text.normalize("NFD")]
    .map((letter) => letter.toUpperCase().toLowerCase())
    .join("")
    .normalize("NFC");
}

/**
 * The occurrences of a word or phrase, none of them inside a longer run of letters.
 * @param {Tokens} tokens
 * @param {string} text
 * @returns {Word[]}
 */
function places(tokens, text) {
  if (!text.trim()) return [];
  const shape = shapeOf(tokens.prompt);
  const edges = edgesOf(tokens.prompt, shape);
  const escaped = split(text).map((part) => normal(part).replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const pattern = new RegExp(`(?=(${escaped.join("\\s+")}))`, "gu");
  const found = [];
  for (const match of normal(tokens.prompt).matchAll(pattern)) {
    const start = edges.get(match.index);
    const end = edges.get(match.index + match[1].length);
    if (start === undefined || end === undefined) continue;
    const place = grown(tokens, shape, start, end);
    const around = shape.slice(place.start, start) + shape.slice(end, place.end);
    if (place.columns.length && !around.includes("L")) found.push(place);
  }
  return found;
}

/**
 * Where in the normal form a word may begin or end, mapped to the position in the prompt.
 * @param {string} prompt
 * @param {string} shape
 * @returns {Map<number, number>}
 */
function edgesOf(prompt, shape) {
  const inside = new Set();
  for (const run of shape.matchAll(/L[LM]*|.M+/g)) {
    for (let i = run.index + 1; i < run.index + run[0].length; i++) inside.add(i);
  }
  const letters = [...prompt];
  const edges = new Map();
  for (let i = 0; i <= letters.length; i++) {
    if (!inside.has(i)) edges.set(normal(letters.slice(0, i).join("")).length, i);
  }
  return edges;
}

/**
 * Extend the characters [start, end) to whole tokens, and by the marks that follow.
 * @param {Tokens} tokens
 * @param {string} shape
 * @param {number} start
 * @param {number} end
 * @returns {Word}
 */
function grown(tokens, shape, start, end) {
  /** @type {number[]} */
  let own = [];
  for (let reached = -1; own.length !== reached;) {
    reached = own.length;
    own = tokens.spans.flatMap(([a, b], i) => (a < end && start < b ? [i] : []));
    start = Math.min(start, ...own.map((i) => tokens.spans[i][0]));
    end = Math.max(end, ...own.map((i) => tokens.spans[i][1]));
    while (shape[end] === "M") end++;
  }
  const text = [...tokens.prompt].slice(start, end).join("").normalize("NFC");
  return { text, start, end, columns: own };
}

/**
 * The prompt with L for each letter or digit and M for each mark, one UTF-16 unit for each code point.
 * @param {string} prompt
 */
function shapeOf(prompt) {
  return [...prompt]
    .map((c) => (/[\p{L}\p{N}]/u.test(c) ? "L" : /\p{M}/u.test(c) ? "M" : c.length > 1 ? " " : c))
    .join("");
}

/** @param {string} text */
const split = (text) => text.split(/\s+/u).filter(Boolean);
