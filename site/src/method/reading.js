// The swaps inferred from two prompts, as `p2p/reading.py`, whose lists of function words it is given.

import { common, units } from "./mapper.js";
import { nameOf } from "./words.js";

/** @import { Tokens } from "./tokens.js" */
/** @import { Unit } from "./mapper.js" */
/** @import { Word } from "./words.js" */

/**
 * Function words.
 * @typedef {object} Lists
 * @property {string[]} placeLinks
 * @property {string[]} determiners
 * @property {string[]} beginners
 * @property {string[]} links
 * @property {string[]} compoundLinks each of several words
 * @property {string[]} objectVerbs
 * @property {string[]} verbs
 */
/** @typedef {"link" | "determiner" | "content" | "verb" | "punctuation"} Kind */
/** @typedef {{words: Word[], kind: Kind, phrase: number, isHead: boolean}} Part a word or a compound link */
/** @typedef {[Word[], Word[]]} Pair consecutive words of the source, and of the target */

/**
 * What an edit does.
 * @typedef {object} Reading
 * @property {[string, string][]} swaps words or phrases, and those that replace them, named as for `columns`
 * @property {boolean} replacesObject whether an object becomes another: see `objects`
 */

/**
 * Read two prompts.
 * @param {Tokens} source
 * @param {Tokens} target
 * @param {Lists} lists
 * @returns {Reading}
 */
export function read(source, target, lists) {
  const [ours, theirs] = [units(source), units(target)];
  const [left, right] = [ours, theirs].map((found) => parts(found, lists));
  const pairs = common(ours, theirs).gaps.flatMap(([gap, other]) =>
    facing(within(left, gap), within(right, other)).sort(([, a], [, b]) => a[0].start - b[0].start),
  );
  const heads = objects(left, lists);
  return {
    swaps: pairs.map(([before, after]) => [named(source, before), named(target, after)]),
    replacesObject: pairs.some(([before]) => heads.has(before[before.length - 1])),
  };
}

/**
 * The words or phrases of the source with those of the target that replace them, named as for `columns`.
 * @param {Tokens} source
 * @param {Tokens} target
 * @param {Lists} lists
 */
export const swaps = (source, target, lists) => read(source, target, lists).swaps;

/**
 * The heads of the phrases that are no place ("on the grass") and no medium ("a photo" of something).
 * @param {Part[]} found
 * @param {Lists} lists
 */
function objects(found, lists) {
  const begins = new Map(found.toReversed().map((part) => [part.phrase, part.words[0].text.toLowerCase()]));
  const named = (/** @type {number} */ phrase) =>
    !lists.placeLinks.includes(begins.get(phrase) ?? "") && begins.get(phrase + 1) !== "of";
  const heads = found.filter((part) => part.kind === "content" && part.isHead && named(part.phrase));
  return new Set(heads.map((part) => part.words[part.words.length - 1]));
}

/** @type {(tokens: Tokens, phrase: Word[]) => string} */
const named = (tokens, phrase) => nameOf(tokens, phrase[0], phrase[phrase.length - 1]);

/**
 * The parts with words in a gap, reduced to these words.
 * @param {Part[]} found
 * @param {Unit[]} gap
 */
function within(found, gap) {
  const inside = new Set(gap.map((unit) => unit.columns[0]));
  return found
    .map((part) => ({ ...part, words: part.words.filter((word) => inside.has(word.columns[0])) }))
    .filter((part) => part.words.length);
}

/**
 * Pair the parts of one gap.
 * @param {Part[]} ours
 * @param {Part[]} theirs
 * @returns {Pair[]}
 */
function facing(ours, theirs) {
  if (ours.length === theirs.length && ours.every((part, i) => part.kind === theirs[i].kind)) {
    return ours.flatMap((part, i) => matched([part], [theirs[i]]));
  }
  return [false, true].flatMap((linked) => {
    const [a, b] = [ours, theirs].map((side) =>
      phrases(side).filter((phrase) => phrase.some((part) => part.kind === "link") === linked),
    );
    return a.slice(0, b.length).flatMap((phrase, i) =>
      ["link", "determiner", "modifier", "head"].flatMap((wanted) =>
        matched(
          phrase.filter((part) => slot(part) === wanted),
          b[i].filter((part) => slot(part) === wanted),
        ),
      ),
    );
  });
}

/**
 * @param {Part[]} found
 * @returns {Part[][]}
 */
function phrases(found) {
  /** @type {Map<number, Part[]>} */
  const groups = new Map();
  for (const part of found) groups.set(part.phrase, [...(groups.get(part.phrase) ?? []), part]);
  return [...groups.values()];
}

/**
 * The role of a part in its phrase.
 * @param {Part} part
 */
function slot(part) {
  if (part.kind === "link" || part.kind === "determiner") return part.kind;
  return part.isHead ? "head" : "modifier";
}

/**
 * Pair words one by one if their numbers are equal, else as one phrase for another; none if one side is empty.
 * @param {Part[]} ours
 * @param {Part[]} theirs
 * @returns {Pair[]}
 */
function matched(ours, theirs) {
  const [left, added] = [ours, theirs].map((side) => side.flatMap((part) => part.words));
  if (left.length === added.length) return left.map((word, i) => [[word], [added[i]]]);
  return left.length && added.length ? [[left, added]] : [];
}

/**
 * The words of a prompt, with their phrases.
 * @param {Unit[]} found
 * @param {Lists} lists
 * @returns {Part[]}
 */
function parts(found, lists) {
  const groups = linked(found, lists);
  const kinds = kindsOf(groups, lists);
  let phrase = 0;
  return groups.flatMap((group, i) => {
    const kind = kinds[i];
    const before = kinds[i - 1] ?? "punctuation";
    const after = kinds[i + 1] ?? "punctuation";
    const begins = {
      link: before !== "link",
      determiner: before === "content" || before === "verb",
      content: before === "verb",
      verb: true,
      punctuation: true,
    };
    if (begins[kind]) phrase++;
    if (kind === "punctuation") return [];
    const own = group.flatMap((unit) => unit.word ?? []);
    return [{ words: own, kind, phrase, isHead: kind === "verb" || after !== "content" }];
  });
}

/**
 * Group the units: a compound link is one group, any other unit its own.
 * @param {Unit[]} found
 * @param {Lists} lists
 */
function linked(found, lists) {
  const groups = [];
  for (let i = 0; i < found.length;) {
    const text = (/** @type {number} */ n) =>
      found
        .slice(i, i + n)
        .map((unit) => unit.text)
        .join(" ");
    const size = [4, 3, 2].find((n) => i + n <= found.length && lists.compoundLinks.includes(text(n))) ?? 1;
    groups.push(found.slice(i, i + size));
    i += size;
  }
  return groups;
}

/**
 * The kind of each group, given those around it.
 * @param {Unit[][]} groups
 * @param {Lists} lists
 */
function kindsOf(groups, lists) {
  const first = groups.map((group) => group[0].text);
  const kinds = groups.map((group) => kindOf(group, lists));
  for (let i = 1; i < groups.length; i++) {
    if (kinds[i - 1] !== "content" || kinds[i] !== "content") continue;
    if (lists.objectVerbs.includes(first[i]) || lists.beginners.includes(first[i + 1] ?? "")) kinds[i] = "link";
    else if (lists.verbs.includes(first[i]) && kinds[i + 1] !== "content") kinds[i] = "verb";
  }
  return kinds;
}

/**
 * The kind of a group, out of context.
 * @param {Unit[]} group
 * @param {Lists} lists
 * @returns {Kind}
 */
function kindOf(group, lists) {
  const { text, word } = group[0];
  if (!word) return "punctuation";
  if (group.length > 1 || lists.links.includes(text)) return "link";
  return lists.determiners.includes(text) || /^\p{Nd}+$/u.test(text) ? "determiner" : "content";
}
