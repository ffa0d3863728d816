// @ts-check
/** The page of a room: puts the parts together. All that it knows about messages is in the log. */

import { Announcer } from "./announcer.js";
import { Banner } from "./banner.js";
import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { byId } from "./element.js";
import { Here } from "./here.js";
import { History } from "./history.js";
import { Log } from "./log.js";
import { Messages } from "./messages.js";
import { Outbox } from "./outbox.js";
import { Placeholders } from "./placeholders.js";
import { Reading } from "./reading.js";
import { followViewport } from "./viewport.js";

/** @typedef {import("./types.js").WireMessage} WireMessage */

// What one who follows keeps at hand; further back it is read again. One who reads keeps more, so that
// nothing moves below the eyes.
const MAX_KEPT_AT_END = 2_000;
const MAX_KEPT = 20_000;

const { room = "", title = "", clientId = "", authUrl = "" } = byId("room", HTMLElement).dataset;

const log = new Log();
const reading = new Reading(clientId);
const connection = new Connection({ room, authUrl });
const history = new History(connection.channel, log);
const announcer = new Announcer(byId("announcer", HTMLElement));
const outbox = new Outbox({ log, channel: connection.channel, clientId, onChange: refresh });

const messages = new Messages({
  scroller: byId("scroller", HTMLElement),
  list: byId("messages", HTMLElement),
  clientId,
  listener: { onOlder: loadOlder, onMove: refresh, onAction: act },
});

const composer = new Composer(
  {
    form: byId("composer", HTMLFormElement),
    input: byId("composer-input", HTMLTextAreaElement),
    counter: byId("composer-counter", HTMLElement),
    button: byId("composer-send", HTMLButtonElement),
  },
  { room, clientId, onSend: send, onEscape: () => messages.jumpToEnd() },
);

const banner = new Banner(
  {
    pill: byId("link", HTMLElement),
    pillText: byId("link-text", HTMLElement),
    banner: byId("banner", HTMLElement),
    text: byId("banner-text", HTMLElement),
    detail: byId("banner-detail", HTMLElement),
    retry: byId("banner-retry", HTMLButtonElement),
    signIn: byId("banner-sign-in", HTMLElement),
  },
  () => connection.retry(),
);

const here = new Here({
  box: byId("here", HTMLElement),
  exact: byId("here-exact", HTMLElement),
  short: byId("here-short", HTMLElement),
});

const placeholders = new Placeholders({ onRetry: () => readHistory(() => history.older()) });
const pill = byId("jump", HTMLButtonElement);
let isFrameAsked = false;

/** Draw what changed, once for all that changes until the next frame. A hidden page has no frames. */
function refresh() {
  if (isFrameAsked) return;
  isFrameAsked = true;
  if (document.hidden) window.setTimeout(draw, 200);
  else window.requestAnimationFrame(draw);
}

function draw() {
  isFrameAsked = false;
  if (log.trim(messages.isAtEnd ? MAX_KEPT_AT_END : MAX_KEPT)) history.noteTrimmed();
  const items = log.list();
  reading.update(items, messages.isAtEnd && !document.hidden);
  messages.keepingPlace(() => placeholders.show(history, items.length));
  messages.render(items, reading.newFrom);
  showUnread(reading.unread);
}

/** @param {number} unread */
function showUnread(unread) {
  pill.hidden = messages.isAtEnd;
  pill.classList.toggle("has-unread", unread > 0);
  pill.textContent = unread > 0 ? `${unread} new message${unread > 1 ? "s" : ""}` : "Jump to latest";
  document.title = unread > 0 ? `(${unread}) ${title}` : title;
}

/** @param {string} text */
function send(text) {
  reading.forgetLine();
  outbox.send(text);
  messages.jumpToEnd();
}

/** @param {WireMessage} message */
function receive(message) {
  if (log.apply(message) === "added") {
    const newest = log.newest;
    if (newest && newest.serial === message.serial && newest.clientId !== clientId) announcer.say(newest);
  }
  refresh();
}

function loadOlder() {
  // After an error it is for the person to try again.
  if (!history.error && connection.state().link === "live") readHistory(() => history.older());
}

/** @param {() => Promise<void>} read */
function readHistory(read) {
  if (history.isLoading) return;
  read().finally(refresh);
  refresh();
}

/** @param {import("./message.js").Action} action @param {string} key */
function act(action, key) {
  if (action === "retry") outbox.retry(key);
  else {
    const text = log.drop(key);
    if (action === "edit") composer.restore(text);
    refresh();
  }
}

connection.open({
  onState(state) {
    banner.show(state);
    here.setLink(state.link);
    composer.maxBytes = connection.maxMessageBytes;
    outbox.setLive(state.link === "live");
  },
  onMessage: receive,
  onOccupancy: (people) => here.show(people),
  onGap() {
    history.reload().finally(refresh);
    refresh();
  },
});

pill.addEventListener("click", () => {
  messages.jumpToEnd();
  composer.focus();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) reading.forgetLine();
  refresh();
});
followViewport();
if (window.matchMedia("(pointer: fine)").matches) composer.focus();
