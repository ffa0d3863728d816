// @ts-check
/** Sending: shown at once, sent when there is a connection, then published, held or refused. */

import { MESSAGE_NAME } from "./wire.js";

/** @typedef {import("./log.js").Log} Log */

const TOO_MANY = 429;

export class Outbox {
  #isLive = false;

  /**
   * @param {{log: Log, channel: any, clientId: string, onChange: () => void}} parts
   */
  constructor({ log, channel, clientId, onChange }) {
    this.log = log;
    this.channel = channel;
    this.clientId = clientId;
    this.onChange = onChange;
  }

  /** @param {string} text */
  send(text) {
    this.log.send({ id: randomId(), clientId: this.clientId, text, timestamp: Date.now() });
    this.#flush();
  }

  /** Send once more, under the same id: if it did arrive, it stays one message. @param {string} id */
  retry(id) {
    this.log.mark(id, { state: "queued", reason: "", retry: false });
    this.#flush();
  }

  /** @param {boolean} isLive Whether the room is attached now. */
  setLive(isLive) {
    this.#isLive = isLive;
    if (isLive) this.#flush();
  }

  #flush() {
    // The SDK sends in the order of these calls, and the server keeps it.
    if (this.#isLive) for (const item of this.log.queued()) this.#publish(item.id, item.text);
    this.onChange();
  }

  /** @param {string} id @param {string} text */
  async #publish(id, text) {
    this.log.mark(id, { state: "sending" });
    try {
      const { serials } = await this.channel.publish({ id, name: MESSAGE_NAME, data: text });
      // Published: the echo brings it, perhaps changed. Without a serial it waits for a person's verdict.
      if (serials[0] === null) this.log.mark(id, { state: "held" });
    } catch (error) {
      this.#fail(id, error);
    }
    this.onChange();
  }

  /** @param {string} id @param {any} error */
  #fail(id, error) {
    // The connection broke before the verdict was here: what the server has, it will know by the id.
    if (!this.#isLive) {
      this.log.mark(id, { state: "queued" });
      return;
    }
    const status = error?.statusCode ?? 0;
    const retry = status < 400 || status >= 500 || status === TOO_MANY;
    this.log.mark(id, { state: "refused", reason: error?.message ?? String(error), retry });
  }
}

/** 128 random bits. (`crypto.randomUUID` is missing where a page comes by plain http from another machine.) */
function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
