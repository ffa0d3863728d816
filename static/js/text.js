// @ts-check
/** A message's text as elements: plain text, links, and a fold for what is very long. */

import { element } from "./element.js";
import { partsOf } from "./links.js";

const FOLD_CHARACTERS = 1_800;
const FOLD_LINES = 24;
const EMOJI_ONLY = /^(?:\p{Emoji_Presentation}|\p{Emoji}\uFE0F|\u200D|\p{Emoji_Modifier}|\s){1,24}$/u;

/**
 * @param {string} text
 * @returns {HTMLElement[]}
 */
export function textElements(text) {
  if (!text) return [];
  const body = element("div", { class: "text", attributes: { dir: "auto" }, children: partsOf(text).map(partElement) });
  if (EMOJI_ONLY.test(text)) body.classList.add("jumbo");
  return isLong(text) ? [body, foldButton(body)] : [body];
}

/** @param {import("./links.js").Part} part */
function partElement({ text, href }) {
  return href ? linkTo(href, text) : text;
}

/**
 * A link that gives the other side nothing: no opener, no referrer, no vote.
 * @param {string} href
 * @param {string} text
 */
export function linkTo(href, text) {
  const attributes = { href, target: "_blank", rel: "noopener noreferrer nofollow ugc", referrerpolicy: "no-referrer" };
  return element("a", { text, attributes });
}

/** @param {string} text */
function isLong(text) {
  return text.length > FOLD_CHARACTERS || text.split("\n", FOLD_LINES + 1).length > FOLD_LINES;
}

/** @param {HTMLElement} body */
function foldButton(body) {
  const button = element("button", { class: "fold", text: "Show all", attributes: { type: "button" } });
  button.setAttribute("aria-expanded", "false");
  body.classList.add("folded");
  button.addEventListener("click", () => {
    const isFolded = body.classList.toggle("folded");
    button.textContent = isFolded ? "Show all" : "Show less";
    button.setAttribute("aria-expanded", String(!isFolded));
  });
  return button;
}
