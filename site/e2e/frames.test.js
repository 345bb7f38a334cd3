// The page in a frame of a lesson, on the documentation's site as `make docs` built it.

import assert from "node:assert/strict";
import { join } from "node:path";
import { after as afterAll, before, test } from "node:test";
import { launch, levels, open, pixels, ROOT, settled } from "./support/browser.js";
import { plainHost } from "./support/host.js";

/** @type {Awaited<ReturnType<typeof launch>>} */
let browser;
/** @type {Awaited<ReturnType<typeof plainHost>>} */
let host;

before(async () => {
  [browser, host] = await Promise.all([launch(), plainHost(join(ROOT, "out", "site"))]);
});
afterAll(async () => {
  await browser.close();
  await host.stop();
});

test("a lesson has the page in a frame, in the state of its section, and stays as it is", async () => {
  const { page, problems } = await open(browser, `${host.address}notebooks/07_prompt_to_prompt.html`);
  // another copy of the page on this host has its files in the same cache
  const theirs = `${host.address}older/live/main.js?1`;
  await page.evaluate(async (url) => (await caches.open("prompt-to-prompt-live")).put(url, new Response()), theirs);

  const element = page.locator("iframe[title='Drag tau yourself']");
  await element.scrollIntoViewIfNeeded();
  const frame = await (await element.elementHandle())?.contentFrame();
  assert.ok(frame);
  await settled(frame);
  const [source, edit] = [await pixels(frame, "source"), await pixels(frame, "edit")];
  assert.ok(new Set(source).size > 50, "the source is no image");
  assert.ok(levels(source, edit) > 1, "the edit is the source");
  assert.match(
    String(await frame.textContent("[data-share=command]")),
    /a red car .*a blue car .* --seed 1 --steps 30 --guidance 4 --tau 0.8 --self-until never /,
  );

  const [wanted, given] = await frame.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
  assert.ok(wanted <= given && given > 600 && given < 800, `${wanted} of ${given} pixels`);
  const [visit] = await frame.evaluate(() => performance.getEntriesByType("navigation").map((entry) => entry.toJSON()));
  assert.equal(visit.type, "navigate"); // no reload, which would bring no threads here

  const scopes = await page.evaluate(async () =>
    (await navigator.serviceWorker.getRegistrations()).map((worker) => worker.scope),
  );
  assert.deepEqual(scopes, [`${host.address}live/`]);
  assert.equal(await page.evaluate(() => navigator.serviceWorker.controller), null);
  assert.ok(await frame.evaluate(() => Boolean(navigator.serviceWorker.controller)));
  assert.ok(await page.evaluate(async (url) => Boolean(await caches.match(url)), theirs));
  assert.deepEqual(problems, []);
});
