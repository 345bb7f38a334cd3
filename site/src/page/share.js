// The call as a link, a command and Python, each with a button that copies it.

import { el } from "./dom.js";
import { toCommand, toHash, toPython } from "./link.js";

/** @import { Call } from "../method/run.js" */

const COPIED = 1500; // milliseconds for which the button says so

/** @param {HTMLElement} place @param {Call} call */
export function showShare(place, call) {
  const link = `${location.origin}${location.pathname}#${toHash(call)}`;
  const texts = { link, command: toCommand(call), Python: toPython(call) };
  if (place.dataset.link === link) return;
  place.dataset.link = link;
  place.replaceChildren(
    ...Object.entries(texts).map(([name, text]) => {
      const given = { type: "button", class: "small", "aria-label": `Copy the ${name}`, onclick: copy };
      const button = el("button", given, "copy");
      return el("div", { class: "share" }, el("span", {}, name), el("code", { "data-share": name }, text), button);

      async function copy() {
        await navigator.clipboard.writeText(text);
        button.textContent = "copied";
        setTimeout(() => (button.textContent = "copy"), COPIED);
      }
    }),
  );
}
