from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsite.swarm.frames import Frame, NotWebSocket, Opcode, frame, split, split_handshake
from chatsite.swarm.responses import NotHttp, Response, split_response
from rooms.fanout.sockets import frame as server_frame


@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(0, 2000))
def test_frames_are_found_wherever_the_bytes_are_cut(payloads: list[bytes], cut: int) -> None:
    data = b"".join(server_frame(payload, binary=True) for payload in payloads)
    first, rest = split(data[:cut])
    second, end = split(rest + data[cut:])
    assert [*first, *second] == [Frame(Opcode.BINARY, payload) for payload in payloads]
    assert end == b""


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_a_frame_of_each_length_class_is_read(size: int) -> None:
    assert split(server_frame(b"x" * size, binary=False)) == ([Frame(Opcode.TEXT, b"x" * size)], b"")


def test_a_fragment_is_refused() -> None:
    with pytest.raises(NotWebSocket):
        split(b"\x01\x01x")


def test_a_client_s_frame_is_masked_with_zeros() -> None:
    assert frame(Opcode.TEXT, b"hi") == b"\x81\x82\0\0\0\0hi"


def test_an_answer_other_than_101_is_refused_with_the_pause_that_the_server_asks_for() -> None:
    with pytest.raises(NotWebSocket, match="503 Busy") as refusal:
        split_handshake(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n")
    assert refusal.value.retry_after == 7


def test_a_pause_that_is_no_number_of_seconds_counts_as_none() -> None:
    head = b"HTTP/1.1 503 Busy\r\nRetry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\nContent-Length: 0\r\n\r\n"
    assert split_response(head) == (Response(503, "Busy", None), b"")


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n\r\n", b"x" * 70_000])
def test_what_is_not_http_is_refused(data: bytes) -> None:
    with pytest.raises(NotHttp):
        split_response(data)


@given(st.lists(st.binary(max_size=50), max_size=5), st.integers(0, 600))
def test_answers_are_found_wherever_the_bytes_are_cut(bodies: list[bytes], cut: int) -> None:
    data = b"".join(b"HTTP/1.1 202 Accepted\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body) for body in bodies)
    rest, found = b"", 0
    for part in (data[:cut], data[cut:]):
        rest += part
        while (response := split_response(rest)) is not None:
            rest, found = response[1], found + 1
    assert (found, rest) == (len(bodies), b"")
