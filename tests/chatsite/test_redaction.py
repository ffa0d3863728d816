"""The log holds no credential, whoever writes the record."""

from __future__ import annotations

import io
import logging

import pytest

from chatsite.redaction import Redact, redact

CANARY = "c4nary-secret-value"


@pytest.mark.parametrize(
    "line",
    [
        f"GET /?key=app.id:{CANARY}&format=json HTTP/1.1",
        f"connected with app1.key1:{CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"Authorization: Basic {CANARY}=",
        f"token eyJhbGciOiJIUzI1NiJ9.{CANARY}.sig",
        f"postgresql://chat:{CANARY}@db/chat is away",
        f"signed with whsec_{CANARY.replace('-', '')}",
        f"duplicate key value\nDETAIL:  Failing row contains (1, {CANARY}).",
        f"duplicate key value\nDETAIL:  Failing row contains (1, a text of two\nlines {CANARY}).\nCONTEXT: here",
    ],
)
def test_a_credential_does_not_reach_the_log(line: str) -> None:
    assert CANARY not in redact(line) and CANARY.replace("-", "") not in redact(line)


def test_a_traceback_is_redacted_too() -> None:
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    handler.addFilter(Redact())
    logger = logging.getLogger("test.redaction")
    logger.addHandler(handler)
    logger.propagate = False
    try:
        raise ValueError(f"wss://host/?accessToken={CANARY}")
    except ValueError:
        logger.exception("failed for %s", f"app1.key1:{CANARY}")

    assert CANARY not in output.getvalue()
    assert "ValueError" in output.getvalue()


@pytest.mark.parametrize(
    "line", ["room chat:from-clients has 3 members", "rooms.gateway.gateway waits (OperationalError)"]
)
def test_plain_words_stay(line: str) -> None:
    assert redact(line) == line
