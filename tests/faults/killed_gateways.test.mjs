import test, { after } from "node:test";
import assert from "node:assert/strict";
import { closeAll, listen, name, realtime, until } from "../conformance/server.mjs";

const MESSAGES = 1000, AUTHORS = 10, MEMBERS = 100;
after(closeAll);

test("all members end with all messages, once, in order, though the gateways died half-way", async () => {
  const room = name("killed");
  const members = Array.from({ length: MEMBERS }, () => realtime());
  const received = await Promise.all(members.map((member) => listen(member, room)));
  const authors = Array.from({ length: AUTHORS }, (_, place) => realtime({ clientId: `author-${place}` }));
  let published = 0, asked = false;

  await Promise.all(authors.map(async (author, place) => {
    const channel = author.channels.get(room);
    for (let number = 0; number < MESSAGES / AUTHORS; number += 5) {
      const five = Array.from({ length: 5 }, (_, each) => channel.publish("m", `${place}:${number + each}`));
      await Promise.all(five);
      published += five.length;
      if (published >= MESSAGES / 2 && !asked) {
        asked = true;
        process.stdout.write("# half of them\n");
      }
    }
  }));
  await until(() => received.every((list) => list.length >= MESSAGES), "all at every member");

  const expected = received[0].map((message) => message.id);
  assert.equal(new Set(expected).size, MESSAGES);
  for (const list of received) assert.deepEqual(list.map((message) => message.id), expected);
  for (const [place] of authors.entries()) {
    const own = received[0].filter((message) => message.clientId === `author-${place}`);
    assert.deepEqual(own.map((message) => message.data), own.map((_, number) => `${place}:${number}`));
  }
});
