// @ts-check
/** From what the SDK hands over to items. Pure; nothing that arrives is trusted to have any shape. */

/** @typedef {import("./types.js").Item} Item */
/** @typedef {import("./types.js").Embed} Embed */
/** @typedef {import("./types.js").WireMessage} WireMessage */

export const MESSAGE_NAME = "message";
const MAX_EMBEDS = 4;
const CHANGES = new Set(["message.update", "message.delete", "message.append"]);

/**
 * Whether the message belongs on this page: others may publish other events in the room.
 * @param {WireMessage} message
 */
export function isForPage(message) {
  const action = message.action ?? "message.create";
  return CHANGES.has(action) || (action === "message.create" && message.name === MESSAGE_NAME);
}

/**
 * Whether the message changes one that was published before.
 * @param {WireMessage} message
 */
export function isChange(message) {
  return CHANGES.has(message.action ?? "");
}

/**
 * @param {WireMessage} message
 * @returns {Item}
 */
export function itemOf(message) {
  const serial = message.serial ?? "";
  const id = message.id ?? serial;
  const removed = message.action === "message.delete";
  return {
    key: id,
    id,
    serial,
    version: message.version?.serial ?? serial,
    clientId: message.clientId ?? "",
    text: removed ? "" : textOf(message.data),
    embeds: removed ? [] : embedsOf(message.extras),
    timestamp: message.timestamp ?? 0,
    edited: message.action === "message.update" || message.action === "message.append",
    removed,
    state: "published",
    reason: "",
    retry: false,
    adjusted: false,
  };
}

/**
 * What to show for a payload: text as it is, data as JSON, bytes by their size.
 * @param {unknown} data
 * @returns {string}
 */
export function textOf(data) {
  if (typeof data === "string") return data;
  if (data === null || data === undefined) return "";
  if (data instanceof ArrayBuffer || ArrayBuffer.isView(data)) return `[${data.byteLength} bytes]`;
  return JSON.stringify(data, null, 2) ?? "";
}

/**
 * The images that a message carries; anything that is no image at a web address is left out.
 * @param {any} extras
 * @returns {Embed[]}
 */
export function embedsOf(extras) {
  const embeds = Array.isArray(extras?.embeds) ? extras.embeds : [];
  return embeds.filter(isImage).slice(0, MAX_EMBEDS).map(embedOf);
}

/** @param {any} embed */
function isImage(embed) {
  if (embed?.type !== "image" || typeof embed.url !== "string") return false;
  return /^https?:$/.test(URL.canParse(embed.url) ? new URL(embed.url).protocol : "");
}

/**
 * @param {any} embed
 * @returns {Embed}
 */
function embedOf(embed) {
  const url = new URL(embed.url).href;
  const alt = typeof embed.alt === "string" ? embed.alt : typeof embed.title === "string" ? embed.title : "";
  const { width, height } = embed;
  const measured = Number.isFinite(width) && Number.isFinite(height) && width > 0 && height > 0;
  return measured ? { url, alt, width, height } : { url, alt };
}
