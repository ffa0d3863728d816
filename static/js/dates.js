// @ts-check
/** How days and times read, in the reader's own language and time zone. */

const MINUTE = 60_000;
const time = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const near = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });
const far = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "long", year: "numeric" });
const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

/** One author's messages closer than this stand under one heading. */
export const GROUP_MILLISECONDS = 5 * MINUTE;

/** @param {number} timestamp */
export function timeOf(timestamp) {
  return time.format(timestamp);
}

/** @param {number} timestamp */
export function fullTimeOf(timestamp) {
  return full.format(timestamp);
}

/** The local day as a number that only serves to compare. @param {number} timestamp */
export function dayOf(timestamp) {
  const date = new Date(timestamp);
  return Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) / 86_400_000;
}

/**
 * "Today", "Yesterday", "Monday, 2 March", "2 March 2024".
 * @param {number} timestamp
 * @param {number} now
 */
export function dayNameOf(timestamp, now) {
  const days = dayOf(timestamp) - dayOf(now);
  const name =
    days === 0 || days === -1
      ? relative.format(days, "day")
      : (days > -180 && days < 0 ? near : far).format(timestamp);
  return name.charAt(0).toLocaleUpperCase() + name.slice(1);
}
