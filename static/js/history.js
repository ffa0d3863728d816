// @ts-check
/** What was said before: the latest page when the room is attached, older pages as one scrolls up. */

/** @typedef {import("./log.js").Log} Log */

export const PAGE_MESSAGES = 50;
// Pages that hold nothing new for us (other events, or what we have) are skipped, this many in one go at most.
const MAX_EMPTY_PAGES = 5;

export class History {
  /** @type {any} */
  #page = null;
  #isTrimmed = false;
  #run = 0;

  /**
   * @param {any} channel The SDK's.
   * @param {Log} log
   */
  constructor(channel, log) {
    this.channel = channel;
    this.log = log;
    this.isLoading = false;
    this.isComplete = false;
    /** @type {string} */
    this.error = "";
  }

  /** Read the latest page in place of all that was loaded. Joins without a gap to what arrives live. */
  async reload() {
    await this.#read((run) =>
      this.log.renew(async () => {
        const page = await this.channel.history({ untilAttach: true, limit: PAGE_MESSAGES });
        if (run === this.#run) this.#keep(page);
        return page.items;
      }),
    );
  }

  /** Read further back. Does nothing while a page is on its way or when there is no more. */
  async older() {
    if (this.isLoading || this.isComplete) return;
    await this.#read((run) => this.#readOlder(run));
  }

  /** The oldest messages were forgotten: the next page starts from what is left. */
  noteTrimmed() {
    this.#isTrimmed = true;
    this.isComplete = false;
  }

  /** @param {(run: number) => Promise<void>} work */
  async #read(work) {
    // A discontinuity in the meantime starts a newer run; the older one then leaves everything alone.
    const run = (this.#run += 1);
    this.isLoading = true;
    this.error = "";
    try {
      await work(run);
    } catch (error) {
      if (run === this.#run) this.error = error instanceof Error ? error.message : String(error);
    } finally {
      if (run === this.#run) this.isLoading = false;
    }
  }

  /** @param {number} run */
  async #readOlder(run) {
    for (let pages = 0; pages < MAX_EMPTY_PAGES; pages += 1) {
      const page = await this.#next();
      if (run !== this.#run) return;
      this.#keep(page);
      if (this.log.load(page?.items ?? []) > 0 || this.isComplete) return;
    }
  }

  /** @param {any} page */
  #keep(page) {
    this.#page = page;
    this.isComplete = !page?.hasNext();
  }

  async #next() {
    if (!this.#isTrimmed && this.#page) return this.#page.next();
    this.#isTrimmed = false;
    const end = this.log.oldest?.timestamp;
    return this.channel.history(end ? { end, limit: PAGE_MESSAGES } : { limit: PAGE_MESSAGES });
  }
}
