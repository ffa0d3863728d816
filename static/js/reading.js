// @ts-check
/** How far the person here has read. Pure. */

/** @typedef {import("./types.js").Item} Item */

export class Reading {
  #seen = "";
  /** Key of the first message that came while one was away, "" if none: a line is drawn above it. */
  newFrom = "";
  unread = 0;

  /** @param {string} clientId */
  constructor(clientId) {
    this.clientId = clientId;
  }

  /**
   * Take in what the page holds.
   * @param {Item[]} items
   * @param {boolean} isWatching Whether the newest message is before somebody's eyes.
   */
  update(items, isWatching) {
    const fresh = this.#seen ? unreadOf(items, this.#seen, this.clientId) : [];
    this.unread = isWatching ? 0 : fresh.length;
    if (!isWatching && !this.newFrom && fresh.length > 0) this.newFrom = fresh[fresh.length - 1].key;
    const newest = items.findLast((item) => item.serial)?.serial ?? "";
    if (isWatching || !this.#seen) this.#seen = newest > this.#seen ? newest : this.#seen;
  }

  /** The line has been seen: the next absence draws a new one. */
  forgetLine() {
    this.newFrom = "";
  }
}

/**
 * Others' messages after a serial, newest first.
 * @param {Item[]} items
 * @param {string} seen
 * @param {string} clientId
 */
function unreadOf(items, seen, clientId) {
  const fresh = [];
  for (let index = items.length - 1; index >= 0; index -= 1) {
    const item = items[index];
    if (item.serial && item.serial <= seen) break;
    if (item.serial && item.clientId !== clientId) fresh.push(item);
  }
  return fresh;
}
