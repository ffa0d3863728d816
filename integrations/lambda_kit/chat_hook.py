"""For AWS Lambda functions that a chat server calls: verify, parse, answer, call back. Copy it beside your handler.

    from chat_hook import Event, Message, Verdict, accept, filter_handler, reject

    def judge(message: Message, event: Event) -> Verdict:
        return reject("No links, please.") if "http" in str(message.get("data")) else accept()

    handler = filter_handler(judge)

Standard library only, Python 3.11 or newer. `filter_handler` is for rules before publish, `event_handler` for rules
after publish; both take single, batched and plain calls, by Function URL or Invoke API, and check the signature by
WEBHOOK_SECRET: the rule's secret, or several, separated by spaces, while it is changed. Without WEBHOOK_SECRET they
refuse every call, but for `manage.py lambda` and `sam local`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, NotRequired, TypedDict
from urllib.parse import unquote

Response = dict[str, Any]
Kind = Literal[
    "channel.message",
    "channel.message.updated",
    "channel.message.deleted",
    "channel.message.accepted",
    "channel.message.reviewed",
    "channel.occupancy",
    "channel.opened",
    "channel.closed",
]

VERSION = 1  # of the payloads that this module knows
MAX_AGE_SECONDS = 300
CALLBACK_SECONDS = 2.0
CALLBACK_PAUSES = (0.2, 0.8)  # before the second and the third try


# --- What a call says ---------------------------------------------------------------------------------------


class Message(TypedDict):
    """A message in the public format. What has no value is missing."""

    id: NotRequired[str]
    clientId: NotRequired[str]  # the author; missing where nobody is named
    connectionId: NotRequired[str]
    name: NotRequired[str]
    data: NotRequired[Any]  # text; JSON or base64 as text where `encoding` says so (see data_of)
    encoding: NotRequired[str]
    extras: NotRequired[dict[str, Any]]
    timestamp: NotRequired[int]  # milliseconds since the epoch
    serial: NotRequired[str]  # published messages: by which others name it
    action: NotRequired[int]  # 0 created, 1 edited, 2 deleted
    version: NotRequired[Version]


class Version(TypedDict, total=False):
    """Which edit a message is."""

    serial: str
    timestamp: int
    clientId: str
    description: str
    metadata: dict[str, Any]


class Review(TypedDict):
    """How a review ended (channel.message.reviewed)."""

    outcome: Literal["published", "rejected", "held", "retracted", "restored"]
    by: str  # whose verdict it was
    at: int  # milliseconds since the epoch
    reason: NotRequired[str]
    code: NotRequired[int]
    detail: NotRequired[dict[str, Any]]


class Metrics(TypedDict):
    """How many are in a room (channel.occupancy, channel.opened, channel.closed)."""

    connections: int
    publishers: int
    subscribers: int
    presenceConnections: int
    presenceMembers: int
    presenceSubscribers: int


class Callback(TypedDict):
    """Where the verdict on one message may be sent later."""

    url: str
    token: str
    expires: int  # milliseconds since the epoch


@dataclass(frozen=True)
class Event:
    """One event. It may come more than once, always with the same `id`: remember ids where twice would hurt."""

    id: str
    kind: Kind
    room: str
    rule_id: str
    timestamp: int  # milliseconds since the epoch: when it happened; of a plain call, when that was made
    message: Message | None = None
    review: Review | None = None
    occupancy: Metrics | None = None
    by: str = ""  # who edited or deleted
    callback: Callback | None = None


# --- What is answered ---------------------------------------------------------------------------------------


class Change(TypedDict, total=False):
    """New content; what is left out stays as it was."""

    data: Any
    name: str
    extras: dict[str, Any]


class Verdict(TypedDict):
    """What becomes of a message."""

    action: Literal["accept", "modify", "reject", "hold"]
    message: NotRequired[Change]
    reason: NotRequired[str]
    rejectionDetail: NotRequired[dict[str, Any]]


def accept() -> Verdict:
    """Publish the message as it is."""
    return {"action": "accept"}


def modify(**change: Any) -> Verdict:
    """Publish it with other `data`, `name` or `extras`. Data is a text or anything that JSON can say."""
    if not change or change.keys() - {"data", "name", "extras"}:
        raise TypeError("modify(data=..., name=..., extras=...): one of them at least")
    return {"action": "modify", "message": Change(**change)}  # type: ignore[typeddict-item]


def reject(reason: str = "", detail: dict[str, Any] | None = None) -> Verdict:
    """Show it to nobody; its author is told `reason`, and the author's program `detail`."""
    verdict: Verdict = {"action": "reject"}
    if reason:
        verdict["reason"] = reason
    if detail is not None:
        verdict["rejectionDetail"] = detail
    return verdict


def hold(reason: str = "") -> Verdict:
    """Let a human decide; `reason` is for the moderators."""
    return {"action": "hold", "reason": reason} if reason else {"action": "hold"}


# --- Handlers -----------------------------------------------------------------------------------------------


class BadCall(Exception):
    """The call is no webhook, or not to be believed. `status` is the answer's; the text quotes nothing of it."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def filter_handler(
    judge: Callable[[Message, Event], Verdict], *, by_callback: bool = False, signed: bool = True
) -> Callable[[Any, object], Response]:
    """Return the Lambda handler of a rule before publish: `judge` gives the verdict on each message.

    With `by_callback` verdicts are posted to the server instead of answered: for a function that is invoked
    asynchronously. What `judge` raises fails the call, and the server calls again. `signed=False` believes everybody:
    only where IAM lets nobody else call.
    """

    def handle(events: Sequence[Event]) -> Response:
        verdicts = [judge(event.message, event) if event.message is not None else accept() for event in events]
        if not by_callback:
            return respond(events, verdicts)
        for event, verdict in zip(events, verdicts, strict=True):
            if event.callback is not None:  # a shadow's call has none: nobody waits for its verdict
                call_back(event.callback, verdict)
        return {"statusCode": 202}

    return _handler(handle, signed=signed)


def event_handler(tell: Callable[[Event], object], *, signed: bool = True) -> Callable[[Any, object], Response]:
    """Return the Lambda handler of a rule after publish: `tell` gets each event. What it raises fails the call."""

    def handle(events: Sequence[Event]) -> Response:
        for event in events:
            tell(event)
        return {"statusCode": 204}

    return _handler(handle, signed=signed)


def respond(events: Sequence[Event], verdicts: Sequence[Verdict]) -> Response:
    """Return the response of a function that gives these verdicts on these events."""
    if len(events) == 1:
        return _json(200, verdicts[0])
    return _json(200, {"verdicts": [{"id": event.id, **one} for event, one in zip(events, verdicts, strict=True)]})


def _handler(handle: Callable[[Sequence[Event]], Response], *, signed: bool) -> Callable[[Any, object], Response]:
    def handler(event: Any, context: object) -> Response:
        try:
            headers, body = read(event)
            if signed:
                authenticate(headers, body)
            events = parse(headers, body)
        except BadCall as problem:
            return _json(problem.status, {"error": str(problem)})
        return handle(events)

    return handler


def _json(status: int, body: Any) -> Response:
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}


# --- Verifying ----------------------------------------------------------------------------------------------


def authenticate(headers: Mapping[str, str], body: bytes) -> None:
    """Check a call by the secrets in WEBHOOK_SECRET. Raises BadCall: 401, or 500 where there is no secret."""
    secrets = os.environ.get("WEBHOOK_SECRET", "").split()
    if secrets:
        verify(headers, body, secrets, now=time.time())
    elif not (os.environ.get("CHAT_LAMBDA_LOCAL") or os.environ.get("AWS_SAM_LOCAL")):
        raise BadCall(500, "set WEBHOOK_SECRET to the rule's secret: without it anybody would be believed")


def verify(headers: Mapping[str, str], body: bytes, secrets: Iterable[str], *, now: float) -> None:
    """Accept a call with a fresh signature by one of the secrets (Standard Webhooks, v1). Raises BadCall.

    `headers` have lower-case names, `now` is in Unix seconds.
    """
    webhook_id, sent = str(headers.get("webhook-id", "")), str(headers.get("webhook-timestamp", ""))
    if not webhook_id or "." in webhook_id or not re.fullmatch(r"[0-9]{1,12}", sent, re.ASCII):
        raise BadCall(401, "the headers webhook-id and webhook-timestamp are missing or malformed")
    if abs(now - int(sent)) > MAX_AGE_SECONDS:
        raise BadCall(401, f"the call is more than {MAX_AGE_SECONDS} seconds old, or from the future")
    content = b".".join((webhook_id.encode(errors="replace"), sent.encode(), body))
    given = [part[3:] for part in str(headers.get("webhook-signature", "")).split() if part.startswith("v1,")]
    digests = [base64.b64encode(hmac.digest(_key(secret), content, hashlib.sha256)) for secret in secrets]
    # All pairs are compared: the time that it takes tells nothing.
    if not any([hmac.compare_digest(one, other.encode(errors="replace")) for one in digests for other in given]):
        raise BadCall(401, "no signature of the call is by this secret")


@lru_cache(maxsize=16)
def _key(secret: str) -> bytes:
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise BadCall(500, "WEBHOOK_SECRET is not as the server printed it: whsec_ and base64") from None


# --- Parsing ------------------------------------------------------------------------------------------------


def read(event: Any) -> tuple[dict[str, str], bytes]:
    """Return headers (names in lower case) and body of a Lambda event, payload format 2.0. Raises BadCall."""
    if not isinstance(event, dict) or not isinstance(event.get("headers"), dict):
        raise BadCall(400, "this is no webhook call: an event of a Function URL has headers and a body")
    body = event.get("body") or ""
    try:
        raw = base64.b64decode(body, validate=True) if event.get("isBase64Encoded") else body.encode()
    except (binascii.Error, ValueError, AttributeError):
        raise BadCall(400, "the body is no text and no base64") from None
    return {str(name).lower(): str(value) for name, value in event["headers"].items()}, raw


def parse(headers: Mapping[str, str], body: bytes) -> list[Event]:
    """Return the events of a call: single, batched or plain. Raises BadCall."""
    try:
        if "x-ably-envelope-channel" in headers:
            return _plain(headers, body)
        call = json.loads(body)
        if "items" not in call:
            return _events(
                headers.get("webhook-id", ""), call.get("event", call["source"]), call["channel"], call, call
            )
        return [
            event
            for item in call["items"]
            for event in _events(item["id"], item["name"], item["data"]["channelId"], item, item["data"])
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise BadCall(400, "the body is no webhook of the documented shape") from None


def _events(event_id: str, kind: Kind, room: str, call: dict[str, Any], fields: dict[str, Any]) -> list[Event]:
    """One event, or one for each message where a server puts several into one."""
    messages: list[Any] = fields.get("messages") or [None]
    if not all(message is None or isinstance(message, dict) for message in messages):
        raise TypeError
    return [
        Event(
            id=event_id if len(messages) == 1 else message["id"],
            kind=kind,
            room=room,
            rule_id=str(call.get("ruleId", call.get("webhookId", ""))),
            timestamp=call.get("timestamp", 0),
            message=message,
            review=fields.get("review"),
            occupancy=fields["status"]["occupancy"]["metrics"] if "status" in fields else None,
            by=fields.get("by", ""),
            callback=call.get("callback"),
        )
        for message in messages
    ]


def _plain(headers: Mapping[str, str], body: bytes) -> list[Event]:
    """The event of a call whose body is the data alone, and whose headers say the rest."""
    said = {name: unquote(value) for name, value in headers.items() if name.startswith(("x-ably-", "x-callback-"))}
    call: dict[str, Any] = {
        "ruleId": said.get("x-ably-envelope-rule-id", ""),
        "timestamp": int(headers.get("webhook-timestamp", 0)) * 1000,
    }
    if "x-callback-url" in said:
        expires = int(said["x-callback-expires"])
        call["callback"] = {"url": said["x-callback-url"], "token": said["x-callback-token"], "expires": expires}
    kind, room = said["x-ably-envelope-event"], said["x-ably-envelope-channel"]
    if "x-ably-message-id" in said:
        fields: dict[str, Any] = {"messages": [_plain_message(said, headers.get("content-type", ""), body)]}
    else:
        fields = json.loads(body)
    return _events(headers.get("webhook-id", ""), kind, room, call, fields)  # type: ignore[arg-type]


def _plain_message(said: Mapping[str, str], content_type: str, body: bytes) -> dict[str, Any]:
    names = {"id": "id", "clientId": "client-id", "connectionId": "connection-id", "name": "name", "serial": "serial"}
    message: dict[str, Any] = {
        key: said[f"x-ably-message-{name}"] for key, name in names.items() if f"x-ably-message-{name}" in said
    }
    message["timestamp"] = int(said.get("x-ably-message-timestamp", 0))
    if "x-ably-message-action" in said:
        message["action"] = int(said["x-ably-message-action"])
    rest = said.get("x-ably-message-encoding", "")
    if content_type == "application/octet-stream":
        message["data"], encoding = base64.b64encode(body).decode(), f"{rest}/base64" if rest else "base64"
    else:
        message["data"], encoding = body.decode(), "json" if content_type == "application/json" else rest
    return {**message, "encoding": encoding} if encoding else message


def data_of(message: Message) -> Any:
    """Return what a message's data means: a text, bytes, or what its JSON says; None for what is encrypted."""
    data, encoding = message.get("data"), message.get("encoding") or ""
    if encoding == "json":
        return json.loads(data) if isinstance(data, str) else data
    if encoding == "base64":
        return base64.b64decode(data or "")
    return data if encoding in ("", "utf-8") else None


def texts_of(value: Any) -> list[str]:
    """Return every text in a message's data, in order: of `data_of(message)`, or of a part of it."""
    if isinstance(value, str):
        return [value]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in parts for text in texts_of(part)]


# --- Calling back -------------------------------------------------------------------------------------------


class CallbackFailed(Exception):
    """The server did not take the verdict; the text says why."""


def call_back(callback: Callback, verdict: Verdict, *, timeout: float = CALLBACK_SECONDS) -> bool:
    """Send the verdict on one message later than by the response. False: it has been decided otherwise, or is late.

    Tried three times, for `timeout` seconds each: the same verdict twice is no harm. Raises CallbackFailed.
    Only after the call was verified: the address is the caller's.
    """
    if not callback["url"].startswith(("https://", "http://")):
        raise CallbackFailed("the callback's URL is not http")
    headers = {"authorization": f"Bearer {callback['token']}", "content-type": "application/json"}
    request = urllib.request.Request(callback["url"], json.dumps(verdict).encode(), headers, method="POST")
    problem = ""
    for pause in (*CALLBACK_PAUSES, None):
        try:
            with _opener().open(request, timeout=timeout) as response:
                response.read()
            return True
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in (409, 410):
                return False
            if error.code < 500 and error.code not in (408, 425, 429):
                raise CallbackFailed(f"the server answered {error.code}") from None
            problem = f"the server answered {error.code}"
        except OSError as error:
            problem = f"the server does not answer ({type(error).__name__})"
        if pause is not None:
            time.sleep(pause)
    raise CallbackFailed(problem)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """The token is for the server that sent it, not for where that server points."""

    def redirect_request(self, *_: Any) -> None:
        return None


@lru_cache(maxsize=1)
def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_NoRedirect)
