import test, { afterEach } from "node:test";
import assert from "node:assert/strict";
import http from "node:http";
import { createHmac, randomUUID } from "node:crypto";
import { closeAll, codeOf, key, listen, name, port, realtime, rest, until } from "./server.mjs";

afterEach(closeAll);
const [keyName, keySecret] = key.split(":");
const withoutKey = { key: undefined };

function jwt(claims, { kid = keyName, secret = keySecret, alg = "HS256" } = {}) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const now = Math.floor(Date.now() / 1000);
  const body = `${part({ typ: "JWT", alg, kid })}.${part({ iat: now, exp: now + 60, ...claims })}`;
  return `${body}.${createHmac("sha256", secret).update(body).digest("base64url")}`;
}

const capability = (rooms) => ({ "x-ably-capability": JSON.stringify(rooms) });

// What the client's connection says when it fails for good.
async function failure(client) {
  await until(() => client.connection.state === "failed", "the connection fails");
  return client.connection.errorReason.code;
}

async function checkTalk(client, room) {
  const messages = await listen(client, room);
  await client.channels.get(room).publish("m", "x");
  await until(() => messages.length === 1, "the message");
  return messages[0];
}

test("a token server that signs token requests, and a page that fetches them (authUrl)", async () => {
  const [from, to] = [name("chat:from-clients"), name("chat:to-clients")];
  const backend = realtime();
  const app = http.createServer(async (request, response) => {
    const clientId = `comp-${randomUUID()}`;
    const tokenParams = { capability: { [from]: ["publish"], [to]: ["subscribe"] }, clientId };
    const tokenRequest = await backend.auth.createTokenRequest(tokenParams);
    response.setHeader("Content-Type", "application/json");
    response.end(JSON.stringify(tokenRequest));
  });
  await new Promise((done) => app.listen(0, "127.0.0.1", done));
  const authUrl = `http://127.0.0.1:${app.address().port}/auth`;
  const heard = await listen(backend, from);
  const page = realtime({ ...withoutKey, authUrl });

  const shown = await listen(page, to);
  await page.channels.get(from).publish("message", "hello");
  await until(() => heard.length === 1, "the page's message");
  assert.match(heard[0].clientId, /^comp-/);
  assert.equal(page.auth.clientId, heard[0].clientId);
  await backend.channels.get(to).publish("message", "world");
  await until(() => shown.length === 1, "the answer");
  assert.equal(await codeOf(page.channels.get(to).publish("m", "x")), 40160);
  assert.equal(await codeOf(page.channels.get("elsewhere").attach()), 40160);
  app.close();
});

test("authCallback with a token request, with token details, with a token's text, with a JWT", async () => {
  const issuer = rest();
  const answers = [
    (params) => issuer.auth.createTokenRequest({ ...params, clientId: "ada" }),
    (params) => issuer.auth.requestToken({ ...params, clientId: "ada" }),
    async (params) => (await issuer.auth.requestToken({ ...params, clientId: "ada" })).token,
    async () => jwt({ ...capability({ "*": ["*"] }), "x-ably-clientId": "ada" }),
  ];
  for (const answer of answers) {
    const authCallback = (params, callback) => answer(params).then((token) => callback(null, token), callback);
    const client = realtime({ ...withoutKey, authCallback });
    assert.equal((await checkTalk(client, name("callback"))).clientId, "ada");
  }
});

test("a token serves REST as well as a connection", async () => {
  const room = name("rest");
  const { token } = await rest().auth.requestToken({ capability: { [room]: ["publish"] } });
  const client = rest({ ...withoutKey, token });
  await client.channels.get(room).publish("m", "x");
  assert.equal(await codeOf(client.channels.get(room).history()), 40160);
  assert.equal(await codeOf(client.channels.get("elsewhere").publish("m", "x")), 40160);
});

test("a live connection takes a new capability: more rooms, then fewer", async () => {
  const [one, two] = [name("one"), name("two")];
  let rooms = { [one]: ["*"] };
  const authCallback = (_, callback) => callback(null, jwt(capability(rooms)));
  const client = realtime({ ...withoutKey, authCallback });
  await checkTalk(client, one);
  assert.equal(await codeOf(client.channels.get(two).attach()), 40160);

  rooms = { [one]: ["*"], [two]: ["*"] };
  const id = client.connection.id;
  await client.auth.authorize();
  await client.channels.get(two).attach();
  await checkTalk(client, two);
  assert.equal(client.connection.id, id);

  rooms = { [two]: ["*"] };
  await client.auth.authorize();
  await until(() => client.channels.get(one).state === "failed", "the first room ends");
  assert.equal(client.channels.get(one).errorReason.code, 40160);
  await client.channels.get(two).publish("m", "still here");
});

test("a token that runs out is renewed without a gap", async () => {
  const [room, received] = [name("renewed"), []];
  const issuer = rest();
  let asked = 0;
  const authCallback = (params, callback) => {
    asked += 1;
    issuer.auth.requestToken({ ...params, ttl: 1500, clientId: "ada" }).then((token) => callback(null, token), callback);
  };
  const member = realtime({ ...withoutKey, authCallback });
  await member.channels.get(room).subscribe((message) => received.push(message.data));
  const author = realtime().channels.get(room);
  let number = 0;
  while (asked < 3) {
    await author.publish("m", `${number++}`);
    await until(() => received.length === number, "each of them");
  }
  assert.deepEqual(received, Array.from({ length: number }, (_, each) => `${each}`));
});

test("what is wrong with a credential is said by its code", async () => {
  const old = { iat: 1_600_000_000, exp: 1_600_000_060 };
  assert.equal(await failure(realtime({ key: `${keyName}:wrong` })), 40101);
  assert.equal(await failure(realtime({ key: "none.such:secret" })), 40130);
  for (const [token, code] of [
    [jwt(capability({ "*": ["*"] }), { secret: "wrong" }), 40144],
    [jwt({ ...capability({ "*": ["*"] }), ...old }), 40142],
    [jwt(capability({ "*": ["*"] }), { alg: "none" }), 40144],
  ]) {
    // A client with no means to renew a token says so (40171); REST passes on what the server said.
    assert.equal(await failure(realtime({ ...withoutKey, token })), 40171);
    assert.equal(await codeOf(fetchHistory(token)), code);
  }
});

async function fetchHistory(token) {
  const response = await fetch(`http://127.0.0.1:${port}/channels/x/messages`, { headers: { authorization: `Bearer ${token}` } });
  if (!response.ok) throw (await response.json()).error;
}

test("a client id that the token does not cover is refused", async () => {
  const token = jwt({ ...capability({ "*": ["*"] }), "x-ably-clientId": "ada" });
  const client = realtime({ ...withoutKey, token });
  await client.connection.whenState("connected");
  assert.equal(await codeOf(client.channels.get(name("who")).publish({ data: "x", clientId: "bob" })), 40012);
});

test("revoked tokens end their connections; who can renew comes back, others are not touched", async () => {
  const issuer = rest();
  const [one, two, three] = [name("one"), name("two"), name("three")];
  const authCallback = (params, callback) =>
    issuer.auth.requestToken({ ...params, clientId: two }).then((token) => callback(null, token), callback);
  const ended = realtime({ ...withoutKey, token: await issuer.auth.requestToken({ clientId: one }) });
  const renewed = realtime({ ...withoutKey, authCallback });
  const untouched = realtime({ ...withoutKey, token: await issuer.auth.requestToken({ clientId: three }) });
  const clients = [ended, renewed, untouched];
  await Promise.all(clients.map((client) => client.connection.whenState("connected")));
  const reasons = [ended, renewed].map(async ({ connection }) => (await connection.once("disconnected")).reason.code);
  const lost = untouched.connection.once("disconnected").then(() => assert.fail("nobody revoked it"));

  const specifiers = [
    { type: "clientId", value: one },
    { type: "clientId", value: two },
    { type: "invalidType", value: "abc" },
  ];
  const result = await issuer.auth.revokeTokens(specifiers);
  assert.deepEqual([result.successCount, result.failureCount], [2, 1]);
  assert.deepEqual(result.results.map((each) => each.target), specifiers.map(({ type, value }) => `${type}:${value}`));
  assert.equal(result.results[2].error.statusCode, 400);

  assert.deepEqual(await Promise.race([Promise.all(reasons), lost]), [40141, 40141]);
  await renewed.connection.whenState("connected");
  await renewed.channels.get(name("after")).publish("m", "here again");
  assert.equal(untouched.connection.state, "connected");
});
