// The alpha schedule as a timeline: for each word the steps in which the source's attention is used, dragged at its
// ends, and the word's weight. t counts down from the left.

import { names } from "../method/words.js";
import { el, short } from "./dom.js";

/** @import { Window } from "../method/alpha.js" */
/** @import { Call } from "../method/run.js" */
/** @import { Tokens } from "../method/tokens.js" */

const GRID = 0.05;
/** The lines that belong to no word. */
export const [SELF, ALL] = ["self-attention", "all words"];
/** The word of a line. @param {string} key */
export const wordOf = (key) => key.slice("word ".length);

/**
 * A line of the timeline.
 * @typedef {object} Line
 * @property {string} key
 * @property {string} name
 * @property {Window} window
 * @property {boolean} [follows] the times of all words
 * @property {boolean} [fresh] a new word, which has no source
 * @property {boolean} [fixedStart]
 * @property {number} [weight]
 */

/**
 * The lines of a call: self-attention, all words, and each word of the edited prompt.
 * @param {Call} call
 * @param {Tokens} target
 * @param {string[]} fresh the new words
 * @returns {Line[]}
 */
export function linesOf(call, target, fresh) {
  const usual = { start: 1, end: call.tau };
  return [
    { key: SELF, name: SELF, window: call.until },
    { key: ALL, name: ALL, window: usual, fixedStart: true },
    ...names(target).map((name) => ({
      key: `word ${name}`,
      name,
      window: call.alpha.get(name) ?? usual,
      follows: !call.alpha.has(name),
      fresh: fresh.includes(name),
      weight: call.weights.get(name) ?? 1,
    })),
  ];
}

export class Timeline {
  /**
   * @param {HTMLElement} place
   * @param {{moved: (key: string, window: Window | null) => void, weighed: (key: string, factor: number) => void}} tell
   */
  constructor(place, tell) {
    this.place = place;
    this.tell = tell;
    /** @type {string} */
    this.built = "";
    this.lines = new Map();
    this.ticks = "";
  }

  /**
   * @param {Line[]} lines
   * @param {number[]} visited timesteps as fractions of T
   * @param {number} now the step shown, as a fraction of T
   */
  show(lines, visited, now) {
    const wanted = lines
      .map((line) => `${line.key}|${line.name}|${line.fresh}|${line.weight === undefined}`)
      .join("\n");
    if (wanted !== this.built) this.#build(lines);
    this.built = wanted;
    for (const line of lines) this.lines.get(line.key).update(line, visited, now);
  }

  /** @param {Line[]} lines */
  #build(lines) {
    this.lines = new Map();
    const rows = lines.map((line) => {
      const row = new Row(line, this.tell);
      this.lines.set(line.key, row);
      return row.element;
    });
    const axis = el(
      "div",
      { class: "line axis-line" },
      el("span"),
      el("div", { class: "axis" }, el("span", {}, "t = T, noise"), el("span", {}, "t = 0, image")),
      el("span", { class: "axis" }, "weight"),
    );
    this.place.replaceChildren(axis, ...rows);
  }
}

class Row {
  /**
   * @param {Line} line
   * @param {Timeline["tell"]} tell
   */
  constructor(line, tell) {
    this.line = line;
    this.tell = tell;
    this.bar = el("div", { class: "bar" });
    this.now = el("div", { class: "now" });
    this.ticks = el("div", {});
    this.start = this.#handle("start");
    this.end = this.#handle("end");
    this.reset = el(
      "button",
      {
        type: "button",
        class: "small",
        title: "follow all words",
        "aria-label": `${line.name}: follow all words`,
        onclick: () => tell.moved(line.key, null),
      },
      "↺",
    );
    this.track = el("div", { class: "track" }, this.ticks, this.bar, this.now);
    if (line.fresh) this.track.append(el("span", { class: "hint" }, " a new word: its own attention"));
    else {
      if (!line.fixedStart) this.track.append(this.start);
      this.track.append(this.end);
    }
    const name = el("span", { class: "name", title: line.name }, line.name, " ");
    if (!line.fresh && line.weight !== undefined) name.append(this.reset);
    this.element = el("div", { class: "line", "data-line": line.key }, name, this.track);
    this.weight = el("input", { type: "range", min: -2, max: 4, step: 0.25, "aria-label": `Weight of ${line.name}` });
    this.output = el("output");
    this.weight.addEventListener("input", () => tell.weighed(line.key, Number(this.weight.value)));
    if (line.weight !== undefined) this.element.append(el("div", { class: "weight" }, this.weight, this.output));
  }

  /**
   * @param {Line} line
   * @param {number[]} visited
   * @param {number} now
   */
  update(line, visited, now) {
    this.line = line;
    const end = line.window.end === "never" ? 1 + GRID : line.window.end;
    const { start } = line.window;
    this.bar.style.left = percent(1 - start);
    this.bar.style.width = line.fresh ? "0" : percent(Math.max(0, start - end));
    this.now.style.left = percent(1 - now);
    this.ticks.replaceChildren(
      ...visited.map((t) => {
        const tick = el("div", { class: "tick" });
        tick.style.left = percent(1 - t);
        return tick;
      }),
    );
    this.element.classList.toggle("follows", Boolean(line.follows));
    this.reset.hidden = Boolean(line.follows);
    for (const [handle, value, text] of /** @type {[HTMLElement, number, string][]} */ ([
      [this.start, start, `from t = ${short(start)} T`],
      [this.end, end, line.window.end === "never" ? "never" : `until t = ${short(end)} T`],
    ])) {
      handle.style.left = percent(Math.max(0, 1 - value));
      handle.setAttribute("aria-valuenow", String(value));
      handle.setAttribute("aria-valuetext", text);
    }
    if (line.weight !== undefined) {
      this.weight.value = String(line.weight);
      this.output.textContent = `× ${short(line.weight)}`;
    }
  }

  /** @param {"start" | "end"} side */
  #handle(side) {
    const handle = el("div", {
      class: "handle",
      role: "slider",
      tabindex: 0,
      "aria-label": `${this.line.name}: ${side === "start" ? "first" : "last"} t`,
      "aria-valuemin": 0,
      "aria-valuemax": side === "end" ? 1 + GRID : 1,
      "data-side": side,
      onkeydown: (/** @type {KeyboardEvent} */ event) => {
        const step = { ArrowLeft: GRID, ArrowUp: GRID, ArrowRight: -GRID, ArrowDown: -GRID, Home: 2, End: -2 }[
          event.key
        ];
        if (step === undefined) return;
        event.preventDefault();
        this.#move(side, Number(handle.getAttribute("aria-valuenow")) + step);
      },
      onpointerdown: (/** @type {PointerEvent} */ event) => {
        event.preventDefault();
        handle.focus();
        handle.setPointerCapture(event.pointerId);
      },
      onpointermove: (/** @type {PointerEvent} */ event) => {
        if (!handle.hasPointerCapture(event.pointerId)) return;
        const { left, width } = this.track.getBoundingClientRect();
        this.#move(side, 1 - (event.clientX - left) / width);
      },
    });
    return handle;
  }

  /** @param {"start" | "end"} side @param {number} value */
  #move(side, value) {
    const { start, end } = this.line.window;
    const least = end === "never" ? 1 : end;
    const place = Math.round(value / GRID) * GRID;
    const rounded = Number(Math.min(Math.max(place, 0), side === "end" ? 1 + GRID : 1).toFixed(2));
    /** @type {Window} */
    const moved =
      side === "start"
        ? { start: Math.max(rounded, least), end: end === "never" ? 1 : end }
        : { start, end: rounded > 1 && start === 1 ? "never" : Math.min(rounded, start) };
    if (moved.start !== start || moved.end !== end) this.tell.moved(this.line.key, moved);
  }
}

/** @param {number} x */
const percent = (x) => `${100 * Math.min(Math.max(x, 0), 1)}%`;
