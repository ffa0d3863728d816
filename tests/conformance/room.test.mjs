import test, { afterEach } from "node:test";
import assert from "node:assert/strict";
import { closeAll, codeOf, listen, name, realtime, rest, until } from "./server.mjs";

afterEach(closeAll);

test("data arrives as it was sent: text, JSON, bytes, nothing, in a list and alone", async () => {
  const room = name("data");
  const messages = await listen(realtime(), room);
  const sent = ["text 🥬", { a: [1, null, "ü"] }, [1, 2], Buffer.from([0, 255, 128]), null, ""];
  const author = realtime({ clientId: "ada" }).channels.get(room);
  await author.publish(sent.map((data) => ({ name: "list", data, extras: { headers: { a: "b" } } })));
  for (const data of sent) await author.publish("alone", data);
  await until(() => messages.length === 12, "all of them");

  for (const [place, message] of messages.entries()) {
    const wanted = sent[place % 6];
    if (Buffer.isBuffer(wanted)) assert.ok(wanted.equals(Buffer.from(message.data)));
    else assert.deepEqual(message.data ?? null, wanted);
    assert.equal(message.name, place < 6 ? "list" : "alone");
    assert.equal(message.clientId, "ada");
    assert.ok(Math.abs(message.timestamp - Date.now()) < 60_000);
  }
  assert.deepEqual(messages[0].extras.headers, { a: "b" });
  const { items } = await rest().channels.get(room).history({ limit: 12, direction: "forwards" });
  assert.deepEqual(items.map((item) => item.data), messages.map((item) => item.data));
});

test("echo=false leaves out one's own messages and nobody else's", async () => {
  const room = name("echo");
  const [quiet, loud] = [realtime({ echoMessages: false }), realtime()];
  const [own, all] = [await listen(quiet, room), await listen(loud, room)];
  for (const client of [quiet, loud, quiet, loud]) await client.channels.get(room).publish("m", client === quiet ? "q" : "l");
  await until(() => own.length === 2 && all.length === 4, "two and four");
  assert.deepEqual(own.map((message) => message.data), ["l", "l"]);
  assert.deepEqual(all.map((message) => message.data), ["q", "l", "q", "l"]);
});

test("rewind begins with the last messages and goes on with the next", async () => {
  const room = name("rewind");
  const author = realtime().channels.get(room);
  for (const data of ["1", "2", "3", "4"]) await author.publish("m", data);
  const messages = await listen(realtime(), room, { params: { rewind: "2" } });
  const recent = await listen(realtime(), room, { params: { rewind: "1m" } });
  await author.publish("m", "5");
  await until(() => messages.length === 3 && recent.length === 5, "the rewound and the next");
  assert.deepEqual(messages.map((message) => message.data), ["3", "4", "5"]);
  assert.deepEqual(recent.map((message) => message.data), ["1", "2", "3", "4", "5"]);
});

test("nothing arrives between detach and attach, everything after", async () => {
  const room = name("detach");
  const [member, author] = [realtime(), realtime().channels.get(room)];
  const messages = await listen(member, room);
  const channel = member.channels.get(room);
  await author.publish("m", "1");
  await until(() => messages.length === 1, "the first");
  await channel.detach();
  await author.publish("m", "2");
  await channel.attach();
  await author.publish("m", "3");
  await until(() => messages.length === 2, "the third");
  assert.deepEqual(messages.map((message) => message.data), ["1", "3"]);
});

test("history up to the attach joins what arrives from then on", async () => {
  const room = name("until");
  const author = realtime().channels.get(room);
  for (const data of ["1", "2"]) await author.publish("m", data);
  const member = realtime();
  const messages = await listen(member, room);
  await author.publish("m", "3");
  await until(() => messages.length === 1, "the third");
  const { items } = await member.channels.get(room).history({ untilAttach: true });
  assert.deepEqual(items.map((message) => message.data), ["2", "1"]);
});

test("one message id is one message, over REST and WebSocket alike", async () => {
  const room = name("once");
  const messages = await listen(realtime(), room);
  const author = rest().channels.get(room);
  await author.publish({ id: "mine", data: "x" });
  await author.publish({ id: "mine", data: "x" });
  await realtime().channels.get(room).publish({ id: "mine", data: "x" });
  await author.publish("m", "end");
  await until(() => messages.some((message) => message.data === "end"), "the end");
  assert.deepEqual(messages.map((message) => message.data), ["x", "end"]);
});

test("attach modes hold: a subscriber may not publish where it attached to listen", async () => {
  const room = name("modes");
  const member = realtime();
  const channel = member.channels.get(room, { modes: ["SUBSCRIBE"] });
  await channel.attach();
  assert.equal(await codeOf(channel.publish("m", "x")), 40165);
  await realtime().channels.get(room).publish("m", "x");
});

test("publishes without waiting come back in order, refused ones among them", async () => {
  const room = name("mixed");
  const author = realtime({ clientId: "ada" }).channels.get(room);
  const messages = await listen(realtime(), room);
  const tries = ["1", "x".repeat(70_000), "2", "\u200b".repeat(64), "3"].map((data) => author.publish("m", data));
  const codes = await Promise.all(tries.map(codeOf));
  assert.deepEqual(codes, [null, 40009, null, 42212, null]);
  await until(() => messages.length === 3, "the three");
  assert.deepEqual(messages.map((message) => message.data), ["1", "2", "3"]);
});
