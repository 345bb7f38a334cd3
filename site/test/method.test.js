// The JavaScript of the method against the cases that Python wrote at build time: matrices, tokens, words and times are
// equal; latents, which Python computes in float32 throughout, agree within a bound.

import assert from "node:assert/strict";
import { test } from "node:test";
import { compileWindow } from "../src/method/alpha.js";
import { LocalBlend } from "../src/method/blend.js";
import { compileEdit, newWords } from "../src/method/edit.js";
import { randn } from "../src/method/noise.js";
import { swaps } from "../src/method/reading.js";
import { ddimStep, dpmStep, times } from "../src/method/samplers.js";
import { switchTimes } from "../src/method/switch_times.js";
import { guided } from "../src/method/schedule.js";
import { columns, names, words } from "../src/method/words.js";
import { cases, schedule, tokenizer, world } from "./support/cases.js";

const T = world.schedule.T;
const ROUNDING = 3e-6; // a few roundings of float32 numbers of size up to about 8

/** @type {(actual: ArrayLike<number>, expected: number[], bound: number, what: string) => void} */
function near(actual, expected, bound, what) {
  assert.equal(actual.length, expected.length, what);
  // relative to the numbers' size: dividing by sqrt(alpha_bar_T) makes large ones of early predictions
  const scale = Math.max(1, ...expected.map(Math.abs));
  const worst = Math.max(...expected.map((x, i) => Math.abs(x - actual[i])));
  assert.ok(worst <= bound * scale, `${what}: differs by ${worst}, numbers reach ${scale}`);
}

test("there are a thousand cases", () => {
  const { images, ...method } = cases;
  assert.equal(
    Object.values(method).reduce((count, kind) => count + kind.length, 0),
    1000,
  );
});

test("tokens and words of every prompt", () => {
  for (const { prompt, ids, pieces, spans, count, words: expected } of cases.prompts) {
    const tokens = tokenizer.encode(prompt);
    assert.deepEqual(tokens, { prompt, ids, pieces, spans, count }, prompt);
    const own = words(tokens).map((word) => word.columns);
    assert.deepEqual(Object.fromEntries(names(tokens).map((name, i) => [name, own[i]])), expected, prompt);
    for (const name of names(tokens)) assert.deepEqual(columns(tokens, name), expected[name], `${name} in ${prompt}`);
  }
});

test("the matrices of every edit", () => {
  for (const { source, target, ...given } of cases.edits) {
    const what = JSON.stringify({ source, target, ...given, steps: undefined });
    const [ours, theirs] = [source, target].map((prompt) => tokenizer.encode(prompt));
    assert.deepEqual(swaps(ours, theirs, world.lists), given.swaps, what);
    assert.deepEqual(newWords(ours, theirs, world.lists), given.new, what);
    /** @type {(ends: [number, number | "never"]) => any} */
    const window = ([start, end]) => ({ start, end });
    const alpha = new Map(Object.entries(given.alpha).map(([word, ends]) => [word, window(ends)]));
    const weights = new Map(Object.entries(given.weights));
    const matrices = compileEdit(ours, theirs, { tau: given.tau, alpha, weights }, world.lists, T);
    const self = compileWindow(window(given.until), T);
    for (const step of given.steps) {
      const { P, Q } = matrices(step.t);
      const places = P.flatMap((row, i) => row.flatMap((x, j) => (x ? [[i, j, x]] : [])));
      assert.deepEqual(places, step.P, `P at t = ${step.t}: ${what}`);
      assert.deepEqual(
        Q.map((x) => x + 0),
        step.Q.map((/** @type {number} */ x) => x + 0),
        `Q at t = ${step.t}: ${what}`,
      );
      assert.equal(self(step.t), step.self, `self-attention at t = ${step.t}: ${what}`);
    }
  }
});

test("the default times of every edit", () => {
  for (const { source, target, default: expected } of cases.edits) {
    const [ours, theirs] = [source, target].map((prompt) => tokenizer.encode(prompt));
    assert.deepEqual(switchTimes(ours, theirs, world.lists, world.switchTimes), expected, `${source}, ${target}`);
  }
});

test("times and steps of the samplers", () => {
  for (const { sampler, steps, guidance, times: visited, k, alpha_bar, ...latents } of cases.steps) {
    const what = `${sampler}, step ${k} of ${steps}`;
    assert.deepEqual(times(schedule, steps), visited, what);
    const [t, tPrev] = visited.slice(k);
    near([schedule.alphaBar[t]], [alpha_bar], 1e-13, `alpha_bar at ${t}`); // the order of a product of doubles
    const z_t = Float32Array.from(latents.z_t);
    const v = guided(Float32Array.from(latents.uncond), Float32Array.from(latents.cond), guidance);
    const prediction = schedule.predict(z_t, v, t);
    const past = k ? { t: visited[k - 1], z_0: Float32Array.from(latents.past_z_0) } : null;
    const z_prev =
      sampler === "ddim" ? ddimStep(schedule, prediction, tPrev) : dpmStep(schedule, z_t, prediction, t, tPrev, past);
    near(z_prev, latents.z_prev, ROUNDING, what);
  }
});

test("the noise of every seed", () => {
  for (const { seed, every, z_T, squares } of cases.noise) {
    const noise = randn(
      world.latent.reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b),
      BigInt(seed),
    );
    near(
      noise.filter((_, i) => i % every === 0),
      z_T,
      2e-6,
      `seed ${seed}`,
    ); // torch's log and cos are approximate
    near([noise.reduce((sum, x) => sum + x * x, 0)], [squares], 1e-5, `all of seed ${seed}`);
  }
});

test("the region of local blend", () => {
  for (const { source, target, words: chosen, maps, mask } of cases.blends) {
    const [ours, theirs] = [source, target].map((prompt) => tokenizer.encode(prompt));
    const blend = new LocalBlend(ours, theirs, chosen, T, 4);
    for (const step of maps) blend.add(Float32Array.from(step));
    assert.deepEqual(blend.mask(), mask, `${chosen} in ${source} and ${target}`);
  }
});

test("local blend begins after its start", () => {
  const tokens = tokenizer.encode("a cat");
  const blend = new LocalBlend(tokens, tokens, ["cat"], T, 4);
  blend.add(Float32Array.from({ length: 2 * tokens.ids.length * 16 }, (_, i) => (i % 16 === 5 ? 1 : 0)));
  const [edit, source] = [new Float32Array(32).fill(1), new Float32Array(32)];
  assert.deepEqual(blend.apply(edit, source, 800), edit);
  const kept = [...blend.apply(edit, source, 799)].flatMap((x, i) => (x ? [i] : []));
  const near5 = [0, 1, 2, 4, 5, 6, 8, 9, 10]; // position 5 of 4 x 4, and those beside it
  assert.deepEqual(kept, [...near5, ...near5.map((i) => i + 16)]);
});
