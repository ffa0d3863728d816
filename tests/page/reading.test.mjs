import assert from "node:assert/strict";
import { test } from "node:test";

import { Reading } from "../../static/js/reading.js";
import { MAX_ROWS, Window } from "../../static/js/window.js";

const items = (count, clientId = "bob") =>
  Array.from({ length: count }, (_, n) => ({ key: `k${n}`, serial: `s${String(n).padStart(4, "0")}`, clientId }));

test("what was there at the beginning is not new", () => {
  const reading = new Reading("alice");
  reading.update(items(5), false);
  assert.deepEqual([reading.unread, reading.newFrom], [0, ""]);
});

test("what comes while one is away is counted, with a line above the first", () => {
  const reading = new Reading("alice");
  reading.update(items(5), true);
  reading.update(items(7), false);
  reading.update(items(8), false);
  assert.deepEqual([reading.unread, reading.newFrom], [3, "k5"]);
  reading.update(items(8), true);
  assert.deepEqual([reading.unread, reading.newFrom], [0, "k5"]);
  reading.forgetLine();
  reading.update(items(9), false);
  assert.deepEqual([reading.unread, reading.newFrom], [1, "k8"]);
});

test("one's own messages are not new to oneself", () => {
  const reading = new Reading("alice");
  reading.update(items(1), true);
  reading.update([...items(1), ...items(3, "alice").slice(1)], false);
  assert.equal(reading.unread, 0);
});

test("a window never holds more than its rows, wherever one scrolls", () => {
  const window = new Window();
  window.toEnd(10_000);
  for (let step = 0; step < 300; step += 1) {
    window.up();
    assert.ok(window.end - window.start <= MAX_ROWS);
  }
  assert.equal(window.start, 0);
  while (window.down(10_000)) assert.ok(window.end - window.start <= MAX_ROWS);
  assert.equal(window.end, 10_000);
});

test("a window stays with its rows when the list grows above or below", () => {
  const window = new Window();
  window.toEnd(100);
  window.up();
  const rows = window.end - window.start;
  window.follow(window.start + 50, 200);
  assert.equal(window.end - window.start, rows);
});
