// A host that serves files and sets no headers, as many static hosts do.

import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { join, normalize } from "node:path";

const TYPES = {
  html: "text/html",
  js: "text/javascript",
  mjs: "text/javascript",
  css: "text/css",
  json: "application/json",
  png: "image/png",
  wasm: "application/wasm",
};

/** @param {string} folder */
export async function plainHost(folder) {
  const host = createServer((request, response) => {
    const path = normalize(new URL(request.url ?? "/", "http://host").pathname).replace(/\/$/, "/index.html");
    const ending = /** @type {keyof typeof TYPES} */ (path.split(".").pop());
    try {
      const file = readFileSync(join(folder, path));
      response.setHeader("Content-Type", TYPES[ending] ?? "application/octet-stream");
      response.end(file);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => host.listen(0, "127.0.0.1", () => resolve(undefined)));
  const address = `http://localhost:${/** @type {import("node:net").AddressInfo} */ (host.address()).port}/`;
  const stop = () => new Promise((resolve) => (host.close(resolve), host.closeAllConnections()));
  return { address, stop };
}
