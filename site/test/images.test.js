// The whole run in WebAssembly against Python's images of the presets.

import assert from "node:assert/strict";
import { before, test } from "node:test";
import * as ort from "onnxruntime-web/wasm";
import { GRAPHS, Model } from "../src/model.js";
import { run } from "../src/method/run.js";
import { callOf } from "../src/world.js";
import { cases, read, schedule, tokenizer, world } from "./support/cases.js";

/** @type {Model} */
let model;

before(async () => {
  ort.env.wasm.numThreads = 1; // in Node.js it has no threads
  const packed = Object.fromEntries(GRAPHS.map((name) => [name, new Uint8Array(read(`${name}.bin`))]));
  model = await Model.load(ort, /** @type {any} */ (packed), world.text, world.latent, "wasm");
});

for (const { preset, steps, sampler, ...images } of cases.images) {
  test(`the images of “${world.presets[preset].title}” by ${sampler}`, async () => {
    const call = { ...callOf(world.presets[preset], world.defaults), steps, sampler };
    let last;
    for await (const state of run(model, schedule, tokenizer, world.lists, call, true)) last = state;
    assert.ok(last);
    const [fixed, source, edit] = await model.decode(last.z);
    for (const [name, image] of Object.entries({ fixed, source, edit })) {
      const expected = Buffer.from(images[name], "base64");
      const own = image.filter((_, i) => i % 4 < 3);
      const differs = own.reduce((sum, x, i) => sum + Math.abs(x - expected[i]), 0) / own.length;
      assert.equal(own.length, expected.length);
      // rounding alone: a hundredth of a level on average, where one number of the latent, wrong by 1%, gives more
      assert.ok(differs < 0.05, `${name} differs by ${differs} levels on average`);
    }
  });
}
