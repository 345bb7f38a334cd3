// What one does on the page, in Chromium: every control changes the images, and says what it does.

import assert from "node:assert/strict";
import { after as afterAll, before as beforeAll, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { after, follow, launch, levels, link, open, PATIENCE, pixels, serve, settled, slide } from "./support/browser.js";

/** @type {Awaited<ReturnType<typeof launch>>} */
let browser;
/** @type {Awaited<ReturnType<typeof serve>>} */
let server;
/** @type {Awaited<ReturnType<typeof open>>} */
let opened;

beforeAll(async () => {
  [browser, server] = await Promise.all([launch(), serve()]);
  opened = await open(browser, server.address + link());
  await settled(opened.page);
});
afterAll(async () => {
  await browser.close();
  await server.stop();
});

const SEEN = 0.1; // levels on average from which an image has changed; the same call gives the same bytes

test("every preset gives an edit, and its button is pressed", async () => {
  const { page } = opened;
  for (const preset of await page.$$("#presets button")) {
    await preset.click({ trial: true });
    // in one go: the refinement of the last preview may begin at any time
    const press = () => preset.evaluate((button) => ((document.body.dataset.state = "waiting"), button.click()));
    await after(page, press, "previewed");
    const [source, edit] = [await pixels(page, "source"), await pixels(page, "edit")];
    assert.ok(levels(source, edit) > SEEN, String(await preset.textContent()));
    assert.equal(await preset.getAttribute("aria-pressed"), "true");
  }
});

/** Each control by what it is moved to, one after the other; the call is of a cat that becomes a dog, in 3 steps. */
const CONTROLS = /** @type {[string, (page: import("playwright-core").Page) => Promise<unknown>][]} */ ([
  ["tau", (page) => slide(page, "#tau", 1.05)],
  ["self-until", (page) => slide(page, "#until", 1.05)],
  ["seed", (page) => slide(page, "#seed", 8)],
  ["steps", (page) => slide(page, "#steps", 4)],
  ["guidance", (page) => slide(page, "#guidance", 7)],
  ["sampler", (page) => page.selectOption("#sampler", "dpm++")],
  ["a word's weight", (page) => slide(page, "[data-line='word grass'] input", 4)],
  ["a word's end", (page) => page.press("[data-line='word dog'] [data-side=end]", "End")],
  ["a word's start", (page) => page.press("[data-line='word dog'] [data-side=start]", "End")],
  ["local blend", (page) => page.click("#blend button:text-is('grass')")],
  ["the prompt", (page) => page.fill("#target-text", "a photo of a lion on the grass")],
]);

/** @type {number[]} the edit before any control is moved */
let base;
/** @type {number[]} the edit before the next one is */
let before;

test("a link within the page is followed", async () => {
  const { page } = opened;
  await after(page, () => follow(page));
  base = before = await pixels(page, "edit");
  assert.equal(await page.inputValue("#seed"), "7");
});

for (const [name, move] of CONTROLS) {
  test(`${name} changes the image`, async () => {
    const { page } = opened;
    await after(page, () => move(page));
    const now = await pixels(page, "edit");
    const changed = levels(before, now);
    before = now;
    assert.ok(changed > SEEN, `by ${changed} levels`);
  });
}

test("a link undoes what the controls have changed", async () => {
  await after(opened.page, () => follow(opened.page));
  assert.deepEqual(await pixels(opened.page, "edit"), base);
});

test("the switch times are those of the prompts until they are set", async () => {
  const { page } = opened;
  const times = async () => [await page.textContent("output[for=tau]"), await page.textContent("output[for=until]")];
  const write = (/** @type {string} */ target) => page.fill("#target-text", target);
  await follow(page, { seed: 8 });
  assert.deepEqual(await times(), ["t ≥ 0.5 T", "t ≥ 0.8 T"]);
  await write("a photo of a red cat on the grass");
  assert.deepEqual(await times(), ["t ≥ 0.2 T", "t ≥ 0.6 T"]);
  await slide(page, "#tau", 0.5);
  await write("a photo of a dog on the grass"); // whose default is the same
  await write("a photo of a cat in the snow");
  assert.deepEqual(await times(), ["t ≥ 0.5 T", "t ≥ 0.6 T"]);
  await page.click("#presets button");
  assert.deepEqual(await times(), ["t ≥ 0.5 T", "t ≥ 0.8 T"]);
  await write("a photo of a cat in the snow");
  assert.deepEqual(await times(), ["t ≥ 0.2 T", "t ≥ 0.6 T"]);
});

test("an unknown word explains itself, and a known one nears it", async () => {
  const { page } = opened;
  await page.fill("#target-text", "a photo of a pengwin on the grass");
  const note = await page.textContent("#target .note");
  assert.match(String(note), /not trained on “pengwin”.*Did you mean “penguin”\?/);
  assert.equal(
    await page.$$eval("#target .unknown", (chips) => chips.map((chip) => chip.textContent).join()),
    "pengwin",
  );
  await page.fill("#target-text", "a photo of a penguin on the grass");
  assert.equal(await page.textContent("#target .note"), "");
});

test("a prompt that is too long is refused, and the page goes on", async () => {
  const { page } = opened;
  await follow(page, { seed: 9 });
  await page.fill("#target-text", "a cat ".repeat(20));
  assert.match(String(await page.textContent("#problem")), /40 tokens.*holds 30.*shorten/);
  await after(page, () => page.fill("#target-text", "a photo of a dog on the grass"));
  assert.ok(await page.isHidden("#problem"));
});

test("a word is replaced by another of its kind, by the keyboard alone", async () => {
  const { page } = opened;
  await follow(page, { target: "a photo of a dog on the grass " });
  await page.focus("#target [data-word=dog]");
  await page.keyboard.press("Enter");
  assert.equal(await page.getAttribute("#target [data-word=dog]", "aria-expanded"), "true");
  await page.keyboard.press("Escape");
  assert.equal(await page.getAttribute("#target [data-word=dog]", "aria-expanded"), "true", "Escape is of the choices");
  await page.focus("#target .choices button:text-is('owl')");
  await after(page, () => page.keyboard.press("Enter"));
  assert.equal(await page.inputValue("#target-text"), "a photo of an owl on the grass ");
});

test("a word under the pointer lights its counterpart, and lays maps over both images", async () => {
  const { page } = opened;
  await after(page, () => follow(page));
  const below = await page.locator("#timeline").boundingBox();
  const plain = [await pixels(page, "source"), await pixels(page, "fixed"), await pixels(page, "edit")];
  await page.hover("#target [data-word=dog]");
  assert.equal(await page.textContent("#source .lit"), "cat");
  assert.match(String(await page.textContent("figure[data-name=source] span")), /^cat: [\d.]+% of attention$/);
  assert.deepEqual(await page.locator("#timeline").boundingBox(), below, "what is below moved");
  const over = [await pixels(page, "source"), await pixels(page, "fixed"), await pixels(page, "edit")];
  assert.ok(levels(plain[0], over[0]) > SEEN && levels(plain[2], over[2]) > SEEN);
  assert.deepEqual(over[1], plain[1]);
  await page.hover("h1");
  assert.deepEqual(await pixels(page, "edit"), plain[2]);

  await page.hover("#target [data-word=dog]");
  await after(page, () => follow(page, { target: "a photo of a lion" }));
  assert.deepEqual(opened.problems, []); // the word that was pointed at is gone
});

test("the scrubber shows the prediction of each step, its matrices and its numbers", { timeout: PATIENCE }, async () => {
  const { page } = opened;
  await after(page, () => follow(page, { steps: 5 }));
  const [last, shown] = [await pixels(page, "edit"), await page.textContent("#formula")];
  assert.match(String(shown), /^t = 200.*\[dog\] = 0 · A \+ 1 · A\*\[dog\]$/s); // below tau = 0.5
  await slide(page, "#scrubber", 1);
  assert.match(String(await page.textContent("#formula")), /^t = 1000.*\[dog\] = 1 · A\[cat\] \+ 0 · A\*\[dog\]$/s);
  while (levels(last, await pixels(page, "edit")) < SEEN) await sleep(50);
  assert.match(String(await page.textContent("#scrubbed")), /1 of 5, t = 1000/);
});

test("the formula is of a word that the edit changes: swapped, weighed or new", async () => {
  const { page } = opened;
  for (const [target, weight, told] of [
    ["a photo of a dog on the grass", "", "[dog] = 0 · A + 1 · A*[dog]"],
    ["a photo of a cat on the grass", "cat=2", "[cat] = 0 · A + 2 · A*[cat]"],
    ["a photo of a blue cat on the grass", "", "[blue] = 0 · A + 1 · A*[blue]"],
  ]) {
    await follow(page, { target, weight, tau: "never" });
    assert.equal(String(await page.textContent("#formula")).split("used")[1], told);
  }
});

test("dragging a bar's end sets the word's own window", async () => {
  const { page } = opened;
  await follow(page, { seed: 9 });
  const handle = page.locator("[data-line='word dog'] [data-side=end]");
  await handle.scrollIntoViewIfNeeded();
  const [box, track] = [await handle.boundingBox(), await page.locator("[data-line='word dog'] .track").boundingBox()];
  assert.ok(box && track);
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(track.x + track.width / 4, box.y + box.height / 2, { steps: 8 });
  await page.mouse.up();
  const source = await page.inputValue("#source-text");
  for (const text of ["a photo on the grass", source]) {
    await page.fill("#source-text", text); // without the cat the dog is new, and has no window
    const command = String(await page.textContent("[data-share=command]"));
    assert.equal(/ --alpha dog=0\.75 /.test(command), text === source, command);
  }
  await page.click("[data-line='word dog'] button");
  assert.doesNotMatch(String(await page.textContent("[data-share=command]")), /--alpha/);
});

test("nothing went wrong in the page, and no other host was asked", () => {
  assert.deepEqual(opened.problems, []);
});
