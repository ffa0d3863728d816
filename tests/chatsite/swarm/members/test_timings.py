from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from chatsite.swarm.members.timings import Timings
from chatsite.swarm.wire.messages import Arrival, Reader
from rooms.fanout.sockets import frame
from tests.chatsite.swarm.wire.test_messages import decode

STEPS = st.integers(0, 10**6)


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
