"""The helper module for handlers, in Python and in JavaScript: both do the same, and suit what the server sends."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook

from integrations.lambda_kit import chat_hook
from integrations.lambda_runtime.http_message import HttpRequest, HttpResponse
from integrations.lambda_runtime.http_server import HttpServer
from integrations.wire import envelope, events, signing
from rooms.occupancy.counts import Metrics
from rooms.protocol.wire import Message

KIT = Path(__file__).parents[3] / "integrations" / "lambda_kit"
Run = Callable[..., dict[str, Any]]  # what to run, and with what -> {"value"} or {"error", "status", "message"}
SECRET, OTHER = signing.draw_secret(), signing.draw_secret()
NOW = 1_790_000_000
CALLBACK = envelope.Callback(url="https://chat.example/integrations/verdict", token="t.t", expires=NOW * 1000)


# --- The two of them, behind one face ---------------------------------------------------------------------


def run_python(run: str, **given: Any) -> dict[str, Any]:
    try:
        return {"value": _run_python(run, **given)}
    except Exception as error:
        return {"error": type(error).__name__, "status": getattr(error, "status", None), "message": str(error)}


def _run_python(run: str, *, body: str = "", **given: Any) -> Any:
    raw = base64.b64decode(body)
    if run == "verify":
        return chat_hook.verify(given["headers"], raw, given["secrets"], now=given["now"])
    if run == "parse":
        return [as_dict(event) for event in chat_hook.parse(given["headers"], raw)]
    if run == "callBack":
        return chat_hook.call_back(given["callback"], given["verdict"])
    if run == "texts":
        return chat_hook.texts_of(chat_hook.data_of(given["message"]))
    assert run == "handle"
    handler = chat_hook.filter_handler(
        lambda message, event: chat_hook.reject(message["id"], {"seen": chat_hook.data_of(message)}),
        **given.get("options", {}),
    )
    return handler(given["event"], None)


def as_dict(event: chat_hook.Event) -> dict[str, Any]:
    fields = {"ruleId" if key == "rule_id" else key: value for key, value in dataclasses.asdict(event).items()}
    return {key: value for key, value in fields.items() if value not in (None, "")}


@pytest.fixture(scope="module")
def run_node() -> Iterator[Run]:
    node = shutil.which("node")
    assert node is not None
    command = [node, str(Path(__file__).with_name("chat_hook_cases.mjs")), str(KIT / "chat_hook.mjs")]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={})

    def run(run: str, **given: Any) -> dict[str, Any]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(json.dumps({"run": run, **given}) + "\n")
        process.stdin.flush()
        answer: dict[str, Any] = json.loads(process.stdout.readline())
        return answer

    with process:
        yield run
        process.kill()


@pytest.fixture(scope="module", params=["python", "node"])
def kit(request: pytest.FixtureRequest, run_node: Run) -> Run:
    return run_python if request.param == "python" else run_node


def text(body: bytes) -> str:
    return base64.b64encode(body).decode()


# --- Verifying --------------------------------------------------------------------------------------------


def check(kit: Run, headers: dict[str, str], body: bytes, secrets: list[str] | None = None, now: int = NOW) -> int:
    """The status that a call gets."""
    found = kit("verify", headers=headers, body=text(body), secrets=secrets or [SECRET], now=now)
    return 200 if "value" in found else found["status"]


def signed(body: bytes, *secrets: str, at: int = NOW) -> dict[str, str]:
    return signing.sign(secrets or [SECRET], webhook_id="msg_1", timestamp=at, body=body)


def test_what_the_server_and_the_public_library_sign_is_believed(kit: Run) -> None:
    body = '{"data": "Grün"}'.encode()
    sent = datetime.fromtimestamp(NOW, UTC)
    by_library = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(NOW),
        "webhook-signature": Webhook(SECRET).sign("msg_1", sent, body.decode()),
    }
    assert check(kit, by_library, body) == 200
    assert check(kit, signed(body), body) == 200
    assert check(kit, signed(b"\xff\x00"), b"\xff\x00") == 200
    assert check(kit, signed(body, at=NOW - 300), body) == check(kit, signed(body, at=NOW + 300), body) == 200


def test_while_secrets_change_either_side_may_be_first(kit: Run) -> None:
    assert check(kit, signed(b"{}", SECRET, OTHER), b"{}", [OTHER]) == 200
    assert check(kit, signed(b"{}", OTHER), b"{}", [SECRET, OTHER]) == 200


@pytest.mark.parametrize(
    "change",
    [
        lambda headers: {},
        lambda headers: {**headers, "webhook-id": "msg_2"},
        lambda headers: {**headers, "webhook-id": ""},
        lambda headers: {**headers, "webhook-id": "msg.1"},
        lambda headers: {**headers, "webhook-timestamp": str(NOW + 1)},
        lambda headers: {**headers, "webhook-timestamp": "soon"},
        lambda headers: {**headers, "webhook-timestamp": "²"},
        lambda headers: {**headers, "webhook-signature": ""},
        lambda headers: {**headers, "webhook-signature": "v1,"},
        lambda headers: {**headers, "webhook-signature": "v1,grün v1,AAAA"},
        lambda headers: {**headers, "webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")},
        lambda headers: {**headers, "webhook-signature": headers["webhook-signature"][3:]},
        lambda headers: signed(b"{}", OTHER),
        lambda headers: signed(b"{} "),
        lambda headers: signed(b"{}", at=NOW - 301),
        lambda headers: signed(b"{}", at=NOW + 301),
    ],
)
def test_everything_else_is_refused(kit: Run, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
    assert check(kit, change(signed(b"{}")), b"{}") == 401


def test_a_secret_that_is_none_is_a_fault_of_the_function(kit: Run) -> None:
    assert check(kit, signed(b"{}"), b"{}", ["whsec_no base64!"]) == 500


# --- Parsing ----------------------------------------------------------------------------------------------

BOB = Message(
    id="m:0",
    client_id="bob",
    connection_id="c",
    name="message",
    timestamp=5,
    serial="s-1",
    action=0,
    data="Grün & 100%",
)
SEEN = {"id": "m:0", "clientId": "bob", "connectionId": "c", "name": "message", "timestamp": 5}
SEEN |= {"serial": "s-1", "action": 0, "data": "Grün & 100%"}
REVIEW = events.Review(outcome="rejected", by="rule filter", at=7, reason="no", detail={"a": 1})
PAYLOADS: dict[str, tuple[str, dict[str, Any]]] = {
    events.MESSAGE: (events.message_payload(BOB), {"message": SEEN}),
    events.ACCEPTED: (events.message_payload(BOB), {"message": SEEN}),
    events.EDITED: (events.change_payload(BOB, by="eve"), {"message": SEEN, "by": "eve"}),
    events.DELETED: (events.change_payload(BOB, by="eve"), {"message": SEEN, "by": "eve"}),
    events.REVIEWED: (
        events.review_payload(BOB, REVIEW),
        {
            "message": SEEN,
            "review": {"outcome": "rejected", "by": "rule filter", "at": 7, "reason": "no", "detail": {"a": 1}},
        },
    ),
    **{
        kind: (events.status_payload(Metrics(3, 2, 1)), {"occupancy": Metrics(3, 2, 1).shape})
        for kind in (events.OCCUPANCY, events.OPENED, events.CLOSED)
    },
}


def called(kit: Run, *sent: envelope.Event, **shape: bool) -> list[dict[str, Any]]:
    call = envelope.build(envelope.Shape(rule_id="7", app_id="app", site="local", **shape), sent)
    headers = {**call.headers, "webhook-id": call.webhook_id, "webhook-timestamp": str(NOW)}
    found = kit("parse", headers=headers, body=text(call.body))
    assert "value" in found, found
    parsed: list[dict[str, Any]] = found["value"]
    return parsed


def test_every_event_has_a_sample_here() -> None:
    assert set(PAYLOADS) == set(events.SOURCES) == set(chat_hook.Kind.__args__)  # type: ignore[attr-defined]
    assert chat_hook.VERSION == events.VERSION


@pytest.mark.parametrize("kind", PAYLOADS)
def test_every_event_is_read_as_the_server_means_it_single_and_batched(kit: Run, kind: str) -> None:
    payload, fields = PAYLOADS[kind]
    sent = [
        envelope.Event(
            webhook_id=f"evt_{n}", room="räume/1", payload=payload, timestamp=6, kind=kind, callback=CALLBACK
        )
        for n in range(2)
    ]
    seen = {"kind": kind, "room": "räume/1", "ruleId": "7", "timestamp": 6, "callback": CALLBACK.as_dict(), **fields}
    assert called(kit, sent[0]) == [{"id": "evt_0", **seen}]
    assert called(kit, *sent, batched=True) == [{"id": "evt_0", **seen}, {"id": "evt_1", **seen}]


@pytest.mark.parametrize("kind", PAYLOADS)
def test_a_plain_call_says_what_its_headers_can(kit: Run, kind: str) -> None:
    payload, fields = PAYLOADS[kind]
    sent = envelope.Event(
        webhook_id="evt_0", room="räume/1", payload=payload, timestamp=6, kind=kind, callback=CALLBACK
    )
    # Who edited is not among them, nor the event's own time: it has the call's.
    seen = {key: value for key, value in fields.items() if key != "by"}
    seen |= {"id": "evt_0", "kind": kind, "room": "räume/1", "ruleId": "7", "callback": CALLBACK.as_dict()}
    assert called(kit, sent, enveloped=False) == [{**seen, "timestamp": NOW * 1000}]


@pytest.mark.parametrize(
    ("data", "encoding", "meant"),
    [
        ("plain", None, ["plain"]),
        ('{"a":["x",{"b":"y"}],"n":1}', "json", ["x", "y"]),
        (base64.b64encode(b"\xff\x00").decode(), "base64", []),
        (base64.b64encode(b"\xff").decode(), "utf-8/cipher+aes-128-cbc/base64", []),
        (None, None, []),
    ],
)
def test_data_is_read_by_its_encoding_in_each_shape(
    kit: Run, data: str | None, encoding: str | None, meant: list[str]
) -> None:
    payload = events.message_payload(Message(id="m:0", timestamp=5, data=data, encoding=encoding))
    event = envelope.Event(webhook_id="evt_0", room="r", payload=payload, timestamp=6)
    for shape in ({}, {"batched": True}, {"enveloped": False}):
        (found,) = called(kit, event, **shape)
        assert found["message"].get("encoding") == encoding
        assert (found["message"].get("data") or None) == data
        assert [one for one in kit("texts", message=found["message"])["value"] if one] == meant


def test_several_messages_in_one_envelope_are_events_of_their_own(kit: Run) -> None:
    body = json.dumps({"source": "channel.message", "channel": "r", "messages": [{"id": "m:0"}, {"id": "m:1"}]})
    found = kit("parse", headers={"webhook-id": "evt"}, body=text(body.encode()))["value"]
    assert [(one["id"], one["kind"]) for one in found] == [("m:0", "channel.message"), ("m:1", "channel.message")]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(0, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["items", "messages", "source", "channel", "data", "id", "name", "channelId", "status"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


@given(body=json_values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_other_body_is_refused_as_such(kit: Run, body: bytes) -> None:
    found = kit("parse", headers={}, body=text(body))
    assert "value" in found or found["status"] == 400, found


# --- Handlers ---------------------------------------------------------------------------------------------


def lambda_event(body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    return {"headers": headers, "body": text(body), "isBase64Encoded": True}


def test_verdicts_are_answered_in_the_shape_of_the_call(kit: Run) -> None:
    payload = events.message_payload(BOB)
    sent = [envelope.Event(webhook_id=f"evt_{n}", room="r", payload=payload, timestamp=6) for n in range(2)]
    verdict = {"action": "reject", "reason": "m:0", "rejectionDetail": {"seen": "Grün & 100%"}}
    for some, body in ((sent[:1], verdict), (sent, {"verdicts": [{"id": f"evt_{n}", **verdict} for n in range(2)]})):
        call = envelope.build(envelope.Shape(rule_id="7", app_id="app", site="local", batched=True), some)
        found = kit("handle", event=lambda_event(call.body, call.headers), options={"signed": False})["value"]
        assert found["statusCode"] == 200
        assert json.loads(found["body"]) == body


def test_without_a_secret_nobody_is_believed(kit: Run) -> None:
    found = kit("handle", event=lambda_event(b"{}", signed(b"{}", at=int(time.time()))))["value"]
    assert found["statusCode"] == 500
    assert "WEBHOOK_SECRET" in found["body"]


@pytest.mark.parametrize(
    "event",
    [
        None,
        {"key1": "value1"},
        {"headers": None, "body": "{}"},
        {"headers": {}, "body": 1},
        {"headers": {}, "body": "?", "isBase64Encoded": True},
        {"headers": {}},
        {"headers": {}, "body": "[" * 100_000},
    ],
)
def test_an_event_that_is_no_webhook_is_answered_400(kit: Run, event: Any) -> None:
    assert kit("handle", event=event, options={"signed": False})["value"]["statusCode"] == 400


# --- Calling back -----------------------------------------------------------------------------------------


class Server:
    """A server whose answers are listed beforehand."""

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.requests: list[HttpRequest] = []
        self.url = ""

    async def handle(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        status = self.statuses.pop(0)
        return HttpResponse(status=status, headers=(("location", self.url),) if status == 302 else (), body=b"{}")


@pytest.fixture
async def callbacks() -> AsyncIterator[Server]:
    answering = Server()
    http = HttpServer(answering.handle)
    answering.url = f"http://127.0.0.1:{await http.start('127.0.0.1', 0)}/integrations/verdict"
    yield answering
    await http.stop()


@pytest.mark.parametrize(
    ("statuses", "end"),
    [
        ([200], True),
        ([409], False),
        ([410], False),
        ([503, 200], True),
        ([429, 502, 200], True),
        ([401], "401"),
        ([302], "302"),
    ],
)
async def test_a_callback_is_tried_until_it_is_taken_or_refused(
    kit: Run, callbacks: Server, statuses: list[int], end: bool | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_hook, "CALLBACK_PAUSES", (0, 0))
    if kit is not run_python and len(statuses) > 1:
        statuses, end = [503, 200], True  # its pauses are real: once is enough
    callbacks.statuses = [*statuses]
    callback = {"url": callbacks.url, "token": "tok", "expires": 1}
    found = await asyncio.to_thread(kit, "callBack", callback=callback, verdict={"action": "accept"})
    if isinstance(end, bool):
        assert found == {"value": end}
    else:
        assert end in found["message"]
    assert len(callbacks.requests) == len(statuses), "and no redirect is followed"
    for request in callbacks.requests:
        assert request.header("authorization") == "Bearer tok"
        assert json.loads(request.body) == {"action": "accept"}


@pytest.mark.parametrize("url", ["file:///etc/hostname", "data:text/plain,fine"])
def test_a_callback_goes_by_http_alone(kit: Run, url: str) -> None:
    found = kit("callBack", callback={"url": url, "token": "t", "expires": 1}, verdict={"action": "accept"})
    assert "not http" in found["message"]


def test_a_server_that_is_away_is_named_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_hook, "CALLBACK_PAUSES", (0, 0))
    callback: chat_hook.Callback = {"url": "http://127.0.0.1:9/", "token": "t", "expires": 1}
    with pytest.raises(chat_hook.CallbackFailed, match="does not answer"):
        chat_hook.call_back(callback, chat_hook.accept())
