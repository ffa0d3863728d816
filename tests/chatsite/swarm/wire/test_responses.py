from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsite.swarm.wire.responses import PeerError, Response, split_response


def test_a_pause_that_is_no_number_of_seconds_counts_as_none() -> None:
    head = b"HTTP/1.1 503 Busy\r\nRetry-After: Wed, 21 Oct 2026 07:28:00 GMT\r\nContent-Length: 0\r\n\r\n"
    assert split_response(head) == (Response(503, "Busy", None, 0), b"")


@pytest.mark.parametrize("data", [b"SSH-2.0-x\r\n\r\n", b"x" * 70_000])
def test_what_is_not_http_is_refused(data: bytes) -> None:
    with pytest.raises(PeerError):
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
