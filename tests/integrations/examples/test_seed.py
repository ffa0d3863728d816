"""The Lambda of the text that asked for this project: its code, with nothing changed but host, port, tls and key."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from integrations.lambda_runtime.http_message import HttpRequest, HttpResponse
from integrations.lambda_runtime.http_server import HttpServer

Serve = Callable[..., Awaitable[Any]]
KEY = "app.key:secret"
# The text is no part of this repository: it lies beside it, or where SEED says.
SEED = Path(os.environ.get("SEED", Path(__file__).parents[3].parent / "shared" / "seed.txt"))


def seed_lambda(port: int) -> str:
    """The Lambda's source out of the seed, pointed at a port of this machine."""
    text = SEED.read_text()
    begin = text.index("// We'll need the Node.js HTTPS module")
    source = text[begin : text.index("Enter fullscreen mode", begin)]
    for old, new in [
        ('import https from "https"', 'import https from "http"'),  # tls: false
        ('host: "rest.ably.io"', 'host: "127.0.0.1"'),
        ("port: 443", f"port: {port}"),
        ("INSERT_YOUR_ABLY_KEY_HERE", KEY),
    ]:
        assert source.count(old) == 1
        source = source.replace(old, new)
    return source


@pytest.mark.skipif(not SEED.exists(), reason=f"the seed's text is not at {SEED.name}")
async def test_the_seeds_lambda_stars_out_the_words_and_posts_the_message(serve: Serve) -> None:
    posted: list[HttpRequest] = []

    async def receive(request: HttpRequest) -> HttpResponse:
        posted.append(request)
        return HttpResponse(status=201, body=b'{"channel":"chat:to-clients","messageId":"x:0"}')

    receiver = HttpServer(receive)
    served = await serve("index.mjs", seed_lambda(await receiver.start("127.0.0.1", 0)))
    message = {"id": "m:0", "clientId": "bob", "name": "message", "data": "I don't like how cabbage tastes"}
    answer = await served.post({"source": "channel.message", "channel": "chat:from-clients", "messages": [message]})
    await receiver.stop()
    assert (answer.status_code, answer.text) == (200, "201")
    [request] = posted
    assert (request.method, request.target) == ("POST", "/channels/chat:to-clients/messages")
    assert request.header("authorization") == f"Basic {base64.b64encode(KEY.encode()).decode()}"
    assert json.loads(request.body) == {"name": "message", "data": "I don't like how ******* tastes"}
