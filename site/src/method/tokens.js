// Prompt to tokens, as `ldm/tokenizer.py`: ids by the library, and of each token its span of characters.

import { Tokenizer } from "@huggingface/tokenizers";

/**
 * One tokenized prompt of fixed length. Characters are code points, as in Python.
 * @typedef {object} Tokens
 * @property {string} prompt
 * @property {number[]} ids BOS, the tokens, EOS, padding
 * @property {string[]} pieces as readable text; BOS, EOS and PAD by name
 * @property {[number, number][]} spans characters [start, end) of the prompt; [0, 0] for BOS, EOS and padding
 * @property {number} count tokens before the padding
 */

/** @typedef {{length: number, bos: string, eos: string}} TextConfig */

export class PromptTokenizer {
  /**
   * @param {object} json the contents of tokenizer.json
   * @param {TextConfig} config
   */
  constructor(json, config) {
    this.backend = new Tokenizer(json, {});
    this.config = config;
    const [bos, eos] = this.backend.encode("").ids;
    this.bos = bos;
    this.eos = eos; // also the padding
  }

  /**
   * @param {string} prompt
   * @returns {Tokens}
   * @throws {RangeError} the prompt has more tokens than the context holds
   */
  encode(prompt) {
    const { ids, tokens } = this.backend.encode(prompt);
    const room = this.config.length;
    if (ids.length > room) {
      throw new RangeError(
        `the prompt has ${ids.length - 2} tokens, the model's context holds ${room - 2}: shorten it`,
      );
    }
    const letters = [...prompt];
    const spans = this.#spans(letters, tokens);
    const named = new Map([
      [this.bos, "BOS"],
      [this.eos, "EOS"],
    ]);
    const pieces = ids.map((id, i) => named.get(id) ?? letters.slice(...spans[i]).join(""));
    const nowhere = () => /** @type {[number, number]} */ ([0, 0]);
    const rest = Array.from({ length: room - ids.length });
    return {
      prompt,
      ids: [...ids, ...rest.map(() => this.eos)],
      pieces: [...pieces, ...rest.map(() => "PAD")],
      spans: [...spans.map((span, i) => (named.has(ids[i]) ? nowhere() : span)), ...rest.map(nowhere)],
      count: ids.length,
    };
  }

  /**
   * The library gives no spans. A token is spelled in bytes, one letter for each, so the tokens in order cover the
   * bytes of the normalised prompt without its spaces.
   * @param {string[]} letters of the prompt
   * @param {string[]} tokens
   * @returns {[number, number][]}
   */
  #spans(letters, tokens) {
    const bytes = [...normalised(letters)]; // of each byte, its character in the prompt
    let at = 0;
    return tokens.map((token, i) => {
      if (i === 0 || i === tokens.length - 1) return [0, 0];
      const named = token === this.config.bos || token === this.config.eos; // written in the prompt
      const length = named ? token.length : [...token.replace(/<\/w>$/, "")].length;
      const own = bytes.slice(at, at + length);
      at += length;
      return [own[0], own[own.length - 1] + 1];
    });
  }
}

/**
 * Of each byte of the normalised prompt, spaces left out, its character in the prompt. Normalisation is NFC and lower
 * case; a letter composed of several has the place of the first.
 * @param {string[]} letters
 * @returns {Generator<number>}
 */
function* normalised(letters) {
  const utf8 = new TextEncoder();
  for (let start = 0, end; start < letters.length; start = end) {
    end = start + 1;
    while (end < letters.length && composes(letters.slice(start, end).join(""), letters[end])) end++;
    const made = [...letters.slice(start, end).join("").normalize("NFC")];
    const dropped = end - start - made.length;
    for (const [j, letter] of made.entries()) {
      if (/\s/u.test(letter)) continue;
      const place = start + (j ? j + Math.max(dropped, 0) : 0);
      for (const _ of utf8.encode(letter.toLowerCase())) yield Math.min(place, end - 1);
    }
  }
}

/**
 * Whether the next letter belongs to the same unit of normalisation: a mark, or a Hangul letter that composes.
 * @param {string} before
 * @param {string} next
 */
function composes(before, next) {
  return (
    /^\p{M}$/u.test(next) || [...(before + next).normalize("NFC")].length < [...before.normalize("NFC"), next].length
  );
}
