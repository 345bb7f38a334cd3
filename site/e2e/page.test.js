// The page as such, in Chromium: how it loads, offline and in other windows, its links and commands, its times, and
// whether everybody can use it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after as afterAll, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { after, follow, launch, levels, link, open, pixels, PYTHON, ROOT, serve, settled, slide } from "./support/browser.js";
import { plainHost } from "./support/host.js";

const DIST = fileURLToPath(new URL("../dist/", import.meta.url));
const AXE = fileURLToPath(new URL("../node_modules/axe-core/axe.min.js", import.meta.url));

/** @type {Awaited<ReturnType<typeof launch>>} */
let browser;
/** @type {Awaited<ReturnType<typeof serve>>} */
let server;
/** @type {ReturnType<typeof open> | undefined} */
let opened;

before(async () => {
  [browser, server] = await Promise.all([launch(), serve()]);
});
afterAll(async () => {
  await browser.close();
  await server.stop();
});

const NONSENSE = "#seed=-1&steps=3&guidance=x&tau=2&until=0:1&alpha=dog&alpha=grass=0.5&weight=cat=NaN&blend=%3Cscript%3E&source=a+cat";

/** The page for the tests that need not load one, opened by the first of them. */
function shared() {
  const permissions = ["clipboard-read", "clipboard-write"];
  return (opened ??= open(browser, server.address + NONSENSE, { permissions }));
}

test("the first images are there at once, then the model is, and the times are kept", async () => {
  const start = performance.now();
  const { page, context, problems } = await open(browser, server.address);
  const shown = "[...document.querySelectorAll('.image img')].every((image) => image.complete && image.naturalWidth)";
  await page.waitForFunction(`document.querySelectorAll('.image img').length === 3 && ${shown}`);
  const usable = performance.now() - start;
  await page.waitForFunction(() => document.querySelector("progress")?.value || document.body.dataset.backend);
  await settled(page);
  const loaded = performance.now() - start;

  // what the page shows first is what it computes
  const first = await pixels(page, "edit");
  const shipped = await page.evaluate(async () => {
    const image = await createImageBitmap(await (await fetch("model/edit.png")).blob());
    const context = new OffscreenCanvas(image.width, image.height).getContext("2d");
    context?.drawImage(image, 0, 0);
    return [...(context?.getImageData(0, 0, image.width, image.height).data ?? [])].filter((_, i) => i % 4 < 3);
  });
  assert.ok(levels(first, shipped) < 0.1, `${levels(first, shipped)}`);

  // the picture of docs/live.md, without the seconds, so that it changes only if the page does
  await page.evaluate(() => document.querySelector("#status")?.replaceChildren());
  await page.setViewportSize({ width: 1180, height: 700 });
  await page.hover("#target [data-word=dog]");
  await page.screenshot({ path: join(ROOT, "docs", "live.png") });
  await page.hover("h1");

  // the best of a few: another program may slow the first
  const seconds = () => page.evaluate(() => Number(document.body.dataset.seconds));
  let [preview, full] = [Infinity, Infinity];
  for (const tau of [0.3, 0.4]) {
    await after(page, () => slide(page, "#tau", tau), "previewed");
    preview = Math.min(preview, await seconds());
    await settled(page);
    full = Math.min(full, await seconds());
  }
  const told = await page.evaluate(() => `${document.body.dataset.backend}, ${document.body.dataset.threads} threads`);
  const native = JSON.parse(String(execFileSync(PYTHON, ["-m", "tests.support.native_time"], { cwd: ROOT })));
  console.log(
    `first images after ${(usable / 1000).toFixed(2)} s, the model's own after ${(loaded / 1000).toFixed(1)} s; ` +
      `preview ${preview.toFixed(2)} s, 20 steps ${full.toFixed(2)} s by ${told}; ` +
      `20 steps natively: onnxruntime ${native.onnxruntime.toFixed(2)} s, torch ${native.torch.toFixed(2)} s, ` +
      `${native.threads} threads of ${native.processor}`,
  );
  assert.deepEqual(problems, []);
  await context.close();
});

test("a link that makes no sense leaves the page usable", async () => {
  const { page } = await shared();
  await settled(page);
  assert.match(
    String(await page.textContent("[data-share=command]")),
    /^p2p edit "a cat" .* --seed 9 --steps 3 --guidance 4 --tau 0.5 --self-until 0.8 -o/, // of an object that becomes another; the grass is new
  );
});

test("a change ends the run before it", async () => {
  const { page } = await shared();
  await follow(page, { steps: 50 });
  await page.waitForFunction(() =>
    /Sampling: step [3-9] of 50/.test(document.querySelector("#status")?.textContent ?? ""),
  );
  await page.evaluate(() => {
    const said = /** @type {string[]} */ ([]);
    Object.assign(window, { said });
    new MutationObserver(() => said.push(document.querySelector("#status")?.textContent ?? "")).observe(
      /** @type {Node} */ (document.querySelector("#status")),
      { childList: true, characterData: true, subtree: true },
    );
  });
  await slide(page, "#steps", 2);
  await settled(page);
  const said = await page.evaluate(() => /** @type {any} */ (window).said);
  assert.ok(!said.some((/** @type {string} */ text) => /Done: 50 steps/.test(text)), said.join("\n"));
  assert.match(said.at(-1), /^Done: 2 steps/);
  assert.ok(said.filter((/** @type {string} */ text) => / of 50/.test(text)).length <= 1, said.join("\n"));
});

test("two tabs sample at once, and a link restores the call", async () => {
  const call = {
    seed: 3,
    steps: 4,
    guidance: 5.5,
    sampler: "dpm++",
    tau: "never",
    until: "0.9:0.35",
    alpha: "dog=0.8:0.4",
    weight: "grass=2",
    blend: "cat",
  };
  const { page: one, context } = await shared();
  const two = await context.newPage();
  await Promise.all([after(one, () => follow(one, call)), two.goto(server.address + link(call))]);
  await settled(two);
  assert.deepEqual(await pixels(one, "edit"), await pixels(two, "edit"));
  const command = await two.textContent("[data-share=command]");
  assert.equal(
    command,
    'p2p edit "a photo of a cat on the grass" "a photo of a dog on the grass" --seed 3 --steps 4 --guidance 5.5 ' +
      "--sampler dpm++ --tau never --self-until 0.9:0.35 --alpha dog=0.8:0.4 --reweight grass=2 --blend cat -o edit.png",
  );
  const written = String(await one.textContent("[data-share=link]"));
  await after(two, () => follow(two));
  assert.notEqual(await two.textContent("[data-share=command]"), command);
  await after(two, () => two.goto(written));
  assert.equal(await two.textContent("[data-share=command]"), command);
  assert.deepEqual(await pixels(one, "edit"), await pixels(two, "edit"));
  await two.close();
});

test("the copied command and the line of Python reproduce the image", async () => {
  const { page } = await shared();
  await page.bringToFront(); // the clipboard is that of the page in use
  await after(page, () => follow(page, { steps: 6, tau: 0.35, weight: "grass=1.5", alpha: "dog=0.1" }));
  const copied = async (/** @type {string} */ name) => {
    await page.click(`button[aria-label='Copy the ${name}']`);
    return page.evaluate(() => navigator.clipboard.readText());
  };
  const folder = mkdtempSync(join(tmpdir(), "live-"));
  try {
    const [command, line] = [await copied("command"), await copied("Python")];
    const bin = `p2p() { "${PYTHON}" -m p2p "$@"; }`;
    execFileSync("bash", ["-c", `${bin}; cd "${ROOT}"; ${command.replace("edit.png", join(folder, "edit.png"))}`]);
    const script =
      "import base64, sys, numpy as np, p2p\nfrom PIL import Image\n" +
      `both = np.asarray(Image.open(${JSON.stringify(join(folder, "edit.png"))}).convert("RGB"))\n` +
      `result = ${line}\n` +
      "own = [np.asarray(image.convert('RGB')) for image in (result.source, result.targets[0])]\n" +
      "assert (both == np.concatenate(own, axis=1)).all()\n" +
      "print(base64.b64encode(np.stack(own).tobytes()).decode())\n";
    const images = Buffer.from(String(execFileSync(PYTHON, ["-c", script], { cwd: ROOT })), "base64");
    const half = images.length / 2;
    for (const [name, expected] of /** @type {const} */ ([
      ["source", images.subarray(0, half)],
      ["edit", images.subarray(half)],
    ])) {
      const differs = levels(expected, await pixels(page, name));
      assert.ok(differs < 0.1, `${name} differs by ${differs} levels on average`); // rounding alone
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("on a host that sets no headers the page gets threads, and then works without a network", async () => {
  const { address, stop } = await plainHost(DIST);
  const { page, context, problems } = await open(browser, address + link());
  await settled(page);
  assert.ok(await page.evaluate(() => crossOriginIsolated));
  assert.match(String(await page.evaluate(() => document.body.dataset.threads)), /^[2-4]$/);
  const before = await pixels(page, "edit");
  await page.waitForFunction(async () => {
    const cache = await caches.open("prompt-to-prompt-live"); // the last of the large files is stored in the background
    return (await cache.keys()).filter(({ url }) => /\.bin|wasm/.test(url)).length >= 5;
  });
  await context.setOffline(true);
  await stop();
  await page.reload();
  await settled(page);
  assert.deepEqual(await pixels(page, "edit"), before);
  assert.deepEqual(problems, []);
  await context.close();
});

test("axe finds nothing and nothing sticks out, light and dark, from 1280 to 400 pixels", async () => {
  const { page } = await shared();
  await after(page, () => follow(page, { target: "a photo of a big striped zebra on the grass" })); // one is unknown
  await page.click("#target [data-word=big]");
  await page.evaluate(readFileSync(AXE, "utf8"));
  for (const colorScheme of /** @type {const} */ (["light", "dark"])) {
    await page.emulateMedia({ colorScheme });
    for (const width of [1280, 760, 400]) {
      await page.setViewportSize({ width, height: 900 });
      const out = await page.$$eval("body *", (all) =>
        all.filter((e) => e.getBoundingClientRect().right > window.innerWidth + 1).map((e) => e.outerHTML.slice(0, 80)),
      );
      assert.deepEqual(out, [], `${width} pixels`);
      const { violations } = await page.evaluate("axe.run()").then((found) => /** @type {any} */ (found));
      const told = violations.map(
        (/** @type {any} */ { impact, id, nodes }) => `${impact} ${id}: ${nodes[0].html.slice(0, 200)}`,
      );
      assert.deepEqual(told, [], `${width} pixels, ${colorScheme}`);
    }
  }
});

test("the whole page can be reached and used by the keyboard", async () => {
  const { page } = await shared();
  await follow(page);
  await page.focus("#presets button"); // where the order begins
  const reached = new Set();
  for (;;) {
    await page.keyboard.press("Tab");
    const on = await page.evaluate(() => document.activeElement?.closest("[id]")?.id);
    if (!on) break;
    reached.add(on);
  }
  for (const id of [
    "source-text",
    "target-text",
    "scrubber",
    "tau",
    "until",
    "seed",
    "steps",
    "guidance",
    "sampler",
    "presets",
    "timeline",
    "share",
  ]) {
    assert.ok(reached.has(id), `${id} is not among ${[...reached]}`);
  }
  await page.focus("#tau");
  await after(page, () => page.keyboard.press("ArrowRight"));
  assert.match(String(await page.textContent("[data-share=command]")), /--tau 0.55 /);
});

test("nothing went wrong in the page that the tests shared, and no other host was asked", async () => {
  assert.deepEqual((await shared()).problems, []);
});
