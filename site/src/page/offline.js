// The service worker: it keeps the page for use offline, and gives it the headers that threads need where the host does
// not.

const TRIED = "reloaded-for-threads";

/** Resolves when the service worker serves the page, or can't; the page may be reloaded once for its headers. */
export async function offline() {
  if (!("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register("sw.js");
    await navigator.serviceWorker.ready;
  } catch {
    return; // a browser may forbid it, in a private window for one: the page works without, on one thread
  }
  if (!navigator.serviceWorker.controller) {
    await new Promise((resolve) => {
      navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true });
      setTimeout(resolve, 1000);
    });
  }
  if (!self.crossOriginIsolated && navigator.serviceWorker.controller && !sessionStorage.getItem(TRIED)) {
    sessionStorage.setItem(TRIED, "yes"); // once, or a browser without isolation would reload for ever
    location.reload();
    await new Promise(() => {}); // until it does
  }
}
