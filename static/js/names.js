// @ts-check
/** What to call somebody. Pure. */

// A guest's client id is the name, this, and a random tag; no username holds it.
const SEPARATOR = "~";
// Controls and formatting characters, bidi marks among them: with those one name can pass for another.
const INVISIBLE = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/**
 * @param {string} clientId
 * @returns {{name: string, isGuest: boolean}}
 */
export function nameOf(clientId) {
  const at = clientId.lastIndexOf(SEPARATOR);
  const isGuest = at > 0;
  const name = (isGuest ? clientId.slice(0, at) : clientId).replace(INVISIBLE, "").trim();
  return { name: name || "Somebody", isGuest };
}

/**
 * One or two letters that stand for a name.
 * @param {string} name
 */
export function initialsOf(name) {
  const words = name.split(/[\s._\-@+]+/u).filter(Boolean);
  const [first = "?", second = ""] = words.length > 1 ? [words[0], words[words.length - 1]] : words;
  return (firstLetter(first) + firstLetter(second)).toLocaleUpperCase();
}

/** @param {string} word */
function firstLetter(word) {
  return [...word][0] ?? "";
}

/**
 * A number below `count` that is always the same for a client id (FNV-1a).
 * @param {string} clientId
 * @param {number} count
 */
export function hueOf(clientId, count) {
  let hash = 0x811c9dc5;
  for (const character of clientId) {
    hash ^= character.codePointAt(0) ?? 0;
    hash = Math.imul(hash, 0x01000193) >>> 0;
  }
  return hash % count;
}
