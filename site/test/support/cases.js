// What the build wrote: the cases with Python's results, and the world.

import { readFileSync } from "node:fs";
import { PromptTokenizer } from "../../src/method/tokens.js";
import { Schedule } from "../../src/method/schedule.js";

/** @param {string} name */
export const read = (name) => readFileSync(new URL(`../../model/${name}`, import.meta.url));
export const world = JSON.parse(read("world.json").toString());
export const cases = JSON.parse(read("cases.json").toString());
export const tokenizer = new PromptTokenizer(JSON.parse(read("tokenizer.json").toString()), world.text);
export const schedule = new Schedule(world.schedule);
