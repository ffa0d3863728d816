// The page's state without a page: node --test tests/page/
import assert from "node:assert/strict";
import { test } from "node:test";

import { Log } from "../../static/js/log.js";

const serial = (n) => `abcdefgh-${String(n).padStart(12, "0")}`;

/** A published message at place `n`; `changes` overrides. */
function published(n, changes = {}) {
  return {
    id: `id-${n}`,
    serial: serial(n),
    version: { serial: serial(n) },
    clientId: "bob",
    name: "message",
    action: "message.create",
    data: `text ${n}`,
    timestamp: 1_000 * n,
    ...changes,
  };
}

const texts = (log) => log.list().map((item) => item.text);

test("messages stand in the order of their serials however they arrive", () => {
  const log = new Log();
  for (const n of [3, 1, 2]) log.apply(published(n));
  assert.deepEqual(texts(log), ["text 1", "text 2", "text 3"]);
});

test("a message that arrives twice is one message and the same object", () => {
  const log = new Log();
  log.apply(published(1));
  const [before] = log.list();
  assert.equal(log.apply(published(1)), "ignored");
  assert.equal(log.list()[0], before);
});

test("any order, with repeats, of all that happened ends in the same page", () => {
  const events = [
    published(1),
    published(2),
    published(3),
    published(2, { action: "message.update", data: "edited", version: { serial: serial(4) } }),
    published(1, { action: "message.delete", data: null, version: { serial: serial(5) } }),
    published(2, { action: "message.update", data: "edited again", version: { serial: serial(6) } }),
  ];
  const expected = ["", "edited again", "text 3"];
  let seed = 7;
  const random = (below) => (seed = (seed * 48_271) % 0x7fffffff) % below;
  for (let round = 0; round < 200; round += 1) {
    const log = new Log();
    log.load(Array.from({ length: 12 }, () => events[random(events.length)]));
    log.load([...events].sort(() => random(3) - 1));
    assert.deepEqual(texts(log), expected);
  }
});

test("what one sends is shown at once, after everything that is published", () => {
  const log = new Log();
  log.send({ id: "mine", clientId: "alice", text: "hello", timestamp: 5 });
  log.apply(published(1));
  assert.deepEqual(texts(log), ["text 1", "hello"]);
  assert.equal(log.list()[1].state, "queued");
});

test("the echo takes the place of what was sent, under the same key", () => {
  const log = new Log();
  log.send({ id: "mine", clientId: "alice", text: "hello", timestamp: 5 });
  assert.equal(log.apply(published(9, { id: "mine", clientId: "alice", data: "hello" })), "changed");
  const [item, ...more] = log.list();
  assert.deepEqual(more, []);
  assert.deepEqual([item.key, item.state, item.adjusted], ["mine", "published", false]);
});

test("an author is told when a rule changed the words", () => {
  const log = new Log();
  log.send({ id: "mine", clientId: "alice", text: "cabbage", timestamp: 5 });
  log.apply(published(9, { id: "mine", clientId: "alice", data: "*******" }));
  assert.deepEqual([log.list()[0].text, log.list()[0].adjusted], ["*******", true]);
});

test("an answer that comes after the echo changes nothing", () => {
  const log = new Log();
  log.send({ id: "mine", clientId: "alice", text: "hello", timestamp: 5 });
  log.apply(published(9, { id: "mine", data: "hello" }));
  log.mark("mine", { state: "refused", reason: "late" });
  assert.equal(log.list()[0].state, "published");
});

test("a refused message keeps its text until it is taken back", () => {
  const log = new Log();
  log.send({ id: "mine", clientId: "alice", text: "hello", timestamp: 5 });
  log.mark("mine", { state: "refused", reason: "no" });
  assert.equal(log.list()[0].reason, "no");
  assert.equal(log.drop("mine"), "hello");
  assert.deepEqual(log.list(), []);
});

test("a renewal keeps its page, what arrived meanwhile and what is being sent, and nothing above a gap", async () => {
  const log = new Log();
  log.load([published(1), published(2)]);
  log.send({ id: "mine", clientId: "alice", text: "hello", timestamp: 5 });
  const renewal = log.renew(async () => [published(50), published(49)]);
  assert.deepEqual(texts(log), ["text 1", "text 2", "hello"]);
  log.apply(published(51));
  log.apply(published(1, { action: "message.update", data: "edited", version: { serial: serial(52) } }));
  await renewal;
  assert.deepEqual(texts(log), ["text 49", "text 50", "text 51", "hello"]);
});

test("a renewal that fails leaves everything as it was", async () => {
  const log = new Log();
  log.load([published(1)]);
  await assert.rejects(log.renew(() => Promise.reject(new Error("no network"))));
  log.apply(published(2));
  assert.deepEqual(texts(log), ["text 1", "text 2"]);
});

test("of two renewals at once the later one counts", async () => {
  const log = new Log();
  let answer;
  const first = log.renew(() => new Promise((resolve) => (answer = resolve)));
  await log.renew(async () => [published(7)]);
  answer([published(3)]);
  await first;
  assert.deepEqual(texts(log), ["text 7"]);
});

test("a room that was made anew leaves nothing of the former one", async () => {
  const log = new Log();
  log.load([published(1)]);
  await log.renew(async () => []);
  assert.deepEqual(log.list(), []);
});

test("a change that overtakes the page of history with its message is not lost", () => {
  const log = new Log();
  log.apply(published(2, { action: "message.delete", data: null, version: { serial: serial(8) } }));
  assert.deepEqual(log.list(), []);
  log.load([published(3), published(2), published(1)]);
  assert.deepEqual(log.list().map((item) => item.removed), [false, true, false]);
});

test("a moderator's edit keeps author and time of the message", () => {
  const log = new Log();
  log.apply(published(1));
  log.apply(
    published(1, {
      action: "message.update",
      data: "mild",
      clientId: "moderator",
      timestamp: 9_999,
      version: { serial: serial(2) },
    }),
  );
  const [item] = log.list();
  assert.deepEqual([item.text, item.clientId, item.timestamp, item.edited], ["mild", "bob", 1_000, true]);
});

test("other events of the room are not shown", () => {
  const log = new Log();
  assert.equal(log.apply(published(1, { name: "typing" })), "ignored");
  assert.equal(log.apply(published(2, { action: "message.summary" })), "ignored");
  assert.equal(log.apply({ name: "message", data: "no serial" }), "ignored");
  assert.deepEqual(log.list(), []);
});

test("trimming forgets the oldest and never what is being sent", () => {
  const log = new Log();
  log.load(Array.from({ length: 10 }, (_, n) => published(n + 1)));
  log.send({ id: "mine", clientId: "alice", text: "hello", timestamp: 5 });
  assert.equal(log.trim(3), true);
  assert.deepEqual(texts(log), ["text 8", "text 9", "text 10", "hello"]);
  assert.equal(log.trim(3), false);
});

test("ten thousand messages are taken in within a second", () => {
  const log = new Log();
  const begin = performance.now();
  for (let n = 10_000; n > 0; n -= 1) log.apply(published(n));
  assert.equal(log.list().length, 10_000);
  assert.ok(performance.now() - begin < 1_000);
});
