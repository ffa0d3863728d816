"""The example handlers, run as a user runs them: by the real runtimes, behind the Function URL."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from integrations.lambda_runtime.http_message import HttpRequest, HttpResponse
from integrations.lambda_runtime.http_server import HttpServer

Serve = Callable[..., Awaitable[Any]]
EXAMPLES = Path(__file__).parents[3] / "integrations" / "examples"
SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
IMAGE = "https://example.com/cat.png"

both_filters = pytest.mark.parametrize("example", [EXAMPLES / "word_filter.py", EXAMPLES / "word_filter.mjs"])


def message(data: Any, **fields: Any) -> dict[str, Any]:
    return {"id": "m:0", "clientId": "bob", "name": "message", "data": data, "timestamp": 1, **fields}


def envelope(*messages: dict[str, Any], callback: dict[str, Any] | None = None) -> dict[str, Any]:
    call = {"source": "channel.message", "appId": "app", "channel": "lobby", "ruleId": "r1", "messages": [*messages]}
    return {**call, "callback": callback or {"url": "http://127.0.0.1:1/", "token": "t", "expires": 1}}


JUDGED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    (message("hello"), {"action": "accept"}),
    (
        message("I don't like how cabbage tastes"),
        {"action": "modify", "message": {"data": "I don't like how ******* tastes"}},
    ),
    (
        message("POTATO and Cabbages"),
        {"action": "modify", "message": {"data": "****** and *******s"}},
    ),
    (
        message(f"look: {IMAGE}, and {IMAGE}?size=2!", extras={"headers": {"a": "b"}}),
        {
            "action": "modify",
            "message": {
                "data": f"look: {IMAGE}, and {IMAGE}?size=2!",
                "extras": {
                    "headers": {"a": "b"},
                    "embeds": [{"type": "image", "url": IMAGE}, {"type": "image", "url": f"{IMAGE}?size=2"}],
                },
            },
        },
    ),
    (message("http://example.com/a.png https://example.com/a.svg https://a.png"), {"action": "accept"}),
    (
        message("see", extras={"embeds": [{"type": "image", "url": "javascript:alert(1)"}]}),
        {"action": "modify", "message": {"data": "see", "extras": {}}},
    ),
    (
        message({"text": "a potato", "n": [1, "cabbage", None]}),
        {"action": "modify", "message": {"data": {"text": "a ******", "n": [1, "*******", None]}}},
    ),
    (
        message('{"text": "a potato"}', encoding="json"),
        {"action": "modify", "message": {"data": '{"text":"a ******"}'}},
    ),
    (message('{ "text" : "fine" }', encoding="json"), {"action": "accept"}),
    (message("cG90YXRv", encoding="base64"), {"action": "accept"}),
    (message(None), {"action": "accept"}),
    (message(""), {"action": "accept"}),
]


@both_filters
async def test_the_filter_judges_messages(serve: Serve, example: Path) -> None:
    served = await serve(example)
    for sent, verdict in JUDGED:
        answer = await served.post(envelope(sent))
        assert (sent, answer.status_code, answer.json()) == (sent, 200, verdict)


@both_filters
async def test_several_messages_get_a_verdict_each(serve: Serve, example: Path) -> None:
    served = await serve(example)
    answer = await served.post(envelope(message("a potato", id="m:0"), message("fine", id="m:1")))
    assert [(one["id"], one["action"]) for one in answer.json()["verdicts"]] == [("m:0", "modify"), ("m:1", "accept")]


@both_filters
async def test_the_banned_words_come_from_the_environment(serve: Serve, example: Path) -> None:
    served = await serve(example, environment={"BANNED_WORDS": "c++, leek"})
    answer = await served.post(envelope(message("C++ and leek and potato")))
    assert answer.json()["message"]["data"] == "*** and **** and potato"


@both_filters
async def test_a_long_hostile_text_is_judged_in_time(serve: Serve, example: Path) -> None:
    served = await serve(example, timeout_seconds=60)  # some milliseconds; minutes if it grew with the square
    for text in ("https://" * 8_000, "https://a/" + "." * 64_000, "https://a/" + ".png" * 16_000):
        assert (await served.post(envelope(message(text)))).json()["action"] == "accept"


@both_filters
async def test_what_is_no_envelope_is_refused(serve: Serve, example: Path) -> None:
    served = await serve(example)
    for body in ("", "no json", "[]", "{}", '{"messages": 1}', '{"messages": [null]}'):
        answer = await served.client.post("", content=body, headers={"content-type": "application/json"})
        assert (body, answer.status_code) == (body, 400)


def signed(body: bytes, *, secret: str = SECRET, age_seconds: int = 0) -> dict[str, str]:
    """The headers of a signed call, made by the public library of Standard Webhooks."""
    sent = datetime.now(UTC) - timedelta(seconds=age_seconds)
    return {
        "content-type": "application/json",
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(sent.timestamp())),
        "webhook-signature": Webhook(secret).sign("msg_1", sent, body.decode()),
    }


OTHER = "whsec_" + base64.b64encode(b"another secret of thirty-two b..").decode()


SIGNED: list[tuple[Callable[[bytes], dict[str, str]], int]] = [
    (lambda body: signed(body), 200),
    (lambda body: {**signed(body), "webhook-signature": "v1,AAAA " + signed(body)["webhook-signature"]}, 200),
    (lambda body: {"content-type": "application/json"}, 401),
    (lambda body: signed(body + b" "), 401),
    (lambda body: signed(body, secret=OTHER), 401),
    (lambda body: signed(body, age_seconds=301), 401),
    (lambda body: signed(body, age_seconds=-301), 401),
    (lambda body: {**signed(body), "webhook-id": "msg_2"}, 401),
    (lambda body: {**signed(body), "webhook-timestamp": "soon"}, 401),
    (lambda body: {**signed(body), "webhook-signature": "v1,"}, 401),
    (lambda body: {**signed(body), "webhook-signature": "v1,grün"}, 401),
]


@both_filters
async def test_only_a_fresh_signature_by_the_secret_is_believed(serve: Serve, example: Path) -> None:
    served = await serve(example, environment={"WEBHOOK_SECRET": SECRET})
    body = json.dumps(envelope(message("Kartoffelgrün")), ensure_ascii=False).encode()
    for headers, status in SIGNED:
        given = {name: value.encode() for name, value in headers(body).items()}
        answer = await served.client.post("", content=body, headers=given)
        assert (given, answer.status_code) == (given, status)


async def test_while_a_secret_is_changed_both_are_believed(serve: Serve) -> None:
    served = await serve(EXAMPLES / "word_filter.py", environment={"WEBHOOK_SECRET": f"{OTHER} {SECRET}"})
    body = json.dumps(envelope(message("fine"))).encode()
    for secret in (SECRET, OTHER):
        answer = await served.client.post("", content=body, headers=signed(body, secret=secret))
        assert answer.status_code == 200


class Receiver:
    """A local HTTP server that keeps what it gets."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []
        self.status = 200

    async def handle(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        return HttpResponse(status=self.status, body=b"{}")


@pytest.fixture
async def receiver() -> AsyncIterator[tuple[Receiver, str]]:
    kept = Receiver()
    server = HttpServer(kept.handle)
    yield kept, f"http://127.0.0.1:{await server.start('127.0.0.1', 0)}/integrations/verdict"
    await server.stop()


async def test_the_callback_filter_posts_its_verdict_with_the_token(
    serve: Serve, receiver: tuple[Receiver, str]
) -> None:
    kept, url = receiver
    served = await serve(EXAMPLES / "callback_filter.py", environment={"WEBHOOK_SECRET": SECRET})
    body = json.dumps(envelope(message("a potato"), callback={"url": url, "token": "tok", "expires": 1})).encode()
    answer = await served.client.post("", content=body, headers=signed(body))
    assert (answer.status_code, answer.content) == (202, b"")
    [request] = kept.requests
    assert (request.method, request.path) == ("POST", "/integrations/verdict")
    assert request.header("authorization") == "Bearer tok"
    assert json.loads(request.body) == {"action": "modify", "message": {"data": "a ******"}}


async def test_a_callback_filter_whose_verdict_is_refused_fails_visibly(
    serve: Serve, receiver: tuple[Receiver, str]
) -> None:
    kept, url = receiver
    kept.status = 403
    served = await serve(EXAMPLES / "callback_filter.py")
    answer = await served.post(envelope(message("fine"), callback={"url": url, "token": "tok", "expires": 1}))
    assert answer.status_code == 502


async def test_an_unsigned_call_makes_the_callback_filter_post_nothing(
    serve: Serve, receiver: tuple[Receiver, str]
) -> None:
    kept, url = receiver
    served = await serve(EXAMPLES / "callback_filter.py", environment={"WEBHOOK_SECRET": SECRET})
    answer = await served.post(envelope(message("fine"), callback={"url": url, "token": "tok", "expires": 1}))
    assert answer.status_code == 401
    await asyncio.sleep(0)
    assert not kept.requests


KIT = EXAMPLES.parent / "lambda_kit"


@pytest.mark.parametrize("starter", [KIT / "filter.py", KIT / "filter.mjs"])
async def test_the_starter_folder_works_as_it_is(serve: Serve, starter: Path) -> None:
    served = await serve(starter, environment={"WEBHOOK_SECRET": SECRET})
    for sent, action in (
        (message("HELLO"), "accept"),
        (message("I SAID IT VERY LOUDLY ALREADY"), "modify"),
        (message('{"text":"see http://example.com"}', encoding="json"), "reject"),
        (message("/w==", encoding="base64"), "accept"),
    ):
        body = json.dumps(envelope(sent)).encode()
        answer = await served.client.post("", content=body, headers=signed(body))
        assert (sent, answer.json()["action"]) == (sent, action)


async def test_the_event_log_takes_events_about_messages_and_rooms(serve: Serve) -> None:
    served = await serve(EXAMPLES / "event_log.mjs")
    metrics = {"connections": 1, "publishers": 1, "subscribers": 1}
    opened = {"source": "channel.lifecycle", "event": "channel.opened", "channel": "lobby", "timestamp": 1}
    for body in (envelope(message("fine")), {**opened, "status": {"occupancy": {"metrics": metrics}}}):
        assert (await served.post(body)).status_code == 204
