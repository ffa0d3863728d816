// @ts-check
/** Where one writes. Enter sends, Shift+Enter starts a line; what is not sent yet outlives a reload. */

import { MESSAGE_NAME } from "./wire.js";

/** @typedef {{form: HTMLFormElement, input: HTMLTextAreaElement, counter: HTMLElement, button: HTMLButtonElement}} Parts */

// From this share of the limit on the counter shows.
const COUNTER_SHARE = 0.9;
const encoder = new TextEncoder();

export class Composer {
  /**
   * @param {Parts} parts
   * @param {{room: string, clientId: string, onSend: (text: string) => void, onEscape: () => void}} options
   */
  constructor(parts, { room, clientId, onSend, onEscape }) {
    this.parts = parts;
    this.onSend = onSend;
    this.draftKey = `draft:${clientId}:${room}`;
    // Name and author count towards the limit on the server.
    this.overhead = encoder.encode(MESSAGE_NAME + clientId).length;
    this.maxBytes = 65_536;
    parts.form.addEventListener("submit", (event) => this.#onSubmit(event));
    parts.input.addEventListener("input", () => this.#changed());
    parts.input.addEventListener("keydown", (event) => this.#onKey(event, onEscape));
    parts.input.value = sessionStorage.getItem(this.draftKey) ?? "";
    this.#changed();
  }

  focus() {
    this.parts.input.focus();
  }

  /** Take back a text that was not sent, above what has been written since. @param {string} text */
  restore(text) {
    const { input } = this.parts;
    input.value = input.value.trim() ? `${text}\n${input.value}` : text;
    this.#changed();
    this.focus();
    input.setSelectionRange(input.value.length, input.value.length);
  }

  /** @param {Event} event */
  #onSubmit(event) {
    event.preventDefault();
    const text = this.parts.input.value.trim();
    if (!isVisible(text) || this.#room(text) < 0) return;
    this.parts.input.value = "";
    this.#changed();
    this.focus();
    this.onSend(text);
  }

  /** @param {KeyboardEvent} event @param {() => void} onEscape */
  #onKey(event, onEscape) {
    // While an input method composes a word, Enter chooses it.
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      this.parts.form.requestSubmit();
    }
    if (event.key === "Escape") onEscape();
  }

  #changed() {
    const { input, counter, button } = this.parts;
    const text = input.value.trim();
    const room = this.#room(text);
    counter.hidden = room > this.maxBytes * (1 - COUNTER_SHARE);
    counter.textContent = room < 0 ? `Too long by ${-room} bytes` : `${room} bytes left`;
    counter.classList.toggle("over", room < 0);
    button.disabled = !isVisible(text) || room < 0;
    fit(this.parts.form, input);
    if (text) sessionStorage.setItem(this.draftKey, input.value);
    else sessionStorage.removeItem(this.draftKey);
  }

  /** Bytes that are left, below 0 if it is too long. @param {string} text */
  #room(text) {
    return this.maxBytes - this.overhead - encoder.encode(text).length;
  }
}

/** Whether anything would be seen: not only blanks and characters without width. @param {string} text */
function isVisible(text) {
  return /[^\s\p{Cc}\p{Cf}\p{Mn}]/u.test(text);
}

/**
 * Make the input as high as its text; the style sheet sets the most. The form stands still while it is measured, else
 * the messages above would be scrolled.
 * @param {HTMLFormElement} form
 * @param {HTMLTextAreaElement} input
 */
function fit(form, input) {
  form.style.setProperty("height", `${form.offsetHeight}px`);
  input.style.setProperty("height", "auto");
  input.style.setProperty("height", `${input.scrollHeight}px`);
  form.style.removeProperty("height");
}
