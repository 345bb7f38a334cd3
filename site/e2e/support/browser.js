// Chromium, the page's server, and what tests read from the page.

import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

/** @import { Browser, BrowserContextOptions, Frame, Page } from "playwright-core" */

export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
export const PYTHON = process.env.PYTHON ?? `${ROOT}.venv/bin/python`;
const QUIET = ["--disable-gpu", "--disable-background-networking", "--disable-component-update", "--disable-sync"];
export const PATIENCE = 180_000; // milliseconds, for a busy machine

export function launch() {
  return chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox", "--no-first-run", ...QUIET] });
}

/**
 * The page's own server, on a free port.
 * @returns {Promise<{address: string, stop: () => Promise<void>}>}
 */
export async function serve() {
  const program = spawn(PYTHON, ["-m", "p2p.live.serve", "--no-open", "--port", "0"], { cwd: ROOT });
  const address = await new Promise((resolve, reject) => {
    program.stdout.on("data", (text) => resolve(/http:\S+\//.exec(String(text))?.[0]));
    program.stderr.on("data", (text) => reject(new Error(String(text))));
  });
  const stop = () => new Promise((resolve) => (program.once("exit", resolve), program.kill("SIGINT")));
  return { address, stop: async () => void (await stop()) };
}

/**
 * A page that fails the test if anything goes wrong in it: an error, a refused resource, a request to another host.
 * @param {Browser} browser
 * @param {string} address
 * @param {BrowserContextOptions} [options]
 */
export async function open(browser, address, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  /** @type {string[]} */
  const problems = [];
  page.on("pageerror", (error) => problems.push(error.message));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(message.text());
  });
  const { origin } = new URL(address);
  context.on("request", (request) => {
    if (!request.url().startsWith(origin) && !request.url().startsWith("data:")) problems.push(`asks ${request.url()}`);
  });
  await page.goto(address);
  return { page, context, problems };
}

/** Wait until a change has been sampled with all its steps, or previewed. @param {Page | Frame} page @param {string} [state] */
export async function settled(page, state = "done") {
  // the refinement follows a preview soon
  const wanted = [...(state === "previewed" ? ["previewed", "sampling"] : [state]), "failed"];
  const at = await page.waitForFunction(
    (states) => states.includes(document.body.dataset.state ?? "") && document.body.dataset.state,
    wanted,
    { timeout: PATIENCE, polling: 50 },
  );
  if ((await at.jsonValue()) === "failed") throw new Error(String(await page.textContent("#problem")));
}

/**
 * Do something, and wait until its result has been sampled.
 * @param {Page} page
 * @param {() => Promise<unknown>} act
 * @param {string} [state]
 */
export async function after(page, act, state) {
  await page.evaluate(() => (document.body.dataset.state = "waiting"));
  await act();
  await settled(page, state);
}

/**
 * Follow a link within the page, which has drawn all but the images then.
 * @param {Page} page
 * @param {Record<string, string | number>} [fields] of `link`
 */
export function follow(page, fields) {
  return page.evaluate(
    (hash) =>
      new Promise((resolve) => {
        window.addEventListener("hashchange", () => resolve(undefined), { once: true });
        location.hash = hash;
      }),
    link(fields),
  );
}

/** The bytes of an image (H, W, 3). @param {Page | Frame} page @param {string} name @returns {Promise<number[]>} */
export async function pixels(page, name) {
  const letters = await page.$eval(`figure[data-name=${name}] canvas`, (canvas) => {
    const { width, height } = /** @type {HTMLCanvasElement} */ (canvas);
    const context = /** @type {HTMLCanvasElement} */ (canvas).getContext("2d");
    const bytes = context?.getImageData(0, 0, width, height).data ?? [];
    return Array.from(bytes, (x, i) => (i % 4 < 3 ? String.fromCharCode(x) : "")).join("");
  });
  return [...Buffer.from(letters, "latin1")]; // as text, which comes over fifteen times as fast as numbers
}

/** The mean difference of two images, in levels of 255. @param {ArrayLike<number>} a @param {ArrayLike<number>} b */
export function levels(a, b) {
  return Array.from(a, (x, i) => Math.abs(x - b[i])).reduce((sum, x) => sum + x, 0) / a.length;
}

/** Move a slider to a value, as a hand would. @param {Page} page @param {string} selector @param {number} value */
export async function slide(page, selector, value) {
  await page.$eval(
    selector,
    (input, to) => {
      /** @type {HTMLInputElement} */ (input).value = String(to);
      input.dispatchEvent(new Event("input", { bubbles: true }));
    },
    value,
  );
}

/** The part of a link for a call of few steps. @param {Record<string, string | number>} [fields] */
export function link(fields = {}) {
  const call = { source: "a photo of a cat on the grass", target: "a photo of a dog on the grass", seed: 7, steps: 3 };
  return `#${new URLSearchParams(Object.entries({ ...call, ...fields }).map(([k, v]) => [k, String(v)]))}`;
}
