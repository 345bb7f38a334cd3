// The page's side of the worker: loading with progress, and runs of which only the newest counts.

import { GRAPHS } from "../model.js";

/** @import { Call } from "../method/run.js" */
/** @import { Answer, Image, Name, Request } from "../worker.js" */
/** @import { World } from "../world.js" */

/**
 * A finished or running sampling.
 * @typedef {object} Shown
 * @property {number} id
 * @property {Call} call
 * @property {boolean} coarse a preview of few steps
 * @property {{t: number, maps: Float32Array}[]} steps
 * @property {boolean} done
 * @property {number} seconds
 * @property {boolean} agesFixed whether the image of the same seed is of another call
 */
/** @typedef {{shown: Shown, step: number, name: Name, image: Image}} Decoded */

/** @typedef {{rough: string, exact: string}} Key what an image is made of, without and with its sampler's settings */
/** @typedef {{source: Key, fixed: Key}} Made */

const REST = 200; // milliseconds after which a preview is refined, if nothing has changed
const PREVIEW = { seconds: 0.65, least: 3, most: 8 }; // steps are as many as fit

/** Emits `progress`, `ready`, `start`, `step`, `image`, `done` and `failed`, each with a detail. */
export class Engine extends EventTarget {
  #worker = new Worker(new URL("./worker.js", location.href), { type: "module" });
  #id = 0;
  #ready = false;
  /** @type {Shown | null} */
  #now = null;
  /** @type {Call | null} the call to sample next */
  #next = null;
  /** @type {Call | null} the call that was sampled last */
  #sampled = null;
  #rest = 0;
  #rowSeconds = 0.1; // of one image in one step, and of decoding one; measured with every run
  #rows = 1; // images times steps of the run, and images decoded
  /** what the source and the same seed that are shown were made of @type {Made} */
  #have = { source: { rough: "", exact: "" }, fixed: { rough: "", exact: "" } };
  #making = this.#have;

  constructor() {
    super();
    this.#worker.onmessage = ({ data }) => this.#answered(data);
    this.#worker.onerror = (event) => this.#emit("failed", { message: event.message || "the worker did not start" });
  }

  /**
   * @param {World} world
   * @throws {Error} a file does not arrive
   */
  async load(world) {
    const total = GRAPHS.reduce((sum, name) => sum + world.sizes[name], 0);
    let loaded = 0;
    const more = (/** @type {number} */ bytes) => this.#emit("progress", { loaded: (loaded += bytes), total });
    const tokenizer = await (await fetched("model/tokenizer.json")).json();
    const files = await Promise.all(GRAPHS.map((name) => read(`model/${name}.bin`, more)));
    const packed = Object.fromEntries(GRAPHS.map((name, i) => [name, files[i]]));
    this.#ask(
      { kind: "load", world, tokenizer, packed, webgpu: true },
      files.map((file) => file.buffer),
    );
  }

  /**
   * Sample a call: a preview now, and all of its steps at rest.
   * @param {Call} call
   * @param {boolean} [coarse] false: all steps at once
   */
  sample(call, coarse = true) {
    clearTimeout(this.#rest);
    this.#next = call;
    if (!this.#ready) return;
    // a preview that is under way is finished, or there would be none while a slider moves; anything else ends here
    if (!coarse || !this.#now?.coarse || this.#now.done) this.#start(call, coarse);
  }

  /** Decode what a finished run predicted at a step. @param {Shown} shown @param {number} step */
  decode(shown, step) {
    if (shown.id === this.#id) this.#ask({ kind: "decode", id: shown.id, step });
  }

  /** @param {Call} given @param {boolean} coarse */
  #start(given, coarse) {
    /** @type {Call} */
    const call = coarse ? { ...given, steps: Math.min(this.#previewSteps, given.steps), sampler: "dpm++" } : given;
    const id = ++this.#id;
    this.#next = null;
    this.#sampled = given;
    this.#now = { id, call, coarse, steps: [], done: false, seconds: 0, agesFixed: false };
    const made = keysOf(call);
    const fixed = !coarse && this.#have.fixed.exact !== made.fixed.exact;
    this.#now.agesFixed = this.#have.fixed.rough !== made.fixed.rough;
    const known = coarse
      ? this.#have.source.rough === made.source.rough
      : this.#have.source.exact === made.source.exact;
    /** @type {Name[]} */
    const images = ["edit"];
    if (!known) images.push("source");
    if (fixed) images.push("fixed");
    this.#making = { source: known ? this.#have.source : made.source, fixed: fixed ? made.fixed : this.#have.fixed };
    this.#rows = (fixed ? 3 : 2) * call.steps + images.length;
    this.#ask({ kind: "run", id, call, fixed, images });
    this.#emit("start", this.#now);
  }

  /** All steps of the call that the preview was of. */
  #refine() {
    if (this.#sampled) this.#start(this.#sampled, false);
  }

  get #previewSteps() {
    const fit = Math.floor(PREVIEW.seconds / this.#rowSeconds / 2) - 1; // two rows, and the decoding of both
    return Math.max(PREVIEW.least, Math.min(PREVIEW.most, fit));
  }

  /** @param {Answer} answer */
  #answered(answer) {
    if (answer.kind === "ready") {
      this.#ready = true;
      this.#emit("ready", answer);
      if (this.#next) this.#start(this.#next, false);
      return;
    }
    const shown = this.#now;
    if (answer.kind === "failed") {
      if (answer.id === shown?.id) this.#now = null; // the next change need not wait for it
      return this.#emit("failed", answer);
    }
    if (!shown || answer.id !== shown.id) return;
    if (answer.kind === "step") shown.steps.push({ t: answer.t, maps: answer.maps });
    if (answer.kind === "image") return this.#emit("image", { ...answer, shown });
    if (answer.kind === "done") {
      Object.assign(shown, { done: true, seconds: answer.seconds });
      this.#have = this.#making;
      this.#rowSeconds = answer.seconds / this.#rows;
    }
    this.#emit(answer.kind, shown);
    if (answer.kind !== "done") return;
    if (this.#next)
      this.#start(this.#next, true); // a change that came while the preview was made
    else if (shown.coarse) this.#rest = window.setTimeout(() => this.#refine(), REST);
  }

  /** @param {string} name @param {object} detail */
  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  /** @param {Request} request @param {Transferable[]} [transfer] */
  #ask(request, transfer = []) {
    this.#worker.postMessage(request, transfer);
  }
}

/** @param {Call} call @returns {Made} */
function keysOf(call) {
  const key = (/** @type {string} */ prompt) => {
    const rough = JSON.stringify([prompt, String(call.seed), call.guidance]);
    return { rough, exact: JSON.stringify([rough, call.steps, call.sampler]) };
  };
  return { source: key(call.source), fixed: key(call.target) };
}

/** @param {string} path */
async function fetched(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path} did not load (${response.status}): build the page by make site`);
  return response;
}

/**
 * A file's bytes.
 * @param {string} path
 * @param {(bytes: number) => void} more called with the size of each part that arrives
 */
async function read(path, more) {
  const { body } = await fetched(path);
  if (!body) throw new Error(`${path} is empty`);
  const parts = [];
  const reader = body.getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    parts.push(part.value);
    more(part.value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}
