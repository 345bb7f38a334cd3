// The service worker: every file of the page from its cache, each in the version that the page was built with, with the
// headers that isolate it, so that WebAssembly may use threads.

/// <reference lib="webworker" />

const worker = /** @type {ServiceWorkerGlobalScope} */ (/** @type {unknown} */ (self));

/** The page's files and the hash of each, written by the build. @type {Record<string, string>} */
const FILES = JSON.parse(__FILES__);
const CACHE = "prompt-to-prompt-live";
const LATER = /^(model\/.*\.bin|ort\/)/; // large: kept when the page asks for them
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
};

/** The name that a file has in the cache. @param {string} path */
const versioned = (path) => new URL(`${path}?${FILES[path]}`, worker.registration.scope).href;

worker.addEventListener("install", (event) => {
  event.waitUntil(
    (async () => {
      const cache = await caches.open(CACHE);
      const wanted = Object.keys(FILES).filter((path) => !LATER.test(path));
      await Promise.all(
        wanted.map(async (path) => {
          if (await cache.match(versioned(path))) return;
          const response = await fetch(new URL(path, worker.registration.scope), { cache: "no-cache" });
          if (!response.ok) throw new Error(`${path}: ${response.status}`);
          await cache.put(versioned(path), response);
        }),
      );
      await worker.skipWaiting();
    })(),
  );
});

worker.addEventListener("activate", (event) => {
  event.waitUntil(
    (async () => {
      const cache = await caches.open(CACHE);
      const now = new Set(Object.keys(FILES).map(versioned));
      for (const { url } of await cache.keys()) {
        // the host's other copies of the page, such as those in a site's versions, have this cache too
        if (url.startsWith(worker.registration.scope) && !now.has(url)) await cache.delete(url);
      }
      await worker.clients.claim();
    })(),
  );
});

worker.addEventListener("fetch", (event) => {
  const { request } = event;
  const { scope } = worker.registration;
  const url = request.url.split(/[?#]/)[0];
  if (request.method !== "GET" || !url.startsWith(scope)) return;
  const path = url.slice(scope.length) || "index.html";
  if (path in FILES) event.respondWith(served(path, request));
});

/** @param {string} path @param {Request} request */
async function served(path, request) {
  const cache = await caches.open(CACHE);
  let response = await cache.match(versioned(path));
  if (!response) {
    response = await fetch(request);
    if (!response.ok) return response;
    // in the background: the page need not wait until all of it is stored
    const copy = response.clone();
    cache.put(versioned(path), copy).catch(() => {}); // no room: the page works, though not offline
  }
  const headers = new Headers(response.headers);
  for (const [name, value] of Object.entries(HEADERS)) headers.set(name, value);
  return new Response(response.body, { status: response.status, headers });
}
