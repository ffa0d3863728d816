// A filter to begin with: handler `filter.handler`. Change `judge`; chat_hook.mjs says what it may return.

import { accept, dataOf, filterHandler, modify, reject, textsOf } from "./chat_hook.mjs";

/**
 * The verdict on one message.
 * @param {import("./chat_hook.mjs").Message} message
 * @returns {import("./chat_hook.mjs").Verdict}
 */
function judge(message) {
  const data = dataOf(message);
  const text = textsOf(data).join(" ");
  if (text.includes("http://")) return reject("Only links with https, please.");
  if (typeof data === "string" && text.length > 20 && text === text.toUpperCase() && text !== text.toLowerCase()) {
    return modify({ data: data.toLowerCase() });
  }
  return accept();
}

export const handler = filterHandler(judge);
