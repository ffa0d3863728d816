// @ts-check
/** What stands where no messages are: grey shapes while they come, the beginning of the room, an error. */

import { byId } from "./element.js";

/** @typedef {import("./history.js").History} History */

export class Placeholders {
  constructor(/** @type {{onRetry: () => void}} */ { onRetry }) {
    this.skeleton = byId("skeleton", HTMLElement);
    this.beginning = byId("beginning", HTMLElement);
    this.empty = byId("empty", HTMLElement);
    this.older = byId("older", HTMLElement);
    this.error = byId("history-error", HTMLElement);
    byId("history-retry", HTMLButtonElement).addEventListener("click", onRetry);
  }

  /** @param {History} history @param {number} count Messages in the page. */
  show(history, count) {
    const isWaiting = !history.isComplete && !history.error;
    this.skeleton.hidden = !(isWaiting && count === 0);
    this.older.hidden = !(isWaiting && count > 0);
    this.beginning.hidden = !history.isComplete;
    this.empty.hidden = !(history.isComplete && count === 0);
    this.error.hidden = !history.error || history.isLoading;
  }
}
