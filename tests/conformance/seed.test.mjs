// The tutorial's token server and page, on the SDK of today; its Lambda and rule are set up by test_two_gateways.py.
import test, { after } from "node:test";
import assert from "node:assert/strict";
import http from "node:http";
import { randomUUID } from "node:crypto";
import { closeAll, listen, realtime, until } from "./server.mjs";

const FROM_CLIENT_CHANNEL_NAME = "chat:from-clients";
const TO_CLIENT_CHANNEL_NAME = "chat:to-clients";
after(closeAll);

test("what one page says goes through the Lambda to every page, starred, once", async () => {
  const backend = realtime();
  const app = http.createServer(async (req, res) => {
    const tokenParams = { capability: {}, clientId: `comp-${randomUUID()}` };
    tokenParams.capability[`${FROM_CLIENT_CHANNEL_NAME}`] = ["publish"];
    tokenParams.capability[`${TO_CLIENT_CHANNEL_NAME}`] = ["subscribe"];
    res.setHeader("Content-Type", "application/json");
    res.end(JSON.stringify(await backend.auth.createTokenRequest(tokenParams)));
  });
  await new Promise((done) => app.listen(0, "127.0.0.1", done));
  const page = () => realtime({ key: undefined, authUrl: `http://127.0.0.1:${app.address().port}/auth` });
  const [one, two] = [page(), page()];
  const shown = [await listen(one, TO_CLIENT_CHANNEL_NAME), await listen(two, TO_CLIENT_CHANNEL_NAME)];
  for (const text of ["I don't like how cabbage tastes", "nor the potato"]) {
    await one.channels.get(FROM_CLIENT_CHANNEL_NAME).publish("message", text);
  }
  await until(() => shown.every((list) => list.length === 2), "the starred texts on both pages");
  for (const list of shown) {
    assert.deepEqual(list.map((message) => message.data), ["I don't like how ******* tastes", "nor the ******"]);
  }
  app.close();
});
