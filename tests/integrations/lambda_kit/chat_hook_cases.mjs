// Runs the JavaScript helper for a test: one JSON case a line comes in, one result a line goes out.

import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const kit = await import(pathToFileURL(process.argv[2]));
const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));

const runs = {
  verify: ({ headers, body, secrets, now }) => kit.verify(headers, bytes(body), secrets, now),
  parse: ({ headers, body }) => kit.parse(headers, bytes(body)),
  callBack: ({ callback, verdict }) => kit.callBack(callback, verdict),
  handle: ({ event, options }) => kit.filterHandler((message) => kit.reject(message.id, { seen: kit.dataOf(message) }), options)(event),
  texts: ({ message }) => kit.textsOf(kit.dataOf(message)),
};

for await (const line of createInterface({ input: process.stdin })) {
  const { run, ...given } = JSON.parse(line);
  let result;
  try {
    result = { value: (await runs[run](given)) ?? null };
  } catch (error) {
    result = { error: error.name, status: error.status, message: error.message };
  }
  console.log(JSON.stringify(result));
}
