// The page: one call, what shows it, and what changes it.

import { LocalBlend } from "../method/blend.js";
import { compileEdit, newWords } from "../method/edit.js";
import { swaps } from "../method/reading.js";
import { switchTimes } from "../method/switch_times.js";
import { times } from "../method/samplers.js";
import { Schedule } from "../method/schedule.js";
import { PromptTokenizer } from "../method/tokens.js";
import { columns, names } from "../method/words.js";
import { callOf } from "../world.js";
import { Controls } from "./controls.js";
import { byId, el, short } from "./dom.js";
import { Engine } from "./engine.js";
import { Images } from "./images.js";
import { counterparts, mapOf } from "./attention.js";
import { fromHash, toHash } from "./link.js";
import { drawMatrices, formula } from "./matrices.js";
import { offline } from "./offline.js";
import { explained, missing } from "./support.js";
import { PromptField } from "./prompts.js";
import { showShare } from "./share.js";
import { linesOf, SELF, ALL, wordOf, Timeline } from "./timeline.js";

/** @import { Call } from "../method/run.js" */
/** @import { Window } from "../method/alpha.js" */
/** @import { Tokens } from "../method/tokens.js" */
/** @import { Matrices, Options } from "../method/edit.js" */
/** @import { Decoded, Shown } from "./engine.js" */
/** @import { CallTimes, Prompts } from "./link.js" */
/** @import { World } from "../world.js" */

const LINKED = 300; // milliseconds after a change at which the address follows: browsers limit how often it may

/**
 * A call compiled: what every view shows.
 * @typedef {object} Compiled
 * @property {Tokens} source
 * @property {Tokens} target
 * @property {(t: number) => Matrices} at
 * @property {number[][]} M the mapper
 * @property {string[]} fresh the new words
 * @property {number[]} visited timesteps, and 0
 */

class Page {
  /** @type {Compiled} */
  #compiled;
  /** @type {Shown | null} */
  #shown = null;
  /** @type {string | null} the word under the pointer, and whether it is the source's */
  #word = null;
  #ofSource = false;
  #step = 0; // shown; 0 is the last
  #linked = 0;
  /** Times that were set, and stay when the prompts change; others are the prompts' default. */
  #set = { tau: false, until: false };

  /** @param {World} world @param {PromptTokenizer} tokenizer */
  constructor(world, tokenizer) {
    this.world = world;
    this.tokenizer = tokenizer;
    this.schedule = new Schedule(world.schedule);
    this.first = callOf(world.presets[0], world.defaults);
    this.call = this.first;
    this.engine = new Engine();
    this.images = new Images(byId("images"), world.imageSize);
    const vocabulary = world.vocabulary;
    this.prompts = /** @type {const} */ (["source", "target"]).map((name) => {
      const label = name === "source" ? "Source prompt" : "Edited prompt";
      return new PromptField(byId(name), label, vocabulary, {
        changed: (prompt) => this.#prompted({ [name]: prompt }),
        pointed: (word) => this.point(word, name === "source"),
      });
    });
    this.controls = new Controls(
      byId("controls"),
      /** @type {HTMLElement} */ (byId("blend").querySelector(".row")),
      (changes) => this.change(changes),
    );
    this.timeline = new Timeline(byId("timeline"), {
      moved: (key, window) => this.#moved(key, window),
      weighed: (key, factor) => this.#weighed(key, factor),
    });
    byId("presets").append(
      ...world.presets.map((preset) =>
        el("button", { type: "button", onclick: () => this.begin(callOf(preset, world.defaults)) }, preset.title),
      ),
    );
    const { objects, others } = world.switchTimes;
    byId("times").textContent =
      `Until moved, the two τ are ${objects.tau} and ${objects.until} where an object becomes another, so that the new ` +
      `shape can form, and ${others.tau} and ${others.until} for all other edits.`;
    const scrubber = /** @type {HTMLInputElement} */ (byId("scrubber"));
    scrubber.addEventListener("input", () => this.#scrub(Number(scrubber.value)));
    this.#listen();
    const linked = () => fromHash(location.hash, this.first, (prompts) => this.#timesOf(prompts));
    window.addEventListener("hashchange", () => {
      if (location.hash.slice(1) !== toHash(this.call)) this.begin(linked());
    });
    this.#compiled = this.#compile(this.first);
    this.draw();
    const call = linked();
    if (toHash(call) !== toHash(this.first)) this.images.clear();
    this.begin(call, true);
  }

  /** Go on from a preset's or a link's call. @param {Call} call @param {boolean} [atOnce] without a preview */
  begin(call, atOnce) {
    const { tau, until } = this.#timesOf(call);
    this.#set = { tau: call.tau !== tau, until: call.until.start !== until.start || call.until.end !== until.end };
    this.replace(call, atOnce);
  }

  /** @param {Partial<Call>} changes */
  change(changes) {
    this.#set = { tau: this.#set.tau || "tau" in changes, until: this.#set.until || "until" in changes };
    this.replace({ ...this.call, ...changes });
  }

  /** @param {Partial<Prompts>} changes */
  #prompted(changes) {
    const call = { ...this.call, ...changes };
    const { tau, until } = this.#timesOf(call);
    this.replace({ ...call, tau: this.#set.tau ? call.tau : tau, until: this.#set.until ? call.until : until });
  }

  /** The default times of two prompts. @param {Prompts} prompts @returns {CallTimes} */
  #timesOf(prompts) {
    try {
      const [source, target] = [prompts.source, prompts.target].map((prompt) => this.tokenizer.encode(prompt));
      const { tau, until } = switchTimes(source, target, this.world.lists, this.world.switchTimes);
      return { tau, until: { start: 1, end: until } };
    } catch {
      return this.call; // too long, which the compilation tells
    }
  }

  /** @param {Call} given @param {boolean} [atOnce] without a preview */
  replace(given, atOnce = false) {
    const call = this.#fitting(given);
    this.call = call;
    problem(failure);
    try {
      this.#compiled = this.#compile(call);
    } catch (error) {
      return problem(error instanceof Error ? error.message : String(error));
    }
    const { source, target } = this.#compiled;
    // the chip under the pointer may be gone, of which no event tells
    if (this.#word && !names(this.#ofSource ? source : target).includes(this.#word)) this.#word = null;
    clearTimeout(this.#linked);
    const link = `#${toHash(this.#written())}`;
    this.#linked = window.setTimeout(() => history.replaceState(null, "", link), LINKED);
    this.#step = 0;
    this.engine.sample(call, !atOnce);
    this.draw();
  }

  /** Without the words that neither prompt has any more. @param {Call} call @returns {Call} */
  #fitting(call) {
    let known, both;
    try {
      known = new Set(names(this.tokenizer.encode(call.target)));
      both = new Set([...known, ...names(this.tokenizer.encode(call.source))]);
    } catch {
      return call; // too long, which the compilation tells
    }
    return {
      ...call,
      alpha: new Map([...call.alpha].filter(([word]) => known.has(word))),
      weights: new Map([...call.weights].filter(([word, factor]) => known.has(word) && factor !== 1)),
      blend: call.blend.filter((word) => both.has(word)),
    };
  }

  /** The call without windows of new words, which have no effect, and which the program refuses. @returns {Call} */
  #written() {
    const { fresh } = this.#compiled;
    return { ...this.call, alpha: new Map([...this.call.alpha].filter(([word]) => !fresh.includes(word))) };
  }

  /** @param {Call} call @returns {Compiled} */
  #compile(call) {
    const [source, target] = [call.source, call.target].map((prompt) => this.tokenizer.encode(prompt));
    const compiled = (/** @type {Options} */ options) =>
      compileEdit(source, target, options, this.world.lists, this.schedule.T);
    new LocalBlend(source, target, call.blend, this.schedule.T, this.world.latent[1]); // throws for a word twice there
    const { P: M } = compiled({ tau: 0, alpha: new Map(), weights: new Map() })(1);
    const fresh = newWords(source, target, this.world.lists);
    return { source, target, at: compiled(call), M, fresh, visited: times(this.schedule, call.steps) };
  }

  draw() {
    const { call } = this;
    const { source, target } = this.#compiled;
    this.prompts[0].show(source);
    this.prompts[1].show(target);
    this.controls.show(call, [...new Set([...names(source), ...names(target)])]);
    for (const [i, button] of [...byId("presets").children].entries()) {
      const same = toHash(callOf(this.world.presets[i], this.world.defaults)) === toHash(call);
      button.setAttribute("aria-pressed", String(same));
    }
    showShare(byId("share"), this.#written());
    this.#drawStep();
  }

  /** What depends on the step shown: its maps, matrices and formula. */
  #drawStep() {
    const { call } = this;
    const { source, target, at, fresh, visited } = this.#compiled;
    const step = Math.min(this.#step || call.steps, call.steps);
    const t = visited[step - 1];
    const scrubber = /** @type {HTMLInputElement} */ (byId("scrubber"));
    scrubber.max = String(call.steps);
    scrubber.value = String(step);
    scrubber.setAttribute("aria-valuetext", `step ${step} of ${call.steps}, t = ${t}`);
    byId("scrubbed").textContent = `${step} of ${call.steps}, t = ${t}`;
    this.timeline.show(
      linesOf(call, target, fresh),
      visited.slice(0, -1).map((s) => s / this.schedule.T),
      t / this.schedule.T,
    );
    drawMatrices(byId("mapper"), source, target, at(t), this.#compiled.M);
    this.#drawMaps(t);
  }

  /** @param {number} t */
  #drawMaps(t) {
    const { source, target, at } = this.#compiled;
    const pair = this.#word ? counterparts(source, target, this.world.lists, this.#word, this.#ofSource) : [null, null];
    const share = (this.#step || this.call.steps) / this.call.steps;
    for (const side of /** @type {const} */ ([0, 1])) {
      const word = pair[side];
      this.prompts[side].light(word);
      const own = word ? columns(side ? target : source, word) : [];
      const map = word && this.#shown ? mapOf(this.#shown, share, side, own, source.ids.length) : null;
      const percent = map ? short((100 * map.reduce((a, b) => a + b, 0)) / map.length) : "";
      this.images.overlay(side ? "edit" : "source", map, map ? `${word}: ${percent}% of attention` : "");
    }
    const shown = pair[1] ?? this.#edited();
    byId("formula").replaceChildren(...(shown ? [formula(source, shown, columns(target, shown), at(t), t)] : []));
  }

  /** A word of the edited prompt that tells most of the edit: one swapped, weighed or new, if there is one. */
  #edited() {
    const { source, target, fresh } = this.#compiled;
    const [swapped] = swaps(source, target, this.world.lists).map(([, word]) => word);
    const [weighed] = this.call.weights.keys();
    return swapped ?? weighed ?? fresh[0] ?? names(target).at(-1);
  }

  /** @param {string | null} word @param {boolean} ofSource */
  point(word, ofSource) {
    this.#word = word;
    this.#ofSource = ofSource;
    const step = this.#step || this.call.steps;
    this.#drawMaps(this.#compiled.visited[step - 1]);
  }

  /** @param {number} step */
  #scrub(step) {
    this.#step = step;
    if (this.#shown?.done && !this.#shown.coarse) this.engine.decode(this.#shown, step);
    this.#drawStep();
  }

  /** @param {string} key @param {Window | null} window */
  #moved(key, window) {
    if (window && key === SELF) return this.change({ until: window });
    if (window && key === ALL) return this.change({ tau: window.end });
    const alpha = new Map(this.call.alpha);
    const word = wordOf(key);
    if (window) alpha.set(word, window);
    else alpha.delete(word);
    this.change({ alpha });
  }

  /** @param {string} key @param {number} factor */
  #weighed(key, factor) {
    this.change({ weights: new Map([...this.call.weights, [wordOf(key), factor]]) });
  }

  #listen() {
    const { engine } = this;
    /** @type {(name: string, heard: (detail: any) => void) => void} */
    const on = (name, heard) =>
      engine.addEventListener(name, (event) => heard(/** @type {CustomEvent} */ (event).detail));
    const progress = /** @type {HTMLProgressElement} */ (byId("progress"));
    on("progress", ({ loaded, total }) => {
      progress.value = loaded / total;
      this.#say(`Loading the model: ${(loaded / 1e6).toFixed(0)} of ${(total / 1e6).toFixed(0)} MB`);
    });
    on("ready", ({ backend, threads }) => {
      progress.hidden = true;
      document.body.dataset.backend = backend;
      document.body.dataset.threads = threads;
      this.#say(
        backend === "webgpu"
          ? "The model is ready, on the GPU"
          : `The model is ready, on ${threads} thread${threads > 1 ? "s" : ""}`,
      );
    });
    on("start", (/** @type {Shown} */ shown) => {
      this.#shown = shown;
      if (failure) problem((failure = ""));
      document.body.dataset.state = shown.coarse ? "preview" : "sampling";
      if (shown.agesFixed) this.images.age("fixed");
    });
    on("step", (/** @type {Shown} */ shown) => {
      this.#say(`${shown.coarse ? "Preview" : "Sampling"}: step ${shown.steps.length} of ${shown.call.steps}`);
    });
    on("image", (/** @type {Decoded} */ { shown, step, name, image }) => {
      if (shown.done && step !== (this.#step || shown.call.steps)) return;
      this.images.show(name, image);
    });
    on("done", (/** @type {Shown} */ shown) => {
      document.body.dataset.state = shown.coarse ? "previewed" : "done";
      document.body.dataset.seconds = shown.seconds.toFixed(3);
      document.body.dataset.steps = String(shown.call.steps);
      this.#say(`${shown.coarse ? "Preview of" : "Done:"} ${shown.call.steps} steps in ${shown.seconds.toFixed(1)} s`);
      this.#drawStep();
    });
    on("failed", ({ message }) => failed(message));
  }

  /** @param {string} text */
  #say(text) {
    byId("status").textContent = text;
  }
}

let failure = ""; // what ended the loading or the last run

/** @param {string} text nothing: there is none */
function problem(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

/** @param {string} message */
function failed(message) {
  document.body.dataset.state = "failed";
  byId("progress").hidden = true;
  byId("status").textContent = "";
  problem((failure = explained(message)));
}

async function start() {
  const lacking = missing();
  if (lacking) throw new Error(lacking);
  await offline();
  const [world, tokenizer] = await Promise.all(
    ["world", "tokenizer"].map(async (name) => (await fetch(`model/${name}.json`)).json()),
  );
  const page = new Page(world, new PromptTokenizer(tokenizer, world.text));
  await page.engine.load(world);
}

start().catch((error) => failed(error.message));
