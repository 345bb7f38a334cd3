// The three graphs in onnxruntime-web.

/** @import { InferenceSession, Tensor as OrtTensor, TypedTensor } from "onnxruntime-web" */
/** @import { Matrices } from "./method/edit.js" */
/** @typedef {typeof import("onnxruntime-web")} Ort */
/** @typedef {{name: string, loaded: number, total: number}} Progress bytes of a file */

export const GRAPHS = /** @type {const} */ (["text", "unet", "decoder"]);

/** @typedef {{length: number, width: number}} TextShape of a prompt's context */
/** @typedef {{v: Float32Array, maps: Float32Array}} Step a call's output, and the maps of its last two rows */

export class Model {
  /**
   * @param {Ort} ort
   * @param {Record<typeof GRAPHS[number], InferenceSession>} sessions
   * @param {TextShape} text
   * @param {[number, number, number]} latent
   */
  constructor(ort, sessions, text, latent) {
    this.ort = ort;
    this.sessions = sessions;
    this.text = text;
    this.latent = latent;
    this.size = latent[0] * latent[1] * latent[2];
  }

  /**
   * @param {Ort} ort
   * @param {Record<typeof GRAPHS[number], Uint8Array<ArrayBuffer>>} packed
   * @param {TextShape} text
   * @param {[number, number, number]} latent
   * @param {"wasm" | "webgpu"} backend
   */
  static async load(ort, packed, text, latent, backend) {
    const sessions = /** @type {Record<typeof GRAPHS[number], InferenceSession>} */ ({});
    for (const name of GRAPHS) {
      // one after the other: each needs its weights in memory twice while it loads
      const options = { executionProviders: [backend], logSeverityLevel: /** @type {const} */ (3) };
      sessions[name] = await ort.InferenceSession.create(await unpack(packed[name]), options);
    }
    return new Model(ort, sessions, text, latent);
  }

  /**
   * tau_theta(y) of several prompts, one after the other.
   * @param {number[][]} ids
   * @returns {Promise<Float32Array>}
   */
  async encode(ids) {
    const rows = BigInt64Array.from(ids.flat(), BigInt);
    const feeds = { ids: new this.ort.Tensor("int64", rows, [ids.length, this.text.length]) };
    return floats((await this.sessions.text.run(feeds)).context);
  }

  /**
   * One call of the UNet, which edits the last row by the row before it.
   * @param {Float32Array} z rows of latents
   * @param {number} t the lecture's
   * @param {Float32Array} context of each row
   * @param {Matrices} matrices
   * @param {number} selfShare
   * @returns {Promise<Step>}
   */
  async step(z, t, context, { P, Q }, selfShare) {
    const { ort, text } = this;
    const b = z.length / this.size;
    const feeds = {
      z: new ort.Tensor("float32", z, [b, ...this.latent]),
      t: new ort.Tensor("int64", BigInt64Array.of(BigInt(t)), [1]),
      context: new ort.Tensor("float32", context, [b, text.length, text.width]),
      P: new ort.Tensor("float32", Float32Array.from(P.flat()), [text.length, text.length]),
      Q: new ort.Tensor("float32", Float32Array.from(Q), [text.length]),
      self_share: new ort.Tensor("float32", Float32Array.of(selfShare), [1]),
    };
    const { v, maps } = await this.sessions.unet.run(feeds);
    return { v: floats(v), maps: floats(maps) };
  }

  /**
   * Images as bytes (b, H, W, 4), opaque.
   * @param {Float32Array[]} latents
   * @returns {Promise<Uint8ClampedArray<ArrayBuffer>[]>}
   */
  async decode(latents) {
    const z_0 = new this.ort.Tensor("float32", joined(latents), [latents.length, ...this.latent]);
    const { x } = await this.sessions.decoder.run({ z_0 });
    const [data, pixels] = [floats(x), x.dims[2] * x.dims[3]];
    return latents.map((_, k) => toBytes(data.subarray(3 * k * pixels, 3 * (k + 1) * pixels), pixels));
  }
}

/**
 * The ONNX file of a packed graph: compressed, its bytes at even places before those at odd ones.
 * @param {Uint8Array<ArrayBuffer>} packed
 */
export async function unpack(packed) {
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const apart = new Uint8Array(await new Response(stream).arrayBuffer());
  const [graph, half] = [new Uint8Array(apart.length), Math.ceil(apart.length / 2)];
  for (let i = 0; i < half; i++) graph[2 * i] = apart[i];
  for (let i = half; i < apart.length; i++) graph[2 * (i - half) + 1] = apart[i];
  return graph;
}

/** @param {Float32Array[]} rows */
export function joined(rows) {
  const all = new Float32Array(rows.reduce((length, row) => length + row.length, 0));
  let at = 0;
  for (const row of rows) {
    all.set(row, at);
    at += row.length;
  }
  return all;
}

/**
 * [-1, 1] to bytes; values outside are clipped.
 * @param {Float32Array} x (3, H, W)
 * @param {number} pixels
 */
function toBytes(x, pixels) {
  const bytes = new Uint8ClampedArray(4 * pixels).fill(255);
  for (let i = 0; i < 3 * pixels; i++) {
    // the assignment to a clamped array rounds halves to even, as torch does
    bytes[4 * (i % pixels) + Math.floor(i / pixels)] = (x[i] + 1) * 127.5;
  }
  return bytes;
}

/** @param {OrtTensor} tensor @returns {Float32Array} */
const floats = (tensor) => /** @type {TypedTensor<"float32">} */ (tensor).data;
