import assert from "node:assert/strict";
import { test } from "node:test";

import { hrefOf, partsOf } from "../../static/js/links.js";

const links = (text) => partsOf(text).filter((part) => part.href);

test("addresses become links and the sentence around them stays text", () => {
  assert.deepEqual(partsOf("See https://example.com/a?b=1, or www.example.org."), [
    { text: "See ", href: "" },
    { text: "https://example.com/a?b=1", href: "https://example.com/a?b=1" },
    { text: ", or ", href: "" },
    { text: "www.example.org", href: "https://www.example.org/" },
    { text: ".", href: "" },
  ]);
});

test("a bracket belongs to an address that opened it", () => {
  assert.equal(links("(https://example.com/a)")[0].text, "https://example.com/a");
  assert.equal(links("https://example.com/a_(b)")[0].text, "https://example.com/a_(b)");
});

test("only web and mail addresses are followed", () => {
  for (const text of [
    "javascript:alert(1)",
    "data:text/html,<script>alert(1)</script>",
    "vbscript:x",
    "file:///etc/passwd",
    "https://",
    "xhttps://example.com",
  ]) {
    assert.deepEqual(links(text), [], text);
  }
  assert.equal(hrefOf("mailto:a@example.com"), "mailto:a@example.com");
});

test("an address that pretends to be another one is not followed", () => {
  assert.equal(hrefOf("https://bank.example@evil.example/"), "");
});

test("a link ends where invisible characters begin", () => {
  assert.equal(links("https://example.com/\u202Efdp.exe")[0].text, "https://example.com/");
});

test("the parts joined are the text, whatever it is", () => {
  for (const text of ["", " ", "a https://a.example) b www. c http://[::1]/ http://", ")".repeat(60_000), "https://a.example/ ".repeat(3_000)]) {
    const begin = performance.now();
    assert.equal(partsOf(text).map((part) => part.text).join(""), text);
    assert.ok(performance.now() - begin < 500);
  }
});
