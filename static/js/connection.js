// @ts-check
/** The connection to the server and the room on it, by the official SDK, told as one state. */

/** @typedef {import("./types.js").LinkState} LinkState */
/** @typedef {import("./types.js").WireMessage} WireMessage */

// A server that restarts has everybody come back: spread over seconds, and again on each attempt by the SDK.
const RETRY_MILLISECONDS = 1_500;
const RETRY_SPREAD_MILLISECONDS = 2_000;
const SUSPENDED_RETRY_MILLISECONDS = 10_000;
// One count only: with all of them the server would tell of changes that nobody sees here.
const OCCUPANCY = "metrics.subscribers";
const AUTHENTICATION_FAILED = 80019;
const LOG_ERRORS = 1;

/**
 * @typedef {Object} Listener
 * @property {(state: LinkState) => void} onState
 * @property {(message: WireMessage) => void} onMessage
 * @property {(people: number) => void} onOccupancy How many are in the room; at most once a second.
 * @property {() => void} onGap The room is attached without what went before: history has to be read again.
 */

export class Connection {
  /** @param {{room: string, authUrl: string}} config */
  constructor(config) {
    /** @type {any} The SDK is a classic script; its types are not part of the page. */
    const Ably = Reflect.get(globalThis, "Ably");
    this.realtime = new Ably.Realtime(optionsFor(window.location, config.authUrl));
    this.channel = this.realtime.channels.get(config.room, { params: { occupancy: OCCUPANCY } });
    this.retryAt = 0;
  }

  /** Start. Messages are heard only after the listener is in place, so none is missed. @param {Listener} listener */
  open(listener) {
    const tell = () => listener.onState(this.state());
    this.realtime.connection.on((/** @type {any} */ change) => {
      this.retryAt = change.retryIn ? Date.now() + change.retryIn : 0;
      tell();
    });
    this.channel.on((/** @type {any} */ change) => {
      tell();
      if (change.current === "attached" && !change.resumed) listener.onGap();
    });
    const hear = (/** @type {any} */ message) => {
      if (message.action === "meta") tellOccupancy(message, listener);
      else listener.onMessage(message);
    };
    this.channel.subscribe(hear).catch(tell);
    this.realtime.connect();
  }

  /** Try at once, whatever the countdown says. */
  retry() {
    this.realtime.connect();
    if (["suspended", "failed", "detached"].includes(this.channel.state)) this.channel.attach().catch(() => {});
  }

  /** Bytes that one message may have, as the server says. @returns {number} */
  get maxMessageBytes() {
    return this.realtime.options.maxMessageSize;
  }

  /** @returns {LinkState} */
  state() {
    const { state, errorReason } = this.realtime.connection;
    const error = this.channel.state === "failed" ? this.channel.errorReason : errorReason;
    return {
      link: linkOf(state, this.channel.state, this.retryAt > 0 || errorReason !== null),
      retryAt: this.retryAt,
      reason: error?.message ?? "",
      signedOut: error?.code === AUTHENTICATION_FAILED && [401, 403].includes(error.cause?.statusCode),
    };
  }
}

/**
 * @param {string} connection
 * @param {string} channel
 * @param {boolean} wasLost
 * @returns {import("./types.js").Link}
 */
function linkOf(connection, channel, wasLost) {
  if (connection === "failed" || connection === "closed" || channel === "failed") return "failed";
  if (connection === "suspended") return "suspended";
  if (connection === "connected") return channel === "attached" ? "live" : "connecting";
  return connection === "disconnected" || wasLost ? "offline" : "connecting";
}

/**
 * @param {Location} location
 * @param {string} authUrl
 */
function optionsFor(location, authUrl) {
  const tls = location.protocol === "https:";
  const port = Number(location.port) || (tls ? 443 : 80);
  return {
    ...hostOf(location.hostname),
    authUrl: new URL(authUrl, location.href).href,
    tls,
    port,
    tlsPort: port,
    // Started by open(), when the listeners are in place.
    autoConnect: false,
    // Our server offers nothing else, and nobody else is asked whether the network is up.
    transports: ["web_socket"],
    disableConnectivityCheck: true,
    wsConnectivityCheckUrl: `${tls ? "wss" : "ws"}://${location.host}/`,
    disconnectedRetryTimeout: RETRY_MILLISECONDS + Math.random() * RETRY_SPREAD_MILLISECONDS,
    suspendedRetryTimeout: SUSPENDED_RETRY_MILLISECONDS,
    logLevel: LOG_ERRORS,
    // What waits for a connection waits in our outbox, where one sees it.
    queueMessages: false,
  };
}

/** What the server says of the room. People cannot send it: what they send is no "meta". @param {any} message @param {Listener} listener */
function tellOccupancy(message, listener) {
  const people = message.data?.metrics?.subscribers;
  if (message.name === "[meta]occupancy" && Number.isInteger(people)) listener.onOccupancy(people);
}

/** The SDK takes a name without a dot for one of its own clusters. @param {string} hostname */
function hostOf(hostname) {
  const isPlain = /\.|::/.test(hostname) || hostname === "localhost";
  return isPlain ? { endpoint: hostname } : { restHost: hostname, realtimeHost: hostname };
}
