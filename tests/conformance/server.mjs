// What the SDK's tests share: where the server is, waiting with a deadline, and a wire that can be cut.
import net from "node:net";
import { randomUUID } from "node:crypto";
import Ably from "ably";

export const { key, port, otherPort = port, format, patience } = JSON.parse(process.env.CHAT);
export const name = (base) => `${base}:${format}:${randomUUID()}`;
export const options = {
  key,
  port,
  endpoint: "127.0.0.1",
  tls: false,
  logLevel: 0,
  useBinaryProtocol: format === "msgpack",
  disconnectedRetryTimeout: 100,
};

const opened = [];

export function realtime(changes = {}) {
  const client = new Ably.Realtime({ ...options, ...changes });
  opened.push(client);
  return client;
}

export const rest = (changes = {}) => new Ably.Rest({ ...options, ...changes });

export function closeAll() {
  for (const one of opened.splice(0)) one.close();
}

// Return the first true value of condition(), asked again and again; throw after the deadline.
export async function until(condition, what) {
  const deadline = Date.now() + patience * 1000;
  for (;;) {
    const value = condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`not within ${patience} s: ${what}`);
    await new Promise((done) => setTimeout(done, 10));
  }
}

// Subscribe, and return the list into which messages go.
export async function listen(client, room, channelOptions) {
  const messages = [];
  await client.channels.get(room, channelOptions).subscribe((message) => messages.push(message));
  return messages;
}

export async function codeOf(promise) {
  try {
    await promise;
  } catch (error) {
    return error.code;
  }
  return null;
}

// All pages of a history, as one list.
export async function wholeHistory(channel, parameters) {
  let page = await channel.history(parameters);
  const items = [...page.items];
  while (page.hasNext()) {
    page = await page.next();
    items.push(...page.items);
  }
  return items;
}

// A wire to the server that can be cut and mended.
export class Wire {
  #sockets = new Set();
  #server;
  isWhole = true;

  static async open() {
    const wire = new Wire();
    wire.#server = net.createServer((near) => wire.#join(near));
    await new Promise((done) => wire.#server.listen(0, "127.0.0.1", done));
    wire.port = wire.#server.address().port;
    return wire;
  }

  cut() {
    this.isWhole = false;
    this.drop();
  }

  // Kill what is connected; who comes back gets through.
  drop() {
    for (const socket of this.#sockets) socket.destroy();
  }

  mend() {
    this.isWhole = true;
  }

  close() {
    this.cut();
    this.#server.close();
  }

  #join(near) {
    if (!this.isWhole) return near.destroy();
    const far = net.connect(port, "127.0.0.1");
    for (const [one, other] of [[near, far], [far, near]]) {
      this.#sockets.add(one);
      one.on("error", () => {});
      one.on("close", () => { this.#sockets.delete(one); other.destroy(); });
      one.pipe(other);
    }
  }
}
