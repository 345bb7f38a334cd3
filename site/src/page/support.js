// What a browser needs to have.

// A function that adds two vectors, as a module: valid only where there is SIMD.
const SIMD = Uint8Array.of(
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11,
);

/** What is missing, as a sentence; nothing if all is there. */
export function missing() {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) {
    return "This browser has no WebAssembly SIMD, which the model needs: Chrome 91, Firefox 89, Safari 16.4, and later ones have it.";
  }
  if (typeof DecompressionStream !== "function" || typeof OffscreenCanvas !== "function") {
    return "This browser lacks what the page is built on: Chrome 111, Firefox 119, Safari 16.4, and later ones have it.";
  }
  return "";
}
