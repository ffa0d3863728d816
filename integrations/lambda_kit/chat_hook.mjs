// For AWS Lambda functions that a chat server calls: verify, parse, answer, call back. Copy it beside your handler.
//
//   import { accept, filterHandler, reject } from "./chat_hook.mjs";
//
//   export const handler = filterHandler((message, event) =>
//     String(message.data).includes("http") ? reject("No links, please.") : accept());
//
// Needs nothing but Node 20 or newer (Web Crypto and fetch). `filterHandler` is for rules before publish,
// `eventHandler` for rules after publish; both take single, batched and plain calls, by Function URL or Invoke API,
// and check the signature by WEBHOOK_SECRET: the rule's secret, or several, separated by spaces, while it is changed.
// Without WEBHOOK_SECRET they refuse every call, but for `manage.py lambda` and `sam local`.
//
// TypeScript takes its types from the comments here: `import type { Message } from "./chat_hook.mjs"` with `allowJs`.

/**
 * @typedef {"channel.message" | "channel.message.updated" | "channel.message.deleted" | "channel.message.accepted"
 *   | "channel.message.reviewed" | "channel.occupancy" | "channel.opened" | "channel.closed"} Kind
 *
 * @typedef {object} Message  A message in the public format. What has no value is missing.
 * @property {string} [id]
 * @property {string} [clientId]      the author; missing where nobody is named
 * @property {string} [connectionId]
 * @property {string} [name]
 * @property {any} [data]             text; JSON or base64 as text where `encoding` says so (see dataOf)
 * @property {string} [encoding]
 * @property {Record<string, any>} [extras]
 * @property {number} [timestamp]     milliseconds since the epoch
 * @property {string} [serial]        published messages: by which others name it
 * @property {number} [action]        0 created, 1 edited, 2 deleted
 * @property {Version} [version]      which edit it is
 *
 * @typedef {object} Version
 * @property {string} [serial]
 * @property {number} [timestamp]
 * @property {string} [clientId]
 * @property {string} [description]
 * @property {Record<string, any>} [metadata]
 *
 * @typedef {object} Review  How a review ended (channel.message.reviewed).
 * @property {"published" | "rejected" | "held" | "retracted" | "restored"} outcome
 * @property {string} by              whose verdict it was
 * @property {number} at              milliseconds since the epoch
 * @property {string} [reason]
 * @property {number} [code]
 * @property {Record<string, any>} [detail]
 *
 * @typedef {object} Metrics  How many are in a room (channel.occupancy, channel.opened, channel.closed).
 * @property {number} connections
 * @property {number} publishers
 * @property {number} subscribers
 * @property {number} presenceConnections
 * @property {number} presenceMembers
 * @property {number} presenceSubscribers
 *
 * @typedef {object} Callback  Where the verdict on one message may be sent later.
 * @property {string} url
 * @property {string} token
 * @property {number} expires         milliseconds since the epoch
 *
 * @typedef {object} Event  It may come more than once, always with the same `id`.
 * @property {string} id
 * @property {Kind} kind
 * @property {string} room
 * @property {string} ruleId
 * @property {number} timestamp       milliseconds: when it happened; of a plain call, when that was made
 * @property {Message} [message]
 * @property {Review} [review]
 * @property {Metrics} [occupancy]
 * @property {string} [by]            who edited or deleted
 * @property {Callback} [callback]
 *
 * @typedef {{data?: any, name?: string, extras?: Record<string, any>}} Change  What is left out stays as it was.
 *
 * @typedef {object} Verdict
 * @property {"accept" | "modify" | "reject" | "hold"} action
 * @property {Change} [message]
 * @property {string} [reason]
 * @property {Record<string, any>} [rejectionDetail]
 *
 * @typedef {{statusCode: number, headers?: Record<string, string>, body?: string}} Response
 * @typedef {(event: any, context?: any) => Promise<Response>} Handler
 */

export const VERSION = 1; // of the payloads that this module knows
const MAX_AGE_SECONDS = 300;
const CALLBACK_MS = 2000;
const CALLBACK_PAUSES_MS = [200, 800]; // before the second and the third try

// --- What is answered -----------------------------------------------------------------------------------------

/** Publish the message as it is. @returns {Verdict} */
export const accept = () => ({ action: "accept" });

/** Publish it with other data, name or extras. @param {Change} change @returns {Verdict} */
export const modify = (change) => ({ action: "modify", message: change });

/**
 * Show it to nobody; its author is told `reason`, and the author's program `detail`.
 * @param {string} [reason] @param {Record<string, any>} [detail] @returns {Verdict}
 */
export const reject = (reason, detail) => ({
  action: "reject",
  ...(reason && { reason }),
  ...(detail && { rejectionDetail: detail }),
});

/** Let a human decide; `reason` is for the moderators. @param {string} [reason] @returns {Verdict} */
export const hold = (reason) => ({ action: "hold", ...(reason && { reason }) });

// --- Handlers -------------------------------------------------------------------------------------------------

/** The call is no webhook, or not to be believed. `status` is the answer's; the text quotes nothing of it. */
export class BadCall extends Error {
  /** @param {number} status @param {string} reason */
  constructor(status, reason) {
    super(reason);
    this.status = status;
  }
}

/**
 * The Lambda handler of a rule before publish: `judge` gives the verdict on each message.
 *
 * With `byCallback` verdicts are posted to the server instead of answered: for a function that is invoked
 * asynchronously. What `judge` throws fails the call, and the server calls again. `signed: false` believes everybody:
 * only where IAM lets nobody else call.
 * @param {(message: Message, event: Event) => Verdict | Promise<Verdict>} judge
 * @param {{byCallback?: boolean, signed?: boolean}} [options]
 * @returns {Handler}
 */
export function filterHandler(judge, { byCallback = false, signed = true } = {}) {
  return handlerOf(signed, async (events) => {
    const verdicts = await Promise.all(events.map((event) => (event.message ? judge(event.message, event) : accept())));
    if (!byCallback) return respond(events, verdicts);
    // A shadow's call has no callback: nobody waits for its verdict.
    const asked = events.flatMap(({ callback }, index) => (callback ? [{ callback, verdict: verdicts[index] }] : []));
    await Promise.all(asked.map(({ callback, verdict }) => callBack(callback, verdict)));
    return { statusCode: 202 };
  });
}

/**
 * The Lambda handler of a rule after publish: `tell` gets each event in turn. What it throws fails the call.
 * @param {(event: Event) => unknown} tell
 * @param {{signed?: boolean}} [options]
 * @returns {Handler}
 */
export function eventHandler(tell, { signed = true } = {}) {
  return handlerOf(signed, async (events) => {
    for (const event of events) await tell(event);
    return { statusCode: 204 };
  });
}

/**
 * The response of a function that gives these verdicts on these events.
 * @param {Event[]} events @param {Verdict[]} verdicts @returns {Response}
 */
export function respond(events, verdicts) {
  if (events.length === 1) return json(200, verdicts[0]);
  return json(200, { verdicts: events.map(({ id }, index) => ({ id, ...verdicts[index] })) });
}

/** @param {boolean} signed @param {(events: Event[]) => Promise<Response>} handle @returns {Handler} */
function handlerOf(signed, handle) {
  return async (event) => {
    let events;
    try {
      const { headers, body } = read(event);
      if (signed) await authenticate(headers, body);
      events = parse(headers, body);
    } catch (problem) {
      if (!(problem instanceof BadCall)) throw problem;
      return json(problem.status, { error: problem.message });
    }
    return handle(events);
  };
}

/** @param {number} statusCode @param {unknown} body @returns {Response} */
function json(statusCode, body) {
  return { statusCode, headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
}

// --- Verifying ------------------------------------------------------------------------------------------------

/** @type {Record<string, string | undefined>} */
const environment = /** @type {any} */ (globalThis).process?.env ?? {};

/**
 * Check a call by the secrets in WEBHOOK_SECRET. Throws BadCall: 401, or 500 where there is no secret.
 * @param {Record<string, string>} headers @param {Uint8Array<ArrayBuffer>} body
 */
export async function authenticate(headers, body) {
  const secrets = (environment.WEBHOOK_SECRET ?? "").split(/\s+/).filter(Boolean);
  if (secrets.length) {
    await verify(headers, body, secrets, Date.now() / 1000);
  } else if (!environment.CHAT_LAMBDA_LOCAL && !environment.AWS_SAM_LOCAL) {
    throw new BadCall(500, "set WEBHOOK_SECRET to the rule's secret: without it anybody would be believed");
  }
}

/**
 * Accept a call with a fresh signature by one of the secrets (Standard Webhooks, v1). Throws BadCall.
 * @param {Record<string, string>} headers  names in lower case
 * @param {Uint8Array<ArrayBuffer>} body
 * @param {string[]} secrets
 * @param {number} now  Unix seconds
 */
export async function verify(headers, body, secrets, now) {
  const id = headers["webhook-id"] ?? "";
  const sent = headers["webhook-timestamp"] ?? "";
  if (!id || id.includes(".") || !/^[0-9]{1,12}$/.test(sent)) {
    throw new BadCall(401, "the headers webhook-id and webhook-timestamp are missing or malformed");
  }
  if (Math.abs(now - Number(sent)) > MAX_AGE_SECONDS) {
    throw new BadCall(401, `the call is more than ${MAX_AGE_SECONDS} seconds old, or from the future`);
  }
  const head = new TextEncoder().encode(`${id}.${sent}.`);
  const content = new Uint8Array(head.length + body.length);
  content.set(head);
  content.set(body, head.length);
  const given = (headers["webhook-signature"] ?? "").split(/\s+/).filter((part) => part.startsWith("v1,"));
  const signatures = given.map((part) => bytesOf(part.slice(3))).filter((bytes) => bytes !== null);
  const checks = secrets.flatMap((secret) =>
    signatures.map(async (signature) => crypto.subtle.verify("HMAC", await keyOf(secret), signature, content)),
  );
  if (!(await Promise.all(checks)).includes(true)) {
    throw new BadCall(401, "no signature of the call is by this secret");
  }
}

/** @type {Map<string, Promise<CryptoKey>>} */
const keys = new Map();

/** @param {string} secret @returns {Promise<CryptoKey>} */
async function keyOf(secret) {
  const bytes = bytesOf(secret.replace(/^whsec_/, ""));
  if (!bytes?.length) throw new BadCall(500, "WEBHOOK_SECRET is not as the server printed it: whsec_ and base64");
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = keys.get(secret) ?? crypto.subtle.importKey("raw", bytes, algorithm, false, ["verify"]);
  if (keys.size < 16) keys.set(secret, key);
  return key;
}

/** The bytes of a base64 text; null where it is none. @param {string} text */
function bytesOf(text) {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return null;
  }
}

// --- Parsing --------------------------------------------------------------------------------------------------

/**
 * Headers (names in lower case) and body of a Lambda event, payload format 2.0. Throws BadCall.
 * @param {any} event
 */
export function read(event) {
  const { headers, body = "", isBase64Encoded = false } = event ?? {};
  if (headers === null || typeof headers !== "object" || typeof body !== "string") {
    throw new BadCall(400, "this is no webhook call: an event of a Function URL has headers and a body");
  }
  const bytes = isBase64Encoded ? bytesOf(body) : new TextEncoder().encode(body);
  if (bytes === null) throw new BadCall(400, "the body is no text and no base64");
  /** @type {Record<string, string>} */
  const named = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), String(value)]));
  return { headers: named, body: bytes };
}

/**
 * The events of a call: single, batched or plain. Throws BadCall.
 * @param {Record<string, string>} headers @param {Uint8Array} body @returns {Event[]}
 */
export function parse(headers, body) {
  try {
    if ("x-ably-envelope-channel" in headers) return plain(headers, body);
    const call = JSON.parse(textOf(body));
    if (!("items" in call)) {
      return eventsOf(headers["webhook-id"] ?? "", call.event ?? need(call.source), need(call.channel), call, call);
    }
    return call.items.flatMap((/** @type {any} */ item) =>
      eventsOf(need(item.id), need(item.name), need(item.data.channelId), item, item.data),
    );
  } catch {
    throw new BadCall(400, "the body is no webhook of the documented shape");
  }
}

/**
 * One event, or one for each message where a server puts several into one.
 * @param {string} id @param {any} kind @param {string} room @param {any} call @param {any} fields @returns {Event[]}
 */
function eventsOf(id, kind, room, call, fields) {
  /** @type {any[]} */
  const messages = fields.messages?.length === 0 ? [undefined] : (fields.messages ?? [undefined]);
  if (!Array.isArray(messages) || messages.some((message) => message === null || typeof (message ?? {}) !== "object")) {
    throw new TypeError();
  }
  return messages.map((message) => ({
    id: messages.length === 1 ? id : need(message.id),
    kind,
    room,
    ruleId: String(call.ruleId ?? call.webhookId ?? ""),
    timestamp: call.timestamp ?? 0,
    message,
    review: fields.review,
    occupancy: fields.status?.occupancy.metrics,
    by: fields.by,
    callback: call.callback,
  }));
}

/** @template T @param {T} value @returns {NonNullable<T>} */
function need(value) {
  if (value === undefined || value === null) throw new TypeError();
  return value;
}

/**
 * The event of a call whose body is the data alone, and whose headers say the rest.
 * @param {Record<string, string>} headers @param {Uint8Array} body @returns {Event[]}
 */
function plain(headers, body) {
  const said = (/** @type {string} */ name) => (name in headers ? decodeURIComponent(headers[name]) : undefined);
  const url = said("x-callback-url");
  const message = "x-ably-message-id" in headers ? plainMessage(said, headers["content-type"] ?? "", body) : undefined;
  const call = {
    ruleId: said("x-ably-envelope-rule-id"),
    timestamp: Number(headers["webhook-timestamp"] ?? 0) * 1000,
    callback: url && { url, token: need(said("x-callback-token")), expires: Number(said("x-callback-expires")) },
  };
  const fields = message ? { messages: [message] } : JSON.parse(textOf(body));
  const room = need(said("x-ably-envelope-channel"));
  return eventsOf(headers["webhook-id"] ?? "", need(said("x-ably-envelope-event")), room, call, fields);
}

/**
 * @param {(name: string) => string | undefined} said @param {string} contentType @param {Uint8Array} body
 * @returns {Message}
 */
function plainMessage(said, contentType, body) {
  const isBinary = contentType === "application/octet-stream";
  const rest = said("x-ably-message-encoding");
  const encoding = isBinary ? (rest ? `${rest}/base64` : "base64") : contentType === "application/json" ? "json" : rest;
  const action = said("x-ably-message-action");
  const message = {
    id: said("x-ably-message-id"),
    clientId: said("x-ably-message-client-id"),
    connectionId: said("x-ably-message-connection-id"),
    name: said("x-ably-message-name"),
    serial: said("x-ably-message-serial"),
    action: action === undefined ? undefined : Number(action),
    timestamp: Number(said("x-ably-message-timestamp") ?? 0),
    data: isBinary ? btoa(Array.from(body, (byte) => String.fromCharCode(byte)).join("")) : textOf(body),
    encoding,
  };
  return Object.fromEntries(Object.entries(message).filter(([, value]) => value !== undefined));
}

/** @param {Uint8Array} bytes */
function textOf(bytes) {
  return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
}

/**
 * What a message's data means: a text, bytes, or what its JSON says; null for what is encrypted.
 * @param {Message} message @returns {any}
 */
export function dataOf({ data, encoding = "" }) {
  if (encoding === "json") return typeof data === "string" ? JSON.parse(data) : data;
  if (encoding === "base64") return bytesOf(data ?? "");
  return encoding === "" || encoding === "utf-8" ? data : null;
}

/**
 * Every text in a message's data, in order: of `dataOf(message)`, or of a part of it.
 * @param {any} value @returns {string[]}
 */
export function textsOf(value) {
  if (typeof value === "string") return [value];
  if (value === null || typeof value !== "object" || value instanceof Uint8Array) return [];
  return Object.values(value).flatMap(textsOf);
}

// --- Calling back ---------------------------------------------------------------------------------------------

/**
 * Send the verdict on one message later than by the response. False: it has been decided otherwise, or is late.
 *
 * Tried three times, for `timeoutMs` each: the same verdict twice is no harm. Throws where the server does not take
 * it. Only after the call was verified: the address is the caller's.
 * @param {Callback} callback @param {Verdict} verdict @param {{timeoutMs?: number}} [options]
 * @returns {Promise<boolean>}
 */
export async function callBack(callback, verdict, { timeoutMs = CALLBACK_MS } = {}) {
  if (!/^https?:\/\//.test(callback.url)) throw new Error("the callback's URL is not http");
  const request = {
    method: "POST",
    headers: { authorization: `Bearer ${callback.token}`, "content-type": "application/json" },
    body: JSON.stringify(verdict),
    // The token is for the server that sent it, not for where that server points.
    redirect: /** @type {const} */ ("manual"),
  };
  let problem = "";
  for (const pause of [...CALLBACK_PAUSES_MS, null]) {
    try {
      const response = await fetch(callback.url, { ...request, signal: AbortSignal.timeout(timeoutMs) });
      await response.arrayBuffer(); // or the connection would wait for it
      const { status, ok } = response;
      if (ok) return true;
      if (status === 409 || status === 410) return false;
      problem = `the server answered ${status}`;
      if (status < 500 && ![408, 425, 429].includes(status)) break;
    } catch (error) {
      problem = `the server does not answer (${error instanceof Error ? error.name : "error"})`;
    }
    if (pause !== null) await new Promise((resolve) => setTimeout(resolve, pause));
  }
  throw new Error(`callback: ${problem}`);
}
