"""How much a call of the Function URL may carry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from integrations.lambda_runtime import limits

Serve = Callable[..., Awaitable[Any]]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("size.py", "def handler(event, context):\n    return len(event['body'])\n"),
        ("size.mjs", "export const handler = async (event) => event.body.length;"),
    ],
)
async def test_a_request_may_have_nearly_six_megabytes_and_no_more(serve: Serve, file: str, source: str) -> None:
    served = await serve(file, source, timeout_seconds=20, memory_mb=512)
    headers = {"content-type": "text/plain"}
    size = limits.MAX_PAYLOAD_BYTES - 4_000  # the event has more in it than the body
    assert (await served.client.post("", content=b"x" * size, headers=headers)).text == str(size)
    for too_large in (limits.MAX_PAYLOAD_BYTES - 10, limits.MAX_PAYLOAD_BYTES + 1):
        refused = await served.client.post("", content=b"x" * too_large, headers=headers)
        assert refused.status_code == 413
        assert refused.headers["x-amzn-errortype"] == "RequestTooLargeException"
        assert "6291456" in refused.json()["Message"]
    assert (await served.client.post("", content=b"x", headers=headers)).text == "1"
