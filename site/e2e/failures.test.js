// What the page does in a browser that lacks something: vectors, memory, a GPU that works, a whole model.

import assert from "node:assert/strict";
import { after as afterAll, before, test } from "node:test";
import { launch, PATIENCE, serve, slide } from "./support/browser.js";

/** @type {Awaited<ReturnType<typeof launch>>} */
let browser;
/** @type {Awaited<ReturnType<typeof serve>>} */
let server;

before(async () => {
  [browser, server] = await Promise.all([launch(), serve()]);
});
afterAll(async () => {
  await browser.close();
  await server.stop();
});

/**
 * The page, without a service worker, whose requests a test can't answer.
 * @param {import("playwright-core").Page} page
 * @param {string} [script] what its worker runs first
 */
async function visit(page, script = "") {
  await page.addInitScript(() => Reflect.deleteProperty(Navigator.prototype, "serviceWorker"));
  await page.route("**/worker.js", async (route) => {
    const response = await route.fetch();
    await route.fulfill({ response, body: `${script}\n${await response.text()}` });
  });
  await page.goto(server.address);
}

/**
 * Check each of several browsers, at the same time: most of a page's loading is done on one core.
 * @template T
 * @param {readonly T[]} each
 * @param {(given: T, page: import("playwright-core").Page) => Promise<void>} check
 */
async function inEach(each, check) {
  await Promise.all(
    each.map(async (given) => {
      const page = await browser.newPage();
      await check(given, page);
      await page.close();
    }),
  );
}

/** @param {import("playwright-core").Page} page */
async function told(page) {
  await page.waitForSelector("#problem:not([hidden])", { timeout: PATIENCE });
  return String(await page.textContent("#problem"));
}

test("a browser without WebAssembly SIMD is told so", async () => {
  const page = await browser.newPage();
  await page.addInitScript(() => (WebAssembly.validate = () => false));
  await page.goto(server.address);
  assert.match(await told(page), /no WebAssembly SIMD.*Chrome 91/);
  await page.close();
});

test("a model that does not load, and one that is damaged, are told", async () => {
  const damages = /** @type {const} */ ([
    [404, "", /model\/unet.bin did not load \(404\)/],
    [200, "too short", /^the model could not be loaded: /],
  ]);
  await inEach(damages, async ([status, body, message], page) => {
    await page.route("**/unet.bin", (route) => route.fulfill({ status, body }));
    await visit(page);
    assert.match(await told(page), message);
  });
});

test("memory that is not there at all, and memory that ends while the model loads, are told", async () => {
  const none = 'WebAssembly.Memory = class { constructor() { throw new RangeError("could not allocate memory"); } };';
  const little =
    "const { Memory } = WebAssembly;" + // 16 MiB, of which onnxruntime says no more than std::bad_alloc
    "WebAssembly.Memory = class extends Memory { constructor(given) { super({ ...given, maximum: 256 }); } };";
  await inEach([none, little], async (script, page) => {
    await visit(page, script);
    assert.match(await told(page), /^There is not enough memory for the model: close other tabs and reload\. \(.+\)$/);
    await slide(page, "#tau", 0.5);
    assert.match(await told(page), /^There is not enough memory/, "a change can't help, and does not hide it");
  });
});

/** A worker's script: the GPU that it finds. @param {string} adapter */
const gpu = (adapter) =>
  `Object.defineProperty(navigator, "gpu", { value: { requestAdapter: async () => (${adapter}) } });`;

/** @param {import("playwright-core").Page} page */
async function backend(page) {
  await page.waitForFunction(() => document.body.dataset.backend, undefined, { timeout: PATIENCE });
  return page.evaluate(() => [document.body.dataset.backend, document.querySelector("#problem")?.textContent]);
}

test("a GPU that is lost, and one on which no session starts, leave the page to WebAssembly", async () => {
  const lost = '(() => { throw new Error("lost"); })()';
  const refuses =
    '{ info: {}, features: new Set(), limits: {}, requestDevice: async () => { throw new Error("no device"); } }';
  await inEach([lost, refuses], async (adapter, page) => {
    await visit(page, gpu(adapter));
    assert.deepEqual(await backend(page), ["wasm", ""], adapter);
  });
});

/**
 * In the place of onnxruntime: a GPU whose numbers differ by `error`, and whose clock goes on by `time` with each call.
 * @param {number} error
 * @param {number} time milliseconds
 */
const onGpu = (error, time) => `
  const { text, check, imageSize: side } = await (await fetch("model/world.json")).json();
  let clock = 0;
  performance.now = () => clock;
  export const env = { wasm: {} };
  export class Tensor { constructor(type, data, dims) { Object.assign(this, { data, dims }); } }
  async function run({ ids, z, z_0 }) {
    clock += ${time};
    if (ids) return { context: { data: new Float32Array(ids.data.length * text.width) } };
    if (z_0) return { x: { data: new Float32Array(z_0.dims[0] * 3 * side ** 2), dims: [z_0.dims[0], 3, side, side] } };
    const v = new Float32Array(z.data.length);
    v.set(check.v.map((x) => x + ${error}));
    return { v: { data: v }, maps: { data: new Float32Array(2 * text.length * 16 ** 2) } };
  }
  export const InferenceSession = { create: async () => ({ run }) };
`;

test("a GPU is used if its numbers are right and soon there", async () => {
  const gpus = /** @type {const} */ ([
    [0.01, 10, "webgpu"],
    [0.1, 10, "wasm"],
    [0.01, 100, "wasm"],
  ]);
  await inEach(gpus, async ([error, time, chosen], page) => {
    let asked = false;
    await page.route("**/ort.webgpu*.js", async (route) => {
      asked = true;
      await route.fulfill({ contentType: "text/javascript", body: onGpu(error, time) });
    });
    await visit(page, gpu("{ info: {} }"));
    assert.deepEqual(await backend(page), [chosen, ""], `${error}, ${time}`);
    assert.ok(asked);
  });
});
