// @ts-check
/** How many are in the room, in its header. What was heard before a connection was lost is shown as such. */

/** @typedef {import("./types.js").Link} Link */

const EXACT = new Intl.NumberFormat("en");
const SHORT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export class Here {
  /** @param {{box: HTMLElement, exact: HTMLElement, short: HTMLElement}} parts */
  constructor(parts) {
    this.parts = parts;
  }

  /** @param {number} people */
  show(people) {
    const { box, exact, short } = this.parts;
    exact.textContent = EXACT.format(people);
    short.textContent = SHORT.format(people);
    box.title = people === 1 ? "You are the only one here" : `${EXACT.format(people)} connected to this room`;
    box.hidden = false;
  }

  /** @param {Link} link */
  setLink(link) {
    this.parts.box.classList.toggle("is-old", link !== "live");
  }
}
