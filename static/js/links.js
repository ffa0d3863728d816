// @ts-check
/** Web addresses inside a text. Pure; the URL parser decides, not a pattern. */

/** @typedef {{text: string, href: string}} Part href is "" where there is nothing to follow. */

const SCHEMES = new Set(["http:", "https:", "mailto:"]);
// Where an address may begin and how far it may reach at most; \S would let bidi controls hide its end.
const CANDIDATE = /(?:https?:\/\/|mailto:|www\.)[^\s<>"'`\p{Cc}\p{Cf}]{1,2000}/giu;
const MAX_LINKS = 100;

/**
 * Split a text into plain parts and links; the texts of the parts joined are the text.
 * @param {string} text
 * @returns {Part[]}
 */
export function partsOf(text) {
  /** @type {Part[]} */
  const parts = [];
  let end = 0;
  let links = 0;
  for (const match of text.matchAll(CANDIDATE)) {
    const shown = withoutTail(match[0]);
    const href = links < MAX_LINKS && startsWord(text, match.index) ? hrefOf(shown) : "";
    if (!href) continue;
    links += 1;
    if (match.index > end) parts.push({ text: text.slice(end, match.index), href: "" });
    parts.push({ text: shown, href });
    end = match.index + shown.length;
  }
  if (end < text.length) parts.push({ text: text.slice(end), href: "" });
  return parts;
}

/**
 * The address to follow, "" if there is none or its scheme is not one that we open.
 * @param {string} text
 */
export function hrefOf(text) {
  const address = /^www\./i.test(text) ? `https://${text}` : text;
  if (!URL.canParse(address)) return "";
  const url = new URL(address);
  // "https://bank.example@evil.example" reads as the bank and opens the other.
  if (!SCHEMES.has(url.protocol) || url.username || url.password) return "";
  return url.href;
}

/** @param {string} text @param {number} index */
function startsWord(text, index) {
  return index === 0 || !/[\p{L}\p{N}_]/u.test(text[index - 1]);
}

/** Punctuation after an address ends the sentence, not the address. @param {string} text */
function withoutTail(text) {
  let unopened = text.split(")").length - text.split("(").length;
  let end = text.length;
  while (end > 0) {
    const last = text[end - 1];
    if (last === ")" ? unopened <= 0 : !/[.,;:!?*_~\]}…]/.test(last)) break;
    if (last === ")") unopened -= 1;
    end -= 1;
  }
  return text.slice(0, end);
}
