// The words that the model was trained on, and those that could stand in a word's place.

/** @typedef {{grammar: string, kinds: Record<string, string[]>}} Vocabulary */

const NEAR = 0.6; // the least likeness of a suggestion

/** @param {Vocabulary} vocabulary @param {string} word */
export function isKnown(vocabulary, word) {
  return known(vocabulary).has(word.toLowerCase());
}

/** @param {Vocabulary} vocabulary */
function known({ kinds }) {
  return new Set(
    Object.values(kinds)
      .flat()
      .flatMap((entry) => entry.toLowerCase().split(" ")),
  );
}

/**
 * What the page says of an unknown word.
 * @param {Vocabulary} vocabulary
 * @param {string} word
 */
export function explainUnknown(vocabulary, word) {
  const scored = [...known(vocabulary)]
    .filter((other) => other.length > 2)
    .map((other) => ({ other, likeness: likeness(word.toLowerCase(), other) }))
    .sort((a, b) => b.likeness - a.likeness);
  const hint = scored[0].likeness >= NEAR ? ` Did you mean “${scored[0].other}”?` : "";
  return `The model was not trained on “${word}”: the image may show anything there.${hint}`;
}

/**
 * Others of a word's kind, as whole phrases; all nouns for a word of no kind.
 * @param {Vocabulary} vocabulary
 * @param {string[]} words of the prompt, in lower case
 * @param {number} at
 * @returns {{kind: string, from: number, to: number, choices: string[]}} the words [from, to) that a choice replaces
 */
export function alternatives({ kinds }, words, at) {
  for (const [kind, entries] of Object.entries(kinds)) {
    if (kind === "other") continue;
    for (const entry of entries) {
      const parts = entry.split(" ");
      for (let from = Math.max(0, at - parts.length + 1); from <= at; from++) {
        if (parts.every((part, i) => words[from + i] === part)) {
          return { kind, from, to: from + parts.length, choices: entries.filter((other) => other !== entry) };
        }
      }
    }
  }
  return { kind: "nouns", from: at, to: at + 1, choices: kinds.nouns };
}

/** 1 minus the edits between two words, by letter. @param {string} a @param {string} b */
function likeness(a, b) {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (const [i, letter] of [...a].entries()) {
    const next = [i + 1];
    for (let j = 0; j < b.length; j++)
      next.push(Math.min(next[j] + 1, row[j + 1] + 1, row[j] + Number(b[j] !== letter)));
    row = next;
  }
  return 1 - row[b.length] / Math.max(a.length, b.length);
}
