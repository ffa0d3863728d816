import test, { after } from "node:test";
import assert from "node:assert/strict";
import { closeAll, listen, name, otherPort, port, realtime, rest, until, wholeHistory } from "./server.mjs";

const MESSAGES = 1000, AUTHORS = 10, MEMBERS = 100;
after(closeAll);

test("1,000 messages from 10 connections are received once, in one order, by 100 members, and are the history", async () => {
  const room = name("crowd");
  const members = Array.from({ length: MEMBERS }, (_, place) => realtime({ port: place % 2 ? port : otherPort }));
  const received = await Promise.all(members.map((member) => listen(member, room)));
  const authors = Array.from({ length: AUTHORS }, (_, place) => realtime({ clientId: `author-${place}` }));

  const answers = await Promise.all(
    authors.flatMap((author, place) =>
      Array.from({ length: MESSAGES / AUTHORS }, (_, number) =>
        author.channels.get(room).publish("m", `${place}:${number}`),
      ),
    ),
  );
  await until(() => received.every((list) => list.length >= MESSAGES), "all at every member");

  const expected = received[0].map((message) => message.id);
  assert.equal(new Set(expected).size, MESSAGES);
  for (const list of received) assert.deepEqual(list.map((message) => message.id), expected);
  const serials = received[0].map((message) => message.serial);
  assert.deepEqual(serials, [...serials].sort());
  assert.deepEqual(answers.flatMap((answer) => answer.serials).sort(), serials);
  for (const [place] of authors.entries()) {
    const own = received[0].filter((message) => message.clientId === `author-${place}`);
    assert.deepEqual(own.map((message) => message.data), own.map((_, number) => `${place}:${number}`));
  }

  const channel = rest().channels.get(room);
  const forwards = await wholeHistory(channel, { direction: "forwards", limit: 300 });
  assert.deepEqual(forwards.map((message) => message.id), expected);
  assert.deepEqual(forwards.map((message) => message.data), received[0].map((message) => message.data));
  assert.deepEqual(forwards.map((message) => message.timestamp), received[0].map((message) => message.timestamp));
  const backwards = await wholeHistory(channel, { limit: 1000 });
  assert.deepEqual(backwards.map((message) => message.id), expected.toReversed());
});
