from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsite.swarm.wire.frames import Frame, Opcode, frame, split, split_handshake
from chatsite.swarm.wire.responses import PeerError
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
    with pytest.raises(PeerError):
        split(b"\x01\x01x")


def test_a_client_s_frame_is_masked_with_zeros() -> None:
    assert frame(Opcode.TEXT, b"hi") == b"\x81\x82\0\0\0\0hi"


def test_an_answer_other_than_101_is_refused_with_the_pause_that_the_server_asks_for() -> None:
    with pytest.raises(PeerError, match="503 Busy") as refusal:
        split_handshake(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\n\r\n")
    assert refusal.value.retry_after == 7
