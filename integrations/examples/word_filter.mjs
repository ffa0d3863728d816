// A chat filter for AWS Lambda: stars out banned words and turns image links into embedded images.
//
// Deploy it with chat_hook.mjs (handler `word_filter.handler`) behind a Function URL, or run it here with
// `manage.py lambda integrations/examples/word_filter.mjs`. It answers with its verdict.
//
// Environment: BANNED_WORDS (comma-separated); WEBHOOK_SECRET as chat_hook.mjs says.

import { accept, filterHandler, modify } from "./chat_hook.mjs";

const WORDS = (process.env.BANNED_WORDS ?? "potato,cabbage").split(/[,\s]+/).filter(Boolean);
const escape = (word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
// Longest first: with "cab" and "cabbage" banned, all of "cabbage" goes.
const PATTERN = WORDS.sort((a, b) => b.length - a.length).map(escape).join("|") || "(?!)";
const LINK = /https:\/\/[^\s<>"'`\\]+/g;
const IMAGE_PATH = /^https:\/\/[^/?#]+\/[^?#]*\.(?:png|jpe?g|gif|webp)(?:[?#]|$)/i;
const PUNCTUATION = ".,;:!?)]"; // what may stand behind a link in a sentence
const MAX_EMBEDS = 4;
const MAX_LINK_CHARACTERS = 2048;

/** The verdict on one message: accepted as it is, or modified. */
function judge({ data, encoding, extras }) {
  const [clean, text] = filterData(data, encoding ?? "");
  // Whatever the sender claimed to embed is replaced: only what this filter found is shown.
  const { embeds: claimed, ...rest } = extras ?? {};
  const embeds = findImages(text).map((url) => ({ type: "image", url }));
  const hasNewExtras = JSON.stringify(embeds) !== JSON.stringify(claimed ?? []);
  if (JSON.stringify(clean) === JSON.stringify(data) && !hasNewExtras) return accept();
  const decorated = embeds.length ? { ...rest, embeds } : rest;
  return modify({ data: clean, ...(hasNewExtras && { extras: decorated }) });
}

/** The data without banned words, and its text for the search of links. Bytes and ciphers are left alone. */
function filterData(data, encoding) {
  if (encoding === "json") {
    const content = JSON.parse(data);
    const [clean, text] = filterData(content, "");
    const isSame = JSON.stringify(clean) === JSON.stringify(content);
    return [isSame ? data : JSON.stringify(clean), text];
  }
  if (encoding !== "" && encoding !== "utf-8") return [data, ""];
  if (typeof data === "string") {
    const banned = new RegExp(PATTERN, "gi");
    return [data.replace(banned, (word) => "*".repeat([...word].length)), data];
  }
  if (Array.isArray(data)) {
    const pairs = data.map((item) => filterData(item, ""));
    return [pairs.map(([clean]) => clean), pairs.map(([, text]) => text).join(" ")];
  }
  if (data !== null && typeof data === "object") {
    const pairs = Object.entries(data).map(([key, value]) => [key, ...filterData(value, "")]);
    return [Object.fromEntries(pairs.map(([key, clean]) => [key, clean])), pairs.map(([, , text]) => text).join(" ")];
  }
  return [data, ""];
}

/** The image links in a text, each once, in order. One with a banned word in it is left out. */
function findImages(text) {
  const banned = new RegExp(PATTERN, "i");
  const links = new Set((text.match(LINK) ?? []).map(withoutPunctuation));
  const isImage = (link) => link.length <= MAX_LINK_CHARACTERS && IMAGE_PATH.test(link) && !banned.test(link);
  return [...links].filter(isImage).slice(0, MAX_EMBEDS);
}

function withoutPunctuation(link) {
  let end = link.length;
  while (PUNCTUATION.includes(link[end - 1])) end -= 1;
  return link.slice(0, end);
}

export const handler = filterHandler(judge);
