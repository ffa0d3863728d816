// @ts-check
/** How the connection is doing: a word in the header always, a banner when there is something to know or do. */

/** @typedef {import("./types.js").LinkState} LinkState */
/** @typedef {import("./types.js").Link} Link */

/**
 * @typedef {Object} Parts
 * @property {HTMLElement} pill
 * @property {HTMLElement} pillText
 * @property {HTMLElement} banner
 * @property {HTMLElement} text
 * @property {HTMLElement} detail
 * @property {HTMLButtonElement} retry
 * @property {HTMLElement} signIn
 */

// A connection that is back sooner is nobody's business.
const PATIENCE_MILLISECONDS = 1_200;

/** @type {Record<Link, string>} */
const WORDS = {
  connecting: "Connecting",
  live: "Live",
  offline: "Reconnecting",
  suspended: "Offline",
  failed: "Not connected",
};

export class Banner {
  /** @type {LinkState} */
  #state = { link: "connecting", retryAt: 0, reason: "", signedOut: false };
  #timer = 0;
  #lostAt = 0;

  /** @param {Parts} parts @param {() => void} onRetry */
  constructor(parts, onRetry) {
    this.parts = parts;
    parts.retry.addEventListener("click", onRetry);
  }

  /** @param {LinkState} state */
  show(state) {
    this.#state = state;
    const isLost = state.link !== "live" && (state.link !== "connecting" || this.#lostAt > 0);
    this.#lostAt = isLost ? this.#lostAt || Date.now() : 0;
    this.parts.pill.dataset.link = state.link;
    this.parts.pillText.textContent = WORDS[state.link];
    this.#tick();
  }

  #tick() {
    window.clearTimeout(this.#timer);
    const isDue = this.#lostAt > 0 && Date.now() - this.#lostAt >= PATIENCE_MILLISECONDS;
    const isShown = isDue || ["suspended", "failed"].includes(this.#state.link);
    this.parts.banner.hidden = !isShown;
    if (isShown) this.#describe();
    if (this.#lostAt > 0 && this.#state.link !== "failed") {
      this.#timer = window.setTimeout(() => this.#tick(), isShown ? 500 : PATIENCE_MILLISECONDS);
    }
  }

  #describe() {
    const { link, retryAt, reason, signedOut } = this.#state;
    const { banner, text, detail, retry, signIn } = this.parts;
    const seconds = Math.ceil((retryAt - Date.now()) / 1000);
    banner.dataset.link = link;
    setText(text, signedOut ? "Your session has ended" : titleOf(link, seconds));
    setText(detail, signedOut ? "Sign in again to go on." : detailOf(link, reason));
    signIn.hidden = !signedOut;
    retry.hidden = signedOut || (link !== "failed" && seconds <= 0);
  }
}

/** @param {Link} link @param {number} seconds */
function titleOf(link, seconds) {
  if (link === "failed") return "This room cannot be reached";
  return seconds > 0 ? `No connection. Next try in ${seconds} s` : "Reconnecting…";
}

/** @param {Link} link @param {string} reason */
function detailOf(link, reason) {
  return link === "failed" ? reason : "You can go on writing: messages wait here and are sent when it is back.";
}

/** Only what changed: a live region reads each change aloud. @param {HTMLElement} target @param {string} text */
function setText(target, text) {
  if (target.textContent !== text) target.textContent = text;
}
