// The worker that holds the networks: loads them once, and samples one call at a time, the newest.

import { joined, Model } from "./model.js";
import { randn } from "./method/noise.js";
import { run } from "./method/run.js";
import { Schedule } from "./method/schedule.js";
import { PromptTokenizer } from "./method/tokens.js";
import { untouched } from "./method/edit.js";

/** @import { Call, State } from "./method/run.js" */
/** @import { Ort } from "./model.js" */
/** @import { Check, World } from "./world.js" */

/** @typedef {"source" | "fixed" | "edit"} Name of an image; fixed is the same seed with the target's prompt */
/** @typedef {Uint8ClampedArray<ArrayBuffer>} Image bytes (H, W, 4) */

/**
 * What the page asks for. A run has an id; a higher one ends the run before it.
 * @typedef {{kind: "load", world: World, tokenizer: object, packed: Record<string, Uint8Array<ArrayBuffer>>,
 *   webgpu: boolean}} Load
 * @typedef {{kind: "run", id: number, call: Call, fixed: boolean, images: Name[]}} Run with these images decoded
 * @typedef {{kind: "decode", id: number, step: number}} Decode what the run predicted at a step
 * @typedef {Load | Run | Decode} Request
 */
/**
 * @typedef {{kind: "ready", backend: string, threads: number}} Ready
 * @typedef {{kind: "step", id: number, step: number, t: number, maps: Float32Array}} Stepped
 * @typedef {{kind: "image", id: number, step: number, name: Name, image: Image}} Decoded after the last step, or at one
 * @typedef {{kind: "done", id: number, seconds: number}} Done
 * @typedef {{kind: "failed", id: number, message: string}} Failed
 * @typedef {Ready | Stepped | Decoded | Done | Failed} Answer
 */

const FAR = 0.05; // of a GPU's output: a wrong one differs by 0.5, one rounded to half precision by 0.01
const SOON = 80; // milliseconds of a call of two rows, which WebAssembly takes on one core of a fast processor

/** @type {{model: Model, schedule: Schedule, tokenizer: PromptTokenizer, world: World} | null} */
let loaded = null;
let newest = 0;
let wanted = 0; // the step that the page asked for last
/** @type {{id: number, z_0: Map<Name, Float32Array[]>}} predictions of the last run, and of the last `fixed` */
const kept = { id: 0, z_0: new Map() };
/** @type {Promise<void>} */
let busy = Promise.resolve(); // a session runs one call at a time

/** @param {Answer} answer */
const say = (answer) => self.postMessage(answer);

self.onmessage = (/** @type {MessageEvent<Request>} */ { data }) => {
  if (data.kind === "run") newest = data.id;
  if (data.kind === "decode") wanted = data.step;
  busy = busy.then(async () => {
    try {
      if (data.kind === "load") await load(data);
      else if (data.kind === "run") await sample(data);
      else await decode(data);
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      say({ kind: "failed", id: data.kind === "load" ? 0 : data.id, message });
    }
  });
};

/** @param {Load} request */
async function load({ world, tokenizer, packed, webgpu }) {
  const backends =
    webgpu && (await hasGpu()) ? /** @type {const} */ (["webgpu", "wasm"]) : /** @type {const} */ (["wasm"]);
  for (const backend of backends) {
    try {
      const ort = /** @type {Ort} */ (
        backend === "webgpu" ? await import("onnxruntime-web/webgpu") : await import("onnxruntime-web/wasm")
      );
      ort.env.wasm.wasmPaths = new URL("./ort/", self.location.href).href;
      ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency) : 1;
      ort.env.logLevel = "error";
      const model = await Model.load(ort, /** @type {any} */ (packed), world.text, world.latent, backend);
      const prompts = new PromptTokenizer(tokenizer, world.text);
      if (backend === "webgpu" && !(await serves(model, prompts, world.check))) continue;
      loaded = { model, schedule: new Schedule(world.schedule), tokenizer: prompts, world };
      say({ kind: "ready", backend, threads: backend === "wasm" ? (ort.env.wasm.numThreads ?? 1) : 0 });
      return;
    } catch (error) {
      if (backend === "webgpu") continue; // a GPU that fails is not used
      throw new Error(`the model could not be loaded: ${error instanceof Error ? error.message : error}`);
    }
  }
}

/** Whether there is a GPU, not its emulation on the processor. */
async function hasGpu() {
  const adapter = await /** @type {any} */ (navigator).gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && !(adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter);
}

/**
 * Whether the graphs give on a GPU what they give in Python, and soon enough.
 * @param {Model} model
 * @param {PromptTokenizer} tokenizer
 * @param {Check} check
 */
async function serves(model, tokenizer, { prompt, seed, t, v }) {
  const [ids, z] = [tokenizer.encode(prompt).ids, randn(model.size, BigInt(seed))];
  const context = await model.encode([ids, ids]);
  const call = () => model.step(joined([z, z]), t, context, untouched(ids.length), 0);
  const step = await call(); // the first also compiles
  if (v.some((x, i) => !(Math.abs(x - step.v[i]) < FAR))) return false;
  const start = performance.now();
  await call();
  return performance.now() - start < SOON;
}

/** @param {Run} request */
async function sample({ id, call, fixed, images }) {
  if (!loaded || id < newest) return;
  const start = performance.now();
  const { model, schedule, tokenizer, world } = loaded;
  /** @type {State[]} */
  const states = [];
  for await (const state of run(model, schedule, tokenizer, world.lists, call, fixed)) {
    states.push(state);
    say({ kind: "step", id, step: states.length, t: state.t, maps: state.maps });
    await turn();
    if (id < newest) return; // a later call has come
  }
  kept.id = id;
  const { z } = states[states.length - 1];
  const rows = /** @type {Name[]} */ (fixed ? ["fixed", "source", "edit"] : ["source", "edit"]);
  rows.forEach((name, row) =>
    kept.z_0.set(
      name,
      states.map((state) => state.z_0[row]),
    ),
  );
  for (const name of images) {
    const [image] = await model.decode([z[rows.indexOf(name)]]);
    say({ kind: "image", id, step: states.length, name, image });
    await turn();
    if (id < newest) return;
  }
  say({ kind: "done", id, seconds: (performance.now() - start) / 1000 });
}

/** @param {Decode} request */
async function decode({ id, step }) {
  for (const name of /** @type {Name[]} */ (["edit", "source", "fixed"])) {
    const z_0 = kept.z_0.get(name)?.[step - 1];
    if (!loaded || id !== kept.id || id < newest || step !== wanted || !z_0) return;
    const [image] = await loaded.model.decode([z_0]);
    say({ kind: "image", id, step, name, image });
    await turn();
  }
}

/** Let messages come in. */
function turn() {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = () => resolve(undefined);
    port2.postMessage(0);
  });
}
