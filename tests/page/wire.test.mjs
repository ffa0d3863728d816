import assert from "node:assert/strict";
import { test } from "node:test";

import { embedsOf, itemOf, textOf } from "../../static/js/wire.js";

test("text is shown as it is, data as JSON, bytes by their size", () => {
  assert.equal(textOf("<b>"), "<b>");
  assert.equal(textOf({ a: 1 }), '{\n  "a": 1\n}');
  assert.equal(textOf(new Uint8Array(3)), "[3 bytes]");
  assert.equal(textOf(undefined), "");
});

test("only images at web addresses are embedded, four at most", () => {
  const image = (url, more = {}) => ({ type: "image", url, ...more });
  for (const url of ["javascript:alert(1)", "data:image/svg+xml,<svg/>", "file:///etc/passwd", "/relative", "", 7, null]) {
    assert.deepEqual(embedsOf({ embeds: [image(url)] }), [], String(url));
  }
  assert.deepEqual(embedsOf({ embeds: "no list" }), []);
  assert.deepEqual(embedsOf({ embeds: [null, 1, { type: "video", url: "https://a.example/" }] }), []);
  assert.deepEqual(embedsOf(null), []);
  assert.equal(embedsOf({ embeds: Array(9).fill(image("https://a.example/x.png")) }).length, 4);
  assert.deepEqual(embedsOf({ embeds: [image("https://a.example/x.png", { width: 4, height: "x", alt: 5 })] }), [
    { url: "https://a.example/x.png", alt: "" },
  ]);
});

test("a deleted message keeps nothing of its content", () => {
  const item = itemOf({ serial: "s", action: "message.delete", data: "secret", extras: { embeds: [] } });
  assert.deepEqual([item.removed, item.text, item.embeds], [true, "", []]);
});
