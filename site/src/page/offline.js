// The service worker: it keeps the page for use offline, and gives it the headers that threads need where the host does
// not.

const TRIED = "reloaded-for-threads";
const PATIENCE = 3000; // milliseconds to wait for the service worker; the page works without one

/** Resolves when the service worker serves the page, or can't; the page may be reloaded once for its headers. */
export async function offline() {
  if (!("serviceWorker" in navigator)) return;
  const { serviceWorker } = navigator;
  const serves = new Promise((resolve) => serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
  try {
    await serviceWorker.register("sw.js");
  } catch {
    return; // a browser may forbid it, in a private window for one: the page works on one thread, and not offline
  }
  if (!serviceWorker.controller) await Promise.race([serves, new Promise((resolve) => setTimeout(resolve, PATIENCE))]);
  if (window !== window.top) return; // in a frame, threads are up to the page around it
  if (!self.crossOriginIsolated && serviceWorker.controller && !sessionStorage.getItem(TRIED)) {
    sessionStorage.setItem(TRIED, "yes"); // once, or a browser without isolation would reload for ever
    location.reload();
    await new Promise(() => {}); // until it does
  }
}
