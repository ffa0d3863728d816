"""Only the plain request is read the short way; the rest is for who knows HTTP."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsite.server.upgrade import read_upgrade

PLAIN = [
    b"Host: chat.example:8000",
    b"Connection: keep-alive, Upgrade",
    b"Upgrade: WebSocket",
    b"Origin: https://chat.example",
    b"Sec-WebSocket-Version: 13",
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
]


def head(*lines: bytes, first: bytes = b"GET /?key=a.b:c%20d&v=3 HTTP/1.1") -> bytes:
    return b"\r\n".join([first, *lines])


def test_a_plain_request_is_read_and_its_answer_is_the_one_of_rfc_6455() -> None:
    upgrade = read_upgrade(head(*PLAIN))

    assert upgrade is not None
    assert (upgrade.path, upgrade.query) == (b"/", b"key=a.b:c%20d&v=3")
    assert dict(upgrade.headers)[b"host"] == b"chat.example:8000"
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in upgrade.response


@pytest.mark.parametrize("missing", [line for line in PLAIN if b"Origin" not in line and b"Extensions" not in line])
def test_without_a_header_that_is_needed_it_is_no_plain_request(missing: bytes) -> None:
    assert read_upgrade(head(*(line for line in PLAIN if line != missing))) is None


@pytest.mark.parametrize(
    "unusual",
    [
        b"Content-Length: 0",
        b"Transfer-Encoding: chunked",
        b"Sec-WebSocket-Protocol: chat",
        b"Daphne-Root-Path: /x",
        b"Host: other.example",
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        b" folded",
        b"X-Under_score: x",
        b"X-Bad : x",
        b"X-Bad: a\x0bb",
        b"X-Bad: a\nb",
        b"no colon",
    ],
)
def test_what_could_be_read_in_two_ways_is_left_to_others(unusual: bytes) -> None:
    assert read_upgrade(head(*PLAIN, unusual)) is None


@pytest.mark.parametrize(
    "first",
    [
        b"GET / HTTP/1.0",
        b"POST / HTTP/1.1",
        b"GET http://chat.example/ HTTP/1.1",
        b"GET /%2e%2e HTTP/1.1",
        b"GET /#x HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"GET /?a#b HTTP/1.1",
        b"GET /?\xff HTTP/1.1",
    ],
)
def test_an_unusual_request_line_is_left_to_others(first: bytes) -> None:
    assert read_upgrade(head(*PLAIN, first=first)) is None


@given(st.lists(st.sampled_from([*PLAIN, b"X: y"]) | st.binary(max_size=40), max_size=12), st.binary(max_size=40))
def test_no_bytes_whatsoever_make_it_fail(lines: list[bytes], first: bytes) -> None:
    read_upgrade(head(*lines))
    read_upgrade(head(*lines, first=first))
