from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatsite.swarm.results.tally import Place, Token
from chatsite.swarm.wire.frames import Frame
from chatsite.swarm.wire.messages import KEPT_BATCHES, Arrival, Item, Reader, read_data, write_data
from rooms.fanout.sockets import frame


def decode(payload: bytes, reader: Reader) -> list[Item]:
    """One message of the run in each frame, its serial and moment in the payload."""
    serial, sent_at = map(int, payload.split())
    return [Arrival(0, serial, reader.note(Place(0, serial, Token(0, serial)), sent_at, sent_at))]


def test_a_batch_goes_on_without_a_look_only_where_it_is_messages_of_one_room_without_a_gap() -> None:
    reader = Reader(decode)
    run = [frame(b"%d 0" % serial, binary=True) for serial in (3, 4, 5)]
    assert (reader.read(b"".join(run)).first, reader.read(b"".join(run)).last) == (3, 5)
    assert reader.read(run[0] + run[2]).first is None
    assert reader.read(run[1] + run[0]).first is None
    assert reader.read(run[0] + b"\x89\x00").first is None
    assert isinstance(reader.read(run[0] + b"\x89\x00").items[1], Frame)


def test_memory_for_what_was_decoded_is_bounded() -> None:
    reader = Reader(decode)
    for serial in range(2000):
        reader.read(frame(b"%d 0" % serial, binary=True))
    assert len(reader.batches) <= KEPT_BATCHES + 10
    assert len(reader.seen) == 2000


@given(st.integers(0, 10**4), st.integers(0, 10**6), st.floats(0, 10**7), st.integers(64, 500))
def test_a_message_tells_who_sent_it_and_when(publisher: int, number: int, sent_at: float, size: int) -> None:
    token = Token(publisher, number)
    data = write_data("0a1b2c3d", token, sent_at=sent_at, size=size)
    assert len(data) == size
    found, step = read_data(data)
    assert found == token
    assert abs(step / 10_000 - sent_at) < 0.00011
