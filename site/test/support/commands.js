// Prints the command line and the line of Python of every edit among the cases, for the tests in Python.

import { toCommand, toPython } from "../../src/page/link.js";
import { cases } from "./cases.js";

/** @type {(ends: [number, number | "never"]) => {start: number, end: number | "never"}} */
const window = ([start, end]) => ({ start, end });

const lines = cases.edits.map((/** @type {any} */ edit) => {
  const alpha = new Map(Object.entries(edit.alpha).map(([word, ends]) => [word, window(/** @type {any} */ (ends))]));
  const weights = new Map(Object.entries(edit.weights));
  const { source, target, tau } = edit;
  const sampling = { seed: 7n, steps: 20, guidance: 5.5, sampler: /** @type {const} */ ("ddim") };
  const call = { source, target, tau, alpha, weights, until: window(edit.until), blend: [], ...sampling };
  return [toCommand(call), toPython(call)];
});
process.stdout.write(JSON.stringify(lines));
