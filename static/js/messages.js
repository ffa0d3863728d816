// @ts-check
/**
 * The list of messages in the page: a window over the log that stays at the newest message while one is there,
 * and stays where one reads otherwise, whatever comes in above or below.
 */

import { dayOf, GROUP_MILLISECONDS } from "./dates.js";
import { MessageElement } from "./message.js";
import { Window } from "./window.js";

/** @typedef {import("./types.js").Item} Item */
/** @typedef {import("./message.js").Action} Action */

// As near to the end as counts as being there, and as near to an edge as makes the next rows come.
const END_PIXELS = 40;
const EDGE_PIXELS = 900;

/**
 * @typedef {Object} Listener
 * @property {() => void} onOlder More is wanted above what is loaded.
 * @property {() => void} onMove One has arrived at the newest message, or left it.
 * @property {(action: Action, key: string) => void} onAction
 */

export class Messages {
  /** @type {Item[]} */
  #items = [];
  /** @type {Map<string, MessageElement>} */
  #elements = new Map();
  #window = new Window();
  #newFrom = "";
  #scrollTop = 0;
  #height = 0;
  isAtEnd = true;

  /**
   * @param {{scroller: HTMLElement, list: HTMLElement, clientId: string, listener: Listener}} parts
   */
  constructor({ scroller, list, clientId, listener }) {
    this.scroller = scroller;
    this.list = list;
    this.clientId = clientId;
    this.listener = listener;
    scroller.addEventListener("scroll", () => this.#onScroll(), { passive: true });
    list.addEventListener("click", (event) => this.#onClick(event));
    // The keyboard of a phone, a growing composer, an image that came: the end stays in sight.
    const observer = new ResizeObserver(() => this.isAtEnd && this.#stickToEnd());
    observer.observe(scroller);
    observer.observe(list);
  }

  /**
   * Show these items.
   * @param {Item[]} items
   * @param {string} newFrom Key of the item above which the line "New" stands.
   */
  render(items, newFrom) {
    const first = this.#items[this.#window.start]?.key;
    this.#items = items;
    this.#newFrom = newFrom;
    if (this.isAtEnd) this.#window.toEnd(items.length);
    else this.#window.follow(items.findIndex((item) => item.key === first), items.length);
    // In one drawing with the rows above: at the very top there is nothing to scroll by that would keep the place.
    if (!this.isAtEnd && this.scroller.scrollTop < EDGE_PIXELS) this.#window.up();
    this.#draw();
    this.#loadNearEdges();
  }

  /** Go to the newest message. */
  jumpToEnd() {
    this.#window.toEnd(this.#items.length);
    this.isAtEnd = true;
    this.#draw();
    this.listener.onMove();
  }

  /** Keep what one reads where it is while `change` works on the page around the list. @param {() => void} change */
  keepingPlace(change) {
    const anchor = this.isAtEnd ? null : this.#anchor();
    const before = anchor?.getBoundingClientRect().top ?? 0;
    change();
    if (this.isAtEnd) this.#stickToEnd();
    else if (anchor?.isConnected) this.scroller.scrollTop += anchor.getBoundingClientRect().top - before;
  }

  #draw() {
    this.keepingPlace(() => this.#reconcile());
  }

  #reconcile() {
    const { start, end } = this.#window;
    const shown = this.#items.slice(start, end);
    const keys = new Set(shown.map((item) => item.key));
    for (const [key, view] of this.#elements) if (!keys.has(key)) this.#remove(key, view);
    let next = this.list.firstElementChild;
    shown.forEach((item, index) => {
      const view = this.#viewOf(item);
      view.update(item, this.#placeOf(item, this.#items[start + index - 1]));
      if (view.root === next) next = next.nextElementSibling;
      else this.list.insertBefore(view.root, next);
    });
  }

  /** @param {Item} item */
  #viewOf(item) {
    const view = this.#elements.get(item.key) ?? new MessageElement();
    this.#elements.set(item.key, view);
    return view;
  }

  /** @param {string} key @param {MessageElement} view */
  #remove(key, view) {
    view.root.remove();
    this.#elements.delete(key);
  }

  /** @param {Item} item @param {Item | undefined} previous */
  #placeOf(item, previous) {
    const startsDay = !previous || dayOf(previous.timestamp) !== dayOf(item.timestamp);
    const startsNew = item.key === this.#newFrom;
    const isClose =
      previous?.clientId === item.clientId && item.timestamp - previous.timestamp < GROUP_MILLISECONDS;
    const isGrouped = isClose && !startsDay && !startsNew;
    return { isOwn: item.clientId === this.clientId, isGrouped, startsDay, startsNew };
  }

  /** The first message that one can see; not its row, which loses the line with the day when another comes above. */
  #anchor() {
    const top = this.scroller.getBoundingClientRect().top;
    for (const row of this.list.children) if (row.getBoundingClientRect().bottom > top) return row.lastElementChild;
    return null;
  }

  #stickToEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
  }

  #onScroll() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    const isLast = this.#window.end >= this.#items.length;
    const isNear = isLast && scrollHeight - scrollTop - clientHeight < END_PIXELS;
    // One leaves the end by scrolling up, not when something has grown below it or the composer above it.
    const isMoved = scrollTop < this.#scrollTop && clientHeight === this.#height;
    const isAtEnd = isNear || (this.isAtEnd && !isMoved);
    this.#scrollTop = scrollTop;
    this.#height = clientHeight;
    if (isAtEnd !== this.isAtEnd) {
      this.isAtEnd = isAtEnd;
      this.listener.onMove();
    }
    this.#loadNearEdges();
  }

  #loadNearEdges() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    if (scrollTop < EDGE_PIXELS) {
      if (this.#window.start > 0 && !this.isAtEnd) this.#shift(() => this.#window.up());
      else if (this.#window.start === 0) this.listener.onOlder();
    }
    const below = scrollHeight - scrollTop - clientHeight;
    if (below < EDGE_PIXELS && this.#window.end < this.#items.length) {
      this.#shift(() => this.#window.down(this.#items.length));
    }
  }

  /** @param {() => boolean} move */
  #shift(move) {
    if (move()) this.#draw();
  }

  /** @param {Event} event */
  #onClick(event) {
    const button = event.target instanceof Element ? event.target.closest("[data-action]") : null;
    const row = button?.closest(".entry");
    if (!(button instanceof HTMLElement) || !(row instanceof HTMLElement)) return;
    this.listener.onAction(/** @type {Action} */ (button.dataset.action), row.dataset.key ?? "");
  }
}
