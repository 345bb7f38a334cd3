// What a browser needs to have, and what to do about what went wrong in it.

// A module whose only function works on vectors: valid only where there is SIMD.
const SIMD = "\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7b\x03\x02\x01\0\x0a\x0a\x01\x08\0\x41\0\xfd\x0f\xfd\x62\x0b";

/** What is missing, as a sentence; nothing if all is there. */
export function missing() {
  if (typeof WebAssembly !== "object" || !WebAssembly.validate(Uint8Array.from(SIMD, (c) => c.charCodeAt(0)))) {
    return "This browser has no WebAssembly SIMD, which the model needs. Chrome 91, Firefox 89 and Safari 16.4 have it.";
  }
  if (
    typeof DecompressionStream !== "function" ||
    typeof OffscreenCanvas !== "function" ||
    !CSS.supports("color", "light-dark(red, red)")
  ) {
    return "This browser is too old for the page. Chrome 123, Firefox 120, Safari 17.5 and later ones are not.";
  }
  return "";
}

/** A message of the worker or of the browser, with what to do where memory is short. @param {string} message */
export function explained(message) {
  return /memory|alloc|out of bounds/i.test(message) // WebAssembly's, onnxruntime's std::bad_alloc, and an array's
    ? `There is not enough memory for the model: close other tabs and reload. (${message})`
    : message;
}
