// What happened in which room, one line of JSON for each event: for a rule after publish, in CloudWatch or a terminal.
//
// A rule that hears of everything but what is said:
//   manage.py rule add --name log --event channel.message --event channel.opened --event channel.closed --url ...

import { eventHandler } from "./chat_hook.mjs";

// An event may come twice, with the same id. Nobody minds that in a log; where it matters, remember the ids.
export const handler = eventHandler(({ id, kind, room, timestamp, message, review, occupancy }) => {
  const said = { id, kind, room, at: new Date(timestamp).toISOString(), message: message?.id, author: message?.clientId };
  console.log(JSON.stringify({ ...said, outcome: review?.outcome, members: occupancy?.connections }));
});
