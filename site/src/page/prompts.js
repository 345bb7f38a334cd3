// A prompt: its text, a chip for each word, others to put in a word's place, and a note on unknown words.

import { names, words } from "../method/words.js";
import { el } from "./dom.js";
import { alternatives, explainUnknown, isKnown } from "./vocabulary.js";

/** @import { Tokens } from "../method/tokens.js" */
/** @import { Vocabulary } from "./vocabulary.js" */

export class PromptField {
  #input;
  #chips = el("div", { class: "row", role: "group" });
  #choices = el("div", { class: "choices", hidden: true });
  #note = el("p", { class: "note", role: "status" });
  /** @type {Tokens | null} */
  #tokens = null;
  #opened = -1;

  /**
   * @param {HTMLElement} place
   * @param {string} label
   * @param {Vocabulary} vocabulary
   * @param {{changed: (prompt: string) => void, pointed: (word: string | null) => void}} tell
   */
  constructor(place, label, vocabulary, tell) {
    this.vocabulary = vocabulary;
    this.tell = tell;
    const id = `${place.id}-text`;
    this.#input = el("input", { type: "text", id, maxlength: 300, autocomplete: "off", spellcheck: "false" });
    this.#input.addEventListener("input", () => tell.changed(this.#input.value));
    this.#chips.setAttribute("aria-label", `Words of the ${label.toLowerCase()}`);
    place.append(el("label", { for: id }, label), this.#input, this.#chips, this.#choices, this.#note);
  }

  /** @param {Tokens} tokens */
  show(tokens) {
    if (this.#input.value !== tokens.prompt) this.#input.value = tokens.prompt;
    if (this.#tokens?.prompt === tokens.prompt) return;
    this.#tokens = tokens;
    this.#close();
    const found = words(tokens);
    const unknown = found.filter((word) => !isKnown(this.vocabulary, word.text));
    this.#chips.replaceChildren(
      ...names(tokens).map((name, i) =>
        el(
          "button",
          {
            type: "button",
            class: unknown.includes(found[i]) ? "chip unknown" : "chip",
            "data-word": name,
            "aria-expanded": "false",
            onclick: () => (this.#opened === i ? this.#close() : this.#open(i)),
            onpointerenter: () => this.tell.pointed(name),
            onpointerleave: () => this.tell.pointed(null),
            onfocus: () => this.tell.pointed(name),
            onblur: () => this.tell.pointed(null),
          },
          found[i].text,
        ),
      ),
    );
    this.#note.textContent = unknown.map((word) => explainUnknown(this.vocabulary, word.text)).join(" ");
  }

  /** Mark the chip of a word. @param {string | null} name */
  light(name) {
    for (const chip of this.#chips.children) {
      chip.classList.toggle("lit", chip instanceof HTMLElement && chip.dataset.word === name);
    }
  }

  /** @param {number} at */
  #open(at) {
    const tokens = this.#tokens;
    if (!tokens) return;
    this.#close();
    this.#opened = at;
    this.#chips.children[at].setAttribute("aria-expanded", "true");
    const found = words(tokens);
    const texts = found.map((word) => word.text.toLowerCase());
    const { kind, from, to, choices } = alternatives(this.vocabulary, texts, at);
    const put = (/** @type {string} */ choice) => {
      const letters = [...tokens.prompt];
      let [before, after] = [letters.slice(0, found[from].start).join(""), letters.slice(found[to - 1].end).join("")];
      if (!choice) after = after.trimStart();
      const next = choice || after;
      before = before.replace(/\ban? $/i, (article) =>
        (/^[aeiou]/i.test(next) ? "an " : "a ").replace("a", article[0]),
      );
      this.#close();
      this.tell.changed(before + choice + after);
    };
    this.#choices.replaceChildren(
      el(
        "p",
        {},
        `${kind} to put in the place of “${found
          .slice(from, to)
          .map((word) => word.text)
          .join(" ")}”`,
      ),
      el(
        "div",
        { class: "row" },
        ...choices.map((choice) => el("button", { type: "button", class: "chip", onclick: () => put(choice) }, choice)),
        el("button", { type: "button", class: "chip", onclick: () => put("") }, "(nothing)"),
      ),
    );
    this.#choices.hidden = false;
    this.#choices.onkeydown = (event) => {
      if (event.key === "Escape") this.#close(true);
    };
  }

  #close(focus = false) {
    const chip = this.#chips.children[this.#opened];
    this.#opened = -1;
    this.#choices.hidden = true;
    this.#choices.replaceChildren();
    chip?.setAttribute("aria-expanded", "false");
    if (focus && chip instanceof HTMLElement) chip.focus();
  }
}
