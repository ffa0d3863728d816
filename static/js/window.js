// @ts-check
/** Which stretch of a long list is in the page: at most MAX_ROWS, growing at the end that one scrolls to. Pure. */

export const MAX_ROWS = 300;
const STEP_ROWS = 60;

export class Window {
  start = 0;
  end = 0;

  /** Show the newest rows; keeps as many as there are room for. @param {number} length */
  toEnd(length) {
    const rows = Math.max(STEP_ROWS, Math.min(this.end - this.start, MAX_ROWS));
    this.end = length;
    this.start = Math.max(0, length - rows);
  }

  /** Returns whether there was anything above. */
  up() {
    const had = this.start > 0;
    this.start = Math.max(0, this.start - STEP_ROWS);
    this.end = Math.min(this.end, this.start + MAX_ROWS);
    return had;
  }

  /** Returns whether there was anything below. @param {number} length */
  down(length) {
    const had = this.end < length;
    this.end = Math.min(length, this.end + STEP_ROWS);
    this.start = Math.max(this.start, this.end - MAX_ROWS);
    return had;
  }

  /**
   * The list changed around the rows in the page: stay with them.
   * @param {number} start Where the first row is now, -1 if it is gone.
   * @param {number} length
   */
  follow(start, length) {
    const rows = this.end - this.start;
    this.start = Math.max(0, start);
    this.end = Math.min(length, this.start + Math.max(rows, STEP_ROWS));
  }
}
