// A call as a link, as a command line and as Python.

/** @import { Call } from "../method/run.js" */
/** @import { Time, Window } from "../method/alpha.js" */
/** @import { Sampler } from "../method/samplers.js" */
/** @typedef {Pick<Call, "source" | "target">} Prompts */
/** @typedef {Pick<Call, "tau" | "until">} CallTimes */

const LONGEST = 300; // characters of a prompt that a link may bring
/** The largest number of steps, and the guidance and the weights that the page offers. */
export const LIMITS = { steps: 50, guidance: 10, weight: [-4, 8], seed: 2n ** 63n - 1n };

/**
 * The part of a link after #; it differs from the defaults' only where the call does.
 * @param {Call} call
 */
export function toHash(call) {
  const fields = new URLSearchParams({ source: call.source, target: call.target, seed: String(call.seed) });
  fields.set("steps", String(call.steps));
  fields.set("guidance", String(call.guidance));
  if (call.sampler !== "ddim") fields.set("sampler", call.sampler);
  fields.set("tau", String(call.tau));
  fields.set("until", toText(call.until));
  for (const [word, window] of call.alpha) fields.append("alpha", `${word}=${toText(window)}`);
  for (const [word, factor] of call.weights) fields.append("weight", `${word}=${factor}`);
  for (const word of call.blend) fields.append("blend", word);
  return fields.toString();
}

/**
 * The call of a link. A link may come from anywhere: what is missing or out of range is taken from the defaults.
 * @param {string} hash
 * @param {Call} defaults
 * @param {(prompts: Prompts) => CallTimes} timesOf the default times of two prompts
 * @returns {Call}
 */
export function fromHash(hash, defaults, timesOf) {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const prompt = (/** @type {string} */ name) => fields.get(name)?.slice(0, LONGEST);
  const number = (/** @type {string} */ name, /** @type {number} */ least, /** @type {number} */ most) => {
    const value = fields.has(name) ? Number(fields.get(name)) : NaN;
    return value >= least && value <= most ? value : null;
  };
  const steps = number("steps", 1, LIMITS.steps);
  const seed = /^\d{1,19}$/.test(fields.get("seed") ?? "") ? BigInt(fields.get("seed") ?? 0) : null;
  const named = (/** @type {string} */ name) =>
    fields.getAll(name).flatMap((text) => {
      const cut = text.lastIndexOf("=");
      return cut > 0 ? [/** @type {[string, string]} */ ([text.slice(0, cut), text.slice(cut + 1)])] : [];
    });
  const prompts = { source: prompt("source") ?? defaults.source, target: prompt("target") ?? defaults.target };
  const times = timesOf(prompts);
  return {
    ...prompts,
    seed: seed !== null && seed <= LIMITS.seed ? seed : defaults.seed,
    steps: steps !== null && Number.isInteger(steps) ? steps : defaults.steps,
    guidance: number("guidance", 0, LIMITS.guidance) ?? defaults.guidance,
    sampler: fields.get("sampler") === "dpm++" ? "dpm++" : "ddim",
    tau: time(fields.get("tau") ?? "") ?? times.tau,
    until: window(fields.get("until") ?? "") ?? times.until,
    alpha: new Map(
      named("alpha").flatMap(([word, text]) => {
        const own = window(text);
        return own ? [/** @type {[string, Window]} */ ([word, own])] : [];
      }),
    ),
    weights: new Map(
      named("weight")
        .map(([word, text]) => /** @type {[string, number]} */ ([word, text ? Number(text) : NaN]))
        .filter(([, factor]) => factor >= LIMITS.weight[0] && factor <= LIMITS.weight[1]),
    ),
    blend: fields.getAll("blend"),
  };
}

/** A window in the notation of the command line: END, or START:END. @param {Window} window */
function toText({ start, end }) {
  return start === 1 ? String(end) : `${start}:${end}`;
}

/** @param {string} text @returns {Time | null} */
function time(text) {
  if (text === "never") return text;
  return /^(0|1|0\.\d{1,6}|1\.0{1,6})$/.test(text) ? Number(text) : null;
}

/** @param {string} text @returns {Window | null} */
function window(text) {
  const [first, second] = text.split(":");
  const [start, end] = second === undefined ? [1, time(first)] : [time(first), time(second)];
  if (start === null || start === "never" || end === null) return null;
  return end === "never" || start >= end ? { start, end } : null;
}

/** The options of a call, by their names on the command line. @param {Call} call @returns {[string, string][]} */
function options(call) {
  return [
    ["seed", String(call.seed)],
    ["steps", String(call.steps)],
    ["guidance", String(call.guidance)],
    ...(call.sampler === "ddim" ? [] : [/** @type {[string, string]} */ (["sampler", call.sampler])]),
    ["tau", String(call.tau)],
    ["self-until", toText(call.until)],
    ...[...call.alpha].map(([word, own]) => /** @type {[string, string]} */ (["alpha", `${word}=${toText(own)}`])),
    ...[...call.weights].map(([word, c]) => /** @type {[string, string]} */ (["reweight", `${word}=${c}`])),
    ...(call.blend.length ? [/** @type {[string, string]} */ (["blend", call.blend.join(",")])] : []),
  ];
}

/** `p2p edit`, whose image is the source beside the edit. @param {Call} call */
export function toCommand(call) {
  const given = options(call).map(([name, value]) => `--${name} ${shell(value)}`);
  const prompts = [call.source, call.target].map((text) => quoted(noFile(text).replace(/^-/, " -"))); // no option
  return ["p2p edit", ...prompts, ...given, "-o edit.png"].join(" ");
}

/** The same in Python. @param {Call} call */
export function toPython(call) {
  const when = (/** @type {Window | Time} */ at) => {
    const text = typeof at === "object" ? toText(at) : String(at);
    return /^[\d.]+$/.test(text) ? text : python(text);
  };
  /** @type {(entries: [string, string][]) => string} */
  const dict = (entries) => `{${entries.map(([word, value]) => `${python(word)}: ${value}`).join(", ")}}`;
  const given = [
    python(noFile(call.source)),
    python(noFile(call.target)),
    `seed=${call.seed}`,
    `steps=${call.steps}`,
    `guidance=${call.guidance}`,
    ...(call.sampler === "ddim" ? [] : [`sampler=${python(call.sampler)}`]),
    `tau=${when(call.tau)}`,
    `self_until=${when(call.until)}`,
    ...(call.alpha.size ? [`alpha=${dict([...call.alpha].map(([word, own]) => [word, when(own)]))}`] : []),
    ...(call.weights.size ? [`reweight=${dict([...call.weights].map(([word, c]) => [word, String(c)]))}`] : []),
    ...(call.blend.length ? [`blend=[${call.blend.map(python).join(", ")}]`] : []),
  ];
  return `p2p.edit(${given.join(", ")})`;
}

/** A prompt of the same tokens that the program does not take for an image's file. @param {string} text */
const noFile = (text) => text.replace(/\.(png|jpe?g|webp|gif|tiff?|bmp)$/i, "$& ");

/** A word of a shell's command, quoted if it has to be. @param {string} text */
const shell = (text) => (/^[\w.:=+-]+$/.test(text) ? text : quoted(text));

/** @param {string} text */
const quoted = (text) => (/["$`\\!]/.test(text) ? `'${text.replaceAll("'", "'\\''")}'` : `"${text}"`);

/** A string of Python's. @param {string} text */
const python = (text) => JSON.stringify(text);
