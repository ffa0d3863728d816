import test, { afterEach } from "node:test";
import assert from "node:assert/strict";
import { closeAll, codeOf, listen, name, realtime, rest, until, Wire } from "./server.mjs";

afterEach(closeAll);

const metrics = { params: { occupancy: "metrics" } };
const told = (messages) => messages.filter((message) => message.name === "[meta]occupancy");
const last = (messages) => told(messages).at(-1)?.data.metrics;

test("who asks is told soon and on each change, of one category only if its own changes", async () => {
  const room = name("occupancy");
  const asker = realtime();
  const messages = await listen(asker, room, metrics);
  assert.equal(asker.channels.get(room).params.occupancy, "metrics");
  await until(() => last(messages)?.connections === 1, "one");
  const [first] = told(messages);
  assert.equal(first.action, "meta");
  assert.equal(first.clientId, undefined);
  assert.deepEqual(first.data.metrics, {
    connections: 1, publishers: 1, subscribers: 1,
    presenceConnections: 1, presenceMembers: 0, presenceSubscribers: 1,
  });
  const publishers = await listen(realtime(), room, { params: { occupancy: "metrics.publishers" }, modes: ["SUBSCRIBE"] });
  await until(() => told(publishers).length === 1, "told of one category");
  const quiet = realtime();
  await quiet.channels.get(room, { modes: ["PUBLISH"] }).attach();
  const reader = realtime();
  const heard = await listen(reader, room, { modes: ["SUBSCRIBE"] });
  await until(() => last(messages)?.connections === 4, "four");
  assert.equal(last(messages).publishers, 2);
  assert.equal(last(messages).subscribers, 3);
  quiet.close();
  await reader.channels.get(room).detach();
  await until(() => last(messages)?.connections === 2, "two again");
  await until(() => told(publishers).length === 3, "the other one is told too");
  assert.deepEqual(heard, []);
  const counts = told(publishers).map((message) => message.data);
  assert.deepEqual(counts, [1, 2, 1].map((publishers) => ({ metrics: { publishers } })));
});

test("being told moves nobody: what was missed arrives once, and history holds messages only", async () => {
  const room = name("position");
  const wire = await Wire.open();
  const member = realtime({ port: wire.port, disconnectedRetryTimeout: 100 });
  const messages = await listen(member, room, metrics);
  const author = realtime().channels.get(room);
  await author.publish("m", "1");
  await author.attach();
  await until(() => last(messages)?.connections === 2, "told after the first");
  wire.cut();
  await until(() => member.connection.state !== "connected", "the cut");
  await author.publish("m", "2");
  wire.mend();
  await author.publish("m", "3");
  const texts = () => messages.filter((message) => message.name === "m").map((message) => message.data);
  await until(() => texts().length === 3, "all three");
  await until(() => told(messages).length > 1, "told again");
  assert.deepEqual(texts(), ["1", "2", "3"]);
  const { items } = await rest().channels.get(room).history();
  assert.deepEqual(items.map((item) => item.data), ["3", "2", "1"]);
  wire.close();
});

test("a room's status over REST, and the list of active rooms", async () => {
  const prefix = name("status");
  const rooms = ["a", "b", "c"].map((end) => `${prefix}:${end}`);
  const server = rest();
  const nobody = await server.channels.get(rooms[0]).status();
  assert.equal(nobody.channelId, rooms[0]);
  assert.equal(nobody.status.isActive, false);
  assert.equal(nobody.status.occupancy.metrics.connections, 0);
  const member = realtime();
  for (const room of rooms) await member.channels.get(room).attach();
  const { status } = await server.channels.get(rooms[0]).status();
  assert.equal(status.isActive, true);
  assert.equal(status.occupancy.metrics.subscribers, 1);
  const list = (parameters) => server.request("get", "/channels", 3, { prefix, ...parameters });
  for (let tries = 0; (await list({})).items.length < 3; tries += 1) assert.ok(tries < 500, "not listed");
  const first = await list({ limit: 2, by: "id" });
  const second = await first.next();
  assert.deepEqual([...first.items, ...second.items], rooms);
  assert.equal(second.hasNext(), false);
  assert.equal((await list({ limit: 1 })).items[0].status.occupancy.metrics.connections, 1);
});

test("whoever may not see the channel's metadata is told so", async () => {
  const room = name("metadata");
  const token = await rest().auth.requestToken({ capability: { [room]: ["subscribe", "publish"] } });
  const member = realtime({ key: undefined, token });
  const channel = member.channels.get(room);
  await channel.attach();
  assert.equal(await codeOf(channel.setOptions(metrics)), 40160);
  const own = rest({ key: undefined, token });
  assert.equal(await codeOf(own.channels.get(room).status()), 40160);
  assert.equal((await own.request("get", "/channels", 3)).errorCode, 40160);
});
