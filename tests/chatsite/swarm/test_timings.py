from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatsite.swarm.findings import Place, Token
from chatsite.swarm.frames import Frame
from chatsite.swarm.messages import KEPT_BATCHES, Arrival, Item, Reader, Seen, read_data, write_data
from chatsite.swarm.summary import merge_seen
from chatsite.swarm.timings import Timings
from rooms.fanout.sockets import frame

STEPS = st.integers(0, 10**6)


def decode(payload: bytes, reader: Reader) -> list[Item]:
    """One message of the run in each frame, its serial and moment in the payload."""
    serial, sent_at = map(int, payload.split())
    return [Arrival(0, serial, reader.note(Place(0, serial, Token(0, serial)), sent_at, sent_at))]


@given(st.dictionaries(st.integers(1, 9), STEPS, min_size=1), st.lists(st.tuples(STEPS, STEPS), min_size=1))
def test_counting_by_batch_is_counting_each_delivery(sent: dict[int, int], receipts: list[tuple[int, int]]) -> None:
    """Whether a chunk came to many members at once or each message alone, the figures are the same."""
    together, alone = Timings(), Timings()
    first, second = Reader(decode), Reader(decode)
    batch = first.read(b"".join(frame(b"%d %d" % each, binary=True) for each in sent.items()))
    for at, _ in receipts:
        if not batch.receipts:
            together.fresh.append(batch)
        batch.receipts[at] = batch.receipts.get(at, 0) + 1
        for each in sent.items():
            (item,) = second.read(frame(b"%d %d" % each, binary=True)).items
            assert isinstance(item, Arrival)
            alone.add(item, at)
    together.count()
    assert together.delivered == alone.delivered == len(sent) * len(receipts)
    assert together.fan_out == alone.fan_out
    assert [latency.counts for latency in together.by_room.values()] == [
        latency.counts for latency in alone.by_room.values()
    ]
    assert first.seen == second.seen
    assert all(seen.last_at == max(at for at, _ in receipts) for seen in first.seen.values())


def test_what_was_counted_is_not_counted_again() -> None:
    timings, reader = Timings(), Reader(decode)
    batch = reader.read(frame(b"1 0", binary=True))
    batch.receipts[5] = 2
    timings.fresh.append(batch)
    timings.count()
    timings.count()
    assert (timings.delivered, batch.receipts) == (2, {})


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


@given(st.lists(st.tuples(st.integers(0, 3), STEPS, st.integers(0, 5))))
def test_the_last_member_of_all_processes_is_the_one_that_counts(parts: list[tuple[int, int, int]]) -> None:
    seen = [{Place(0, serial, Token(0, serial)): Seen(0, None, last, members)} for serial, last, members in parts]
    for place, merged in merge_seen(seen).items():
        mine = [(last, members) for serial, last, members in parts if serial == place.serial]
        assert merged.last_at == max(last for last, _ in mine)
        assert merged.members == sum(members for _, members in mine)
