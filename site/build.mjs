// Bundle the page into dist/, with what `python -m p2p.live.build` wrote to model/.

import { createHash } from "node:crypto";
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, existsSync } from "node:fs";
import { join, relative } from "node:path";
import { build } from "esbuild";

const OUT = "dist";
const LEFT = ["cases.json"]; // for the tests
const ORT = ["ort-wasm-simd-threaded", "ort-wasm-simd-threaded.asyncify"]; // for WebAssembly, and for WebGPU
const shared = {
  bundle: true,
  minify: true,
  format: /** @type {const} */ ("esm"),
  target: "es2023",
  conditions: ["onnxruntime-web-use-extern-wasm"],
  logLevel: /** @type {const} */ ("warning"),
  legalComments: /** @type {const} */ ("linked"),
};

if (!existsSync("model/unet.bin"))
  throw new Error("site/model/ has no networks: run make site, or python -m p2p.live.build");
rmSync(OUT, { recursive: true, force: true });
mkdirSync(join(OUT, "ort"), { recursive: true });
cpSync("model", join(OUT, "model"), { recursive: true, filter: (path) => !LEFT.some((name) => path.endsWith(name)) });
for (const name of ["index.html", "style.css"]) cpSync(name, join(OUT, name));
for (const name of ORT) {
  for (const ending of ["mjs", "wasm"]) {
    cpSync(`node_modules/onnxruntime-web/dist/${name}.${ending}`, join(OUT, "ort", `${name}.${ending}`));
  }
}
await build({
  ...shared,
  entryPoints: { main: "src/page/main.js", worker: "src/worker.js" },
  outdir: OUT,
  splitting: true,
});

const files = Object.fromEntries(
  readdirSync(OUT, { recursive: true })
    .map((name) => join(OUT, String(name)))
    .filter((path) => statSync(path).isFile())
    .sort()
    .map((path) => [
      relative(OUT, path).replaceAll("\\", "/"),
      createHash("sha256").update(readFileSync(path)).digest("hex").slice(0, 16),
    ]),
);
await build({
  ...shared,
  entryPoints: ["src/sw.js"],
  outfile: join(OUT, "sw.js"),
  format: "iife",
  define: { __FILES__: JSON.stringify(JSON.stringify(files)) },
});
