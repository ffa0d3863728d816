// @ts-check
/** The element of one message. Its parts are made anew only when what they show has changed. */

import { avatarOf, hueClassOf } from "./avatar.js";
import { dayNameOf, fullTimeOf, timeOf } from "./dates.js";
import { element } from "./element.js";
import { embedElements } from "./embeds.js";
import { icon } from "./icon.js";
import { nameOf } from "./names.js";
import { textElements } from "./text.js";

/** @typedef {import("./types.js").Item} Item */
/** @typedef {{isOwn: boolean, isGrouped: boolean, startsDay: boolean, startsNew: boolean}} Place */
/** @typedef {"edit" | "retry" | "dismiss"} Action */

export class MessageElement {
  /** @type {Item | null} */
  #item = null;
  #place = "";

  constructor() {
    this.root = element("li", { class: "entry" });
    this.lines = element("div", { class: "lines" });
    this.article = element("article", { class: "message" });
    this.root.append(this.lines, this.article);
  }

  /**
   * @param {Item} item
   * @param {Place} place
   */
  update(item, place) {
    const placed = `${place.isGrouped} ${place.startsDay} ${place.startsNew}`;
    if (item === this.#item && placed === this.#place) return;
    if (placed !== this.#place) this.lines.replaceChildren(...linesOf(item, place));
    const isMoved = placed !== this.#place || item.timestamp !== this.#item?.timestamp;
    if (isMoved) this.#head(item, place);
    if (item !== this.#item) this.#body(item, place);
    this.root.dataset.key = item.key;
    this.article.className = classesOf(item, place);
    this.#item = item;
    this.#place = placed;
  }

  /** @param {Item} item @param {Place} place */
  #head(item, place) {
    this.article.querySelector(".gutter")?.remove();
    this.article.querySelector(".heading")?.remove();
    const gutter = element("div", { class: "gutter" });
    gutter.append(place.isGrouped ? timeElement(item) : avatarOf(item.clientId));
    this.article.prepend(gutter);
    if (!place.isGrouped) gutter.after(headingOf(item, place));
  }

  /** @param {Item} item @param {Place} place */
  #body(item, place) {
    this.article.querySelector(".body")?.remove();
    const content = item.removed ? [removedNote()] : [...textElements(item.text), ...embedElements(item.embeds)];
    const body = element("div", { class: "body", children: [...content, ...notesOf(item, place)] });
    if (item.edited) body.querySelector(".text")?.append(element("span", { class: "edited", text: " (edited)" }));
    this.article.append(body);
  }
}

/** @param {Item} item @param {Place} place */
function classesOf(item, place) {
  const classes = ["message", `is-${item.state}`];
  if (place.isOwn) classes.push("is-own");
  if (place.isGrouped) classes.push("is-grouped");
  if (item.removed) classes.push("is-removed");
  return classes.join(" ");
}

/** @param {Item} item @param {Place} place */
function linesOf(item, place) {
  const lines = [];
  if (place.startsDay) lines.push(line("day", dayNameOf(item.timestamp, Date.now())));
  if (place.startsNew) lines.push(line("new", "New"));
  return lines;
}

/** @param {string} kind @param {string} text */
function line(kind, text) {
  return element("div", { class: `line ${kind}`, attributes: { role: "separator" }, children: [element("span", { text })] });
}

/** @param {Item} item @param {Place} place */
function headingOf(item, place) {
  const { name, isGuest } = nameOf(item.clientId);
  const author = element("bdi", { class: `author ${hueClassOf(item.clientId)}`, text: name });
  author.title = item.clientId;
  const heading = element("div", { class: "heading", children: [author] });
  if (isGuest) heading.append(element("span", { class: "tag", text: "guest" }));
  if (place.isOwn) heading.append(element("span", { class: "tag own", text: "you" }));
  heading.append(timeElement(item));
  return heading;
}

/** @param {Item} item */
function timeElement({ timestamp }) {
  const time = element("time", { text: timeOf(timestamp) });
  time.dateTime = new Date(timestamp).toISOString();
  time.title = fullTimeOf(timestamp);
  return time;
}

function removedNote() {
  return element("div", { class: "removed", children: [icon("removed"), "This message was removed"] });
}

/** What its author is told about a message. @param {Item} item @param {Place} place */
function notesOf(item, place) {
  if (item.state === "queued") return [note("clock", "Waits for the connection, then goes out by itself")];
  if (item.state === "sending") return [note("clock", "Sending…")];
  if (item.state === "held") return [note("eye", "Waiting for a moderator. Only you can see this so far.")];
  if (item.state === "refused") return [refusalOf(item)];
  if (item.adjusted && place.isOwn) return [note("wand", "Changed by a rule of this room")];
  return [];
}

/** @param {Parameters<typeof icon>[0]} name @param {string} text */
function note(name, text) {
  return element("div", { class: "note", children: [icon(name), element("span", { text })] });
}

/** @param {Item} item */
function refusalOf({ reason, retry }) {
  const refusal = note("blocked", "");
  refusal.classList.add("refusal");
  const [text] = refusal.getElementsByTagName("span");
  text.append(element("strong", { text: "Not sent. " }), element("bdi", { class: "reason", text: reason }));
  const buttons = element("div", { class: "actions" });
  if (retry) buttons.append(actionButton("retry", "Try again"));
  buttons.append(actionButton("edit", "Edit"), actionButton("dismiss", "Dismiss"));
  refusal.append(buttons);
  return refusal;
}

/** @param {Action} action @param {string} text */
function actionButton(action, text) {
  return element("button", { text, attributes: { type: "button", "data-action": action } });
}
