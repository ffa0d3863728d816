// @ts-check
/**
 * The state of the page's room: what was published, in the room's order, and after it what the person here has
 * sent and nobody else has seen. Pure: no clock, no network, no page. Every message is put in by its serial, so
 * the order of arrival never matters and repeating changes nothing.
 */

import { isChange, isForPage, itemOf } from "./wire.js";

/** @typedef {import("./types.js").Item} Item */
/** @typedef {import("./types.js").WireMessage} WireMessage */

const MAX_EARLY = 200;

export class Log {
  /** @type {Item[]} by serial, rising */
  #published = [];
  /** @type {Item[]} in the order of sending */
  #pending = [];
  /** @type {Map<string, WireMessage>} changes that arrived before the page of history with their message */
  #early = new Map();
  /** @type {Set<string> | null} serials that arrived since a renewal began */
  #touched = null;

  /** All items in the order of the page. */
  list() {
    return [...this.#published, ...this.#pending];
  }

  /** The first published item, if any. @returns {Item | undefined} */
  get oldest() {
    return this.#published[0];
  }

  /** The last published item, if any. @returns {Item | undefined} */
  get newest() {
    return this.#published[this.#published.length - 1];
  }

  /**
   * Take in a message that was just published. Returns what it was for the page.
   * @param {WireMessage} message
   * @returns {"added" | "changed" | "ignored"}
   */
  apply(message) {
    if (!isForPage(message) || !message.serial) return "ignored";
    const isLoaded = this.oldest !== undefined && message.serial >= this.oldest.serial;
    if (isChange(message) && !isLoaded) {
      this.#keepEarly(message);
      return "ignored";
    }
    return this.#put(message);
  }

  /**
   * Take in a page of history, in any order. Returns how many messages were new.
   * @param {WireMessage[]} messages
   */
  load(messages) {
    let added = 0;
    for (const message of messages) {
      if (!isForPage(message) || !message.serial) continue;
      if (this.#put(message) === "added") added += 1;
      const early = this.#early.get(message.serial);
      if (early && this.#early.delete(message.serial)) this.#put(early);
    }
    return added;
  }

  /**
   * Show a message that the person here sends. Its echo is recognised by its id.
   * @param {{id: string, clientId: string, text: string, timestamp: number}} draft
   */
  send(draft) {
    const item = { ...itemOf({ ...draft, data: draft.text }), state: /** @type {const} */ ("queued") };
    this.#pending.push(item);
  }

  /** The items that wait for a connection, oldest first. */
  queued() {
    return this.#pending.filter((item) => item.state === "queued");
  }

  /** @param {string} id @returns {Item | undefined} */
  pending(id) {
    return this.#pending.find((item) => item.id === id);
  }

  /**
   * Note what became of something sent. Nothing happens if its echo was here first.
   * @param {string} id
   * @param {Partial<Pick<Item, "state" | "reason" | "retry">>} news
   */
  mark(id, news) {
    this.#pending = this.#pending.map((item) => (item.id === id ? { ...item, ...news } : item));
  }

  /** Take something unsent away; returns its text. @param {string} id */
  drop(id) {
    const item = this.pending(id);
    this.#pending = this.#pending.filter((other) => other !== item);
    return item?.text ?? "";
  }

  /**
   * Read anew after a discontinuity: what was there stays in sight until the latest page of history is here, and
   * then stays only if the page holds it. What arrives live in between is kept. Nothing stays above the page: there
   * the gap would be.
   * @param {() => Promise<WireMessage[]>} read
   */
  async renew(read) {
    const touched = (this.#touched = new Set());
    const page = await read();
    if (this.#touched !== touched) return;
    this.load(page);
    const first = page.reduce((least, { serial = "" }) => (serial < least ? serial : least), page[0]?.serial ?? "");
    this.#published = this.#published.filter(({ serial }) => touched.has(serial) && serial >= first);
    this.#touched = null;
  }

  /** Forget the oldest beyond `most`. Returns whether there were any. @param {number} most */
  trim(most) {
    const excess = this.#published.length - most;
    if (excess > 0) this.#published.splice(0, excess);
    return excess > 0;
  }

  /** @param {WireMessage} message */
  #keepEarly(message) {
    const serial = message.serial ?? "";
    const known = this.#early.get(serial);
    if (known && (known.version?.serial ?? "") >= (message.version?.serial ?? "")) return;
    this.#early.set(serial, message);
    // History brings the latest version anyhow: only changes made while a page is on its way matter.
    if (this.#early.size > MAX_EARLY) this.#early.delete(this.#early.keys().next().value ?? "");
  }

  /** @param {WireMessage} message @returns {"added" | "changed" | "ignored"} */
  #put(message) {
    const serial = message.serial ?? "";
    const index = this.#position(serial);
    this.#touched?.add(serial);
    return this.#published[index]?.serial === serial
      ? this.#change(index, message)
      : this.#add(index, itemOf(message));
  }

  /** Index of the first published item whose serial is not smaller. @param {string} serial */
  #position(serial) {
    let low = 0;
    let high = this.#published.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#published[middle].serial < serial) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** @param {number} index @param {Item} item @returns {"added" | "changed"} */
  #add(index, item) {
    const own = this.pending(item.id);
    if (own) {
      this.drop(own.id);
      item = { ...item, adjusted: own.text !== item.text && !item.removed };
    }
    this.#published.splice(index, 0, item);
    return own ? "changed" : "added";
  }

  /** @param {number} index @param {WireMessage} message @returns {"changed" | "ignored"} */
  #change(index, message) {
    const known = this.#published[index];
    const next = itemOf(message);
    if (next.version <= known.version) return "ignored";
    const text = message.action === "message.append" ? known.text + next.text : next.text;
    // The author and the time of the first version stay; an update may come from a moderator.
    const { key, id, clientId, timestamp } = known;
    this.#published[index] = { ...next, key, id, text, timestamp, clientId: clientId || next.clientId };
    return "changed";
  }
}
