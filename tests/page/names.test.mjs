import assert from "node:assert/strict";
import { test } from "node:test";

import { hueOf, initialsOf, nameOf } from "../../static/js/names.js";

test("a guest's name is shown without its tag and as a guest's", () => {
  assert.deepEqual(nameOf("Grace Hopper~k3f9"), { name: "Grace Hopper", isGuest: true });
  assert.deepEqual(nameOf("alice"), { name: "alice", isGuest: false });
});

test("marks that turn or hide writing are taken out of names", () => {
  assert.equal(nameOf("\u202Eecila\u200B\u2066").name, "ecila");
  assert.equal(nameOf("\u200B").name, "Somebody");
});

test("initials are whole characters", () => {
  assert.equal(initialsOf("Grace Hopper"), "GH");
  assert.equal(initialsOf("dmitri.k"), "DK");
  assert.equal(initialsOf("🦊 fox"), "🦊F");
  assert.equal(initialsOf("李雷"), "李");
  assert.equal(initialsOf("..."), "?");
});

test("somebody's colour is always the same", () => {
  assert.equal(hueOf("alice", 12), hueOf("alice", 12));
  assert.ok(hueOf("", 12) >= 0 && hueOf("alice", 12) < 12);
});
