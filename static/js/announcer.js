// @ts-check
/** Tells people who listen to the page what was said, at a pace that one can listen to. */

import { nameOf } from "./names.js";

/** @typedef {import("./types.js").Item} Item */

const PAUSE_MILLISECONDS = 1_500;

export class Announcer {
  /** @type {Item[]} */
  #waiting = [];
  #timer = 0;

  /** @param {HTMLElement} region A polite live region. */
  constructor(region) {
    this.region = region;
  }

  /** @param {Item} item */
  say(item) {
    this.#waiting.push(item);
    if (!this.#timer) this.#speak();
  }

  #speak() {
    const [first, ...more] = this.#waiting;
    this.#waiting = [];
    if (!first) {
      this.#timer = 0;
      return;
    }
    this.region.textContent =
      more.length > 0 ? `${more.length + 1} new messages` : `${nameOf(first.clientId).name}: ${first.text}`;
    this.#timer = window.setTimeout(() => this.#speak(), PAUSE_MILLISECONDS);
  }
}
