import test, { afterEach } from "node:test";
import assert from "node:assert/strict";
import { Wire, closeAll, listen, name, realtime, until } from "./server.mjs";

afterEach(closeAll);

test("a member whose connection is cut gets exactly what it missed, then goes on", async () => {
  const [room, wire] = [name("resume"), await Wire.open()];
  const member = realtime({ port: wire.port });
  const messages = await listen(member, room);
  const author = realtime().channels.get(room);
  const changes = [];
  member.channels.get(room).on(["attached", "update"], (change) => changes.push(change));
  let number = 0;
  for (const missed of [1, 0, 150]) {
    await author.publish("m", `${number++}`);
    await until(() => messages.length === number, "the live one");
    const before = changes.length;
    wire.cut();
    await until(() => member.connection.state !== "connected", "the cut is noticed");
    for (let each = 0; each < missed; each++) await author.publish("m", `${number++}`);
    wire.mend();
    await until(() => changes.length > before, "it is attached again");
    await until(() => messages.length === number, "what it missed");
    assert.equal(changes.at(-1).resumed, true);
  }
  await author.publish("m", `${number++}`);
  await until(() => messages.length === number, "the next one");
  assert.deepEqual(messages.map((message) => message.data), Array.from({ length: number }, (_, each) => `${each}`));
  wire.close();
});

test("an author whose connection is cut again and again loses and doubles nothing", async () => {
  const [room, wire] = [name("author"), await Wire.open()];
  const messages = await listen(realtime(), room);
  const author = realtime({ port: wire.port, clientId: "ada" });
  await author.connection.whenState("connected");
  const publishing = [];
  for (let number = 0; number < 200; number++) {
    publishing.push(author.channels.get(room).publish("m", `${number}`));
    if (number % 50 === 20) {
      await until(() => messages.length > number - 15, "some of them");
      wire.drop();
    }
  }
  await Promise.all(publishing);
  await until(() => messages.length >= 200, "all");
  assert.deepEqual(messages.map((message) => message.data), Array.from({ length: 200 }, (_, number) => `${number}`));
  wire.close();
});

test("a connection is recovered by another client with its recovery key", async () => {
  const [room, wire] = [name("recover"), await Wire.open()];
  const first = realtime({ port: wire.port });
  const before = await listen(first, room);
  const author = realtime().channels.get(room);
  await author.publish("m", "1");
  await until(() => before.length === 1, "the first");
  const recover = first.connection.createRecoveryKey();
  wire.cut();
  await author.publish("m", "2");
  const second = realtime({ recover });
  const after = await listen(second, room);
  await author.publish("m", "3");
  await until(() => after.length === 2, "the missed and the next");
  assert.deepEqual(after.map((message) => message.data), ["2", "3"]);
  wire.close();
});
