// A link holds the whole call, and what it should not hold is left out.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fromHash, toCommand, toHash, toPython } from "../src/page/link.js";
import { callOf } from "../src/world.js";
import { cases, world } from "./support/cases.js";

const first = callOf(world.presets[0], world.defaults);
/** @type {import("../src/page/link.js").CallTimes} */
const times = { tau: 0.15, until: { start: 1, end: 0.25 } };
const parsed = (/** @type {string} */ hash) => fromHash(hash, first, () => times);

test("every preset, and every case's edit, comes back from its link", () => {
  /** @type {(ends: [number, any]) => import("../src/method/alpha.js").Window} */
  const window = ([start, end]) => ({ start, end });
  const calls = world.presets.map((/** @type {any} */ preset) => callOf(preset, world.defaults));
  for (const edit of cases.edits) {
    const alpha = new Map(Object.entries(edit.alpha).map(([word, ends]) => [word, window(/** @type {any} */ (ends))]));
    const weights = new Map(Object.entries(edit.weights));
    const { source, target, tau } = edit;
    calls.push({
      ...first,
      source,
      target,
      tau,
      alpha,
      weights,
      until: window(edit.until),
      sampler: "dpm++",
      seed: 2n ** 63n - 1n,
    });
  }
  for (const call of calls) assert.deepEqual(parsed(`#${toHash(call)}`), call);
});

test("what is out of range in a link is left out", () => {
  const wrong =
    "seed=9223372036854775808&steps=51&guidance=11&sampler=x&tau=1.5&until=0.2:0.9&alpha==1&alpha=a=2&weight=a=9";
  assert.deepEqual(parsed(wrong), { ...first, ...times });
  assert.equal(parsed(`source=${"x".repeat(1000)}`).source.length, 300);
});

test("prompts are quoted for the shell and for Python", () => {
  const call = { ...first, source: `it's "5$"`, target: "a\\b `c`" };
  assert.match(toCommand(call), /^p2p edit 'it'\\''s "5\$"' 'a\\b `c`' /);
  assert.match(toPython(call), /^p2p\.edit\("it's \\"5\$\\"", "a\\\\b `c`", /);
});

test("a prompt is no option and no file", () => {
  const call = { ...first, source: "-cat", target: "a cat.PNG" };
  assert.match(toCommand(call), /^p2p edit " -cat" "a cat\.PNG " --/);
  assert.match(toPython(call), /^p2p\.edit\("-cat", "a cat\.PNG ", /);
});

test("every link of the lessons is of a call, to the letter", () => {
  const folder = new URL("../../notebooks/", import.meta.url);
  const lessons = readdirSync(folder).filter((name) => name.endsWith(".py"));
  const texts = lessons.map((name) => readFileSync(new URL(name, folder), "utf8"));
  const links = texts.flatMap((text) => text.match(/(?<=http:\/\/localhost:\d+\/#)[^)\s]*/g) ?? []);
  assert.ok(links.length);
  for (const link of links) assert.equal(toHash(parsed(link)), link);
});
