"""The hub: each member gets each message once and in order, however slow it is and whatever is lost."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rooms.fanout.frames import LAGGING_MAX_BYTES, SHARED_RUN, FrameCache
from rooms.fanout.hub import STEP_MEMBERS, Hub, Member, Resources
from rooms.fanout.memory import Memory
from rooms.fanout.passes import Passes
from rooms.fanout.sockets import ENCODINGS, Frames, Framing
from rooms.log.directory import RoomRef
from rooms.log.entries import Entry
from rooms.protocol.wire import Format, Message
from tests.rooms.fanout.test_tail import entry

ROOM = RoomRef(1, "lobby", "abcdefgh")


class Peer:
    """A socket that takes batches while it is writable."""

    framing = Framing.PLAIN

    def __init__(self) -> None:
        self.batches: list[Frames] = []
        self.writable = True
        self.callbacks: list[Callable[[], None]] = []

    def write(self, batch: Frames) -> bool:
        if self.writable:
            self.batches.append(batch)
        return self.writable

    def reply(self, piece: bytes, *, binary: bool) -> None:
        raise AssertionError("the hub does not reply")

    def on_writable(self, callback: Callable[[], None]) -> None:
        self.callbacks.append(callback)

    def drain(self) -> None:
        self.writable = True
        callbacks, self.callbacks = self.callbacks, []
        for callback in callbacks:
            callback()

    @property
    def got(self) -> list[int]:
        messages = [json.loads(piece) for batch in self.batches for piece in batch]
        return [int(message["channelSerial"].rpartition("-")[2]) for message in messages]


class Store:
    """Stands where the reader stands, and answers at once."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def read(self, room: RoomRef, after: int, callback: Callable[[Any], None]) -> None:
        found = [entry for entry in self.entries if entry.serial > after][:5]
        callback((found, found[-1].serial if found else after))


def resources(store: Any = None, *, memory_bytes: int = 10**6, slice_seconds: float = 0.005) -> Resources:
    return Resources(
        passes=Passes(slice_seconds=slice_seconds),
        reader=store or Store(),
        memory=Memory(max_bytes=10**9),
        batches=FrameCache(max_bytes=10**6),
        room_memory_bytes=memory_bytes,
        pause_share=0.0,
        pause_seconds=0.0,
    )


def make_hub(store: Store | None = None, *, head: int = 0, memory_bytes: int = 10**6) -> Hub:
    return Hub(ROOM, resources(store, memory_bytes=memory_bytes), position=head)


def join(hub: Hub, *, after: int | None = None, echo: bool = True, connection_id: str = "me") -> tuple[Peer, Member]:
    peer = Peer()
    member = Member(
        socket=peer,
        encoding=ENCODINGS[Format.JSON, Framing.PLAIN],
        connection_id=connection_id,
        echo=echo,
        discontinue=lambda position: peer.batches.append((json.dumps({"channelSerial": f"lost-{position}"}).encode(),)),
    )
    hub.join(member, after=after)
    return peer, member


async def settle() -> None:
    """Let everything that is due on the loop happen."""
    for _ in range(8):
        await asyncio.sleep(0)


async def test_members_in_step_get_the_very_same_bytes() -> None:
    hub = make_hub()
    peers = [join(hub)[0] for _ in range(3)]
    hub.receive([entry(1), entry(2)])
    await settle()

    assert [peer.got for peer in peers] == [[1, 2]] * 3
    assert peers[0].batches[0] is peers[1].batches[0] is peers[2].batches[0]


async def test_a_member_that_joins_gets_only_what_comes_after() -> None:
    hub = make_hub()
    join(hub)
    hub.receive([entry(1)])
    peer, _ = join(hub)  # before the pass over the first one has begun
    hub.receive([entry(2)])
    await settle()

    assert peer.got == [2]


async def test_echo_false_keeps_only_the_members_own_messages_from_it() -> None:
    hub = make_hub()
    quiet, _ = join(hub, echo=False, connection_id="me")
    loud, _ = join(hub, connection_id="me")
    hub.receive([entry(1, author="me"), entry(2, author="other"), entry(3, author="me")])
    hub.receive([entry(4, author="me")])
    await settle()

    assert quiet.got == [2]
    assert loud.got == [1, 2, 3, 4]


async def test_a_lagging_member_keeps_a_cursor_and_catches_up_from_memory() -> None:
    hub = make_hub()
    slow, member = join(hub)
    fast, _ = join(hub)
    slow.writable = False
    for serial in range(1, 6):
        hub.receive([entry(serial)])
        await settle()

    assert (slow.got, member.position, len(slow.callbacks)) == ([], 0, 1)
    slow.drain()
    hub.receive([entry(6)])
    await settle()
    assert slow.got == fast.got == [1, 2, 3, 4, 5, 6]


async def test_a_lagging_member_that_falls_off_the_memory_is_told_and_goes_on() -> None:
    hub = make_hub(memory_bytes=300)
    slow, _ = join(hub)
    slow.writable = False
    for serial in range(1, 10):
        hub.receive([entry(serial)])
        await settle()
    slow.drain()
    hub.receive([entry(10)])
    await settle()

    assert slow.got == [9, 10]  # told of the discontinuity at 9, then 10
    assert b"lost-9" in slow.batches[0][0]  # type: ignore[operator]


async def test_who_resumes_from_before_the_memory_reads_from_the_store() -> None:
    store = Store()
    store.entries = [entry(serial) for serial in range(1, 21)]
    hub = make_hub(store, head=20)
    peer, _ = join(hub, after=3)
    hub.receive([entry(21)])
    await settle()

    assert peer.got == list(range(4, 22))


async def test_a_member_that_left_gets_nothing_more() -> None:
    hub = make_hub()
    peer, member = join(hub)
    hub.receive([entry(1)])
    hub.leave(member)
    hub.leave(member)
    await settle()

    assert (peer.got, hub.members) == ([], 0)


steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(1, 4)),
        st.tuples(st.just("lose"), st.integers(1, 3)),
        st.tuples(st.just("heal"), st.just(0)),
        st.tuples(st.just("block"), st.integers(0, 3)),
        st.tuples(st.just("drain"), st.integers(0, 3)),
        st.tuples(st.just("join"), st.integers(0, 30)),
        st.tuples(st.just("turn"), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(steps=steps, memory_bytes=st.sampled_from([500, 10**6]))
def test_every_member_gets_an_unbroken_run_or_is_told(steps: list[tuple[str, int]], memory_bytes: int) -> None:
    asyncio.run(run_steps(steps, memory_bytes))


async def run_steps(steps: list[tuple[str, int]], memory_bytes: int) -> None:
    store, head = Store(), 0
    hub = make_hub(store, memory_bytes=memory_bytes)
    peers: list[tuple[Peer, int]] = [(join(hub)[0], 0)]
    for kind, number in steps:
        if kind in ("publish", "lose"):
            new = [entry(head + place) for place in range(1, number + 1)]
            head += number
            store.entries += new
            if kind == "publish":
                hub.receive(list(reversed(new)))
        elif kind == "heal":
            hub.fill([found for found in store.entries if found.serial > hub.tail.position], head)
        elif kind == "block":
            peers[number % len(peers)][0].writable = False
        elif kind == "drain":
            peers[number % len(peers)][0].drain()
        elif kind == "join" and len(peers) < 6:
            after = min(number, hub.tail.position)
            peers.append((join(hub, after=after)[0], after))
        else:
            await settle()
    hub.fill([found for found in store.entries if found.serial > hub.tail.position], head)
    for _ in range(20):
        for peer, _ in peers:
            peer.drain()
        await settle()
    for peer, after in peers:
        check(peer, after, head)


def check(peer: Peer, after: int, head: int) -> None:
    """Each serial follows the one before it, except where the peer was told that some are missing."""
    position = after
    for batch in peer.batches:
        for piece in batch:
            assert isinstance(piece, bytes)
            epoch, _, serial = json.loads(piece)["channelSerial"].rpartition("-")
            assert int(serial) == position + 1 if epoch != "lost" else int(serial) >= position
            position = int(serial)
    assert position == head


@pytest.mark.parametrize("members", [1, 1000])
async def test_a_pass_gives_the_loop_its_turn(members: int) -> None:
    hub = Hub(ROOM, resources(slice_seconds=0.0), position=0)
    peers = [join(hub)[0] for _ in range(members)]
    hub.receive([entry(1)])
    turns = 0
    while peers[-1].got != [1]:
        await asyncio.sleep(0)
        turns += 1

    assert turns >= members // STEP_MEMBERS
    assert all(peer.got == [1] for peer in peers)


async def test_a_small_room_does_not_wait_for_a_large_one() -> None:
    shared = resources(slice_seconds=0.0)
    large, small = Hub(ROOM, shared, position=0), Hub(RoomRef(2, "small", "abcdefgh"), shared, position=0)
    many = [join(large)[0] for _ in range(STEP_MEMBERS * 20)]
    few = [join(small)[0] for _ in range(10)]
    large.receive([entry(1)])
    await asyncio.sleep(0)
    small.receive([entry(1)])
    while not few[-1].got:
        await asyncio.sleep(0)

    assert all(peer.got == [1] for peer in few)
    assert sum(bool(peer.got) for peer in many) <= 4 * STEP_MEMBERS


async def test_the_author_gets_its_message_before_all_others() -> None:
    hub = Hub(ROOM, resources(slice_seconds=0.0), position=0)
    others = [join(hub, connection_id=f"c{number}")[0] for number in range(STEP_MEMBERS * 3)]
    author, _ = join(hub, connection_id="author")
    hub.receive([entry(1, author="author")])
    await asyncio.sleep(0)

    assert author.got == [1]
    assert not others[-1].got


async def test_an_author_without_echo_gets_the_others_alone_when_the_log_outruns_the_memory_during_a_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rooms.fanout.hub.STEP_MEMBERS", 2)
    shared = resources(memory_bytes=250, slice_seconds=0.0)
    hub = Hub(ROOM, shared, position=0)
    for number in range(6):
        join(hub, connection_id=f"c{number}")
    quiet, member = join(hub, echo=False, connection_id="me")
    del hub._by_connection["me"]  # so that it is not the first one to be written to
    hub.receive([entry(1, author="other"), entry(2, author="me")])
    await asyncio.sleep(0)  # the pass has begun, and has not come to the last member
    assert not quiet.got
    hub.receive([entry(serial) for serial in range(3, 10)])
    while shared.passes.waiting:
        await asyncio.sleep(0)

    assert (quiet.got, member.position) == ([1], 2)


async def test_a_lagging_member_is_offered_little_at_once_and_the_same_bytes_as_others_that_lag() -> None:
    hub = make_hub(memory_bytes=10**9)
    slow = [join(hub)[0] for _ in range(3)]
    for place, peer in enumerate(slow):
        peer.writable = False
        hub.receive([entry(serial, size=300) for serial in range(hub.tail.position + 1, hub.tail.position + 6 + place)])
        await settle()
    hub.receive([entry(serial, size=300) for serial in range(hub.tail.position + 1, 1000)])
    await settle()
    for peer in slow:
        peer.drain()

    assert all(peer.got == list(range(1, 1000)) for peer in slow)
    late = [batch for batch in slow[0].batches if len(batch) > 1]
    assert max(map(len, late)) <= LAGGING_MAX_BYTES // 300
    assert len({id(batch) for peer in slow for batch in peer.batches[-10:]}) <= 12


async def test_a_pass_that_breaks_off_loses_nobody() -> None:
    hub = make_hub()

    class Broken(Peer):
        def write(self, batch: Frames) -> bool:
            raise RuntimeError("a fault in a server's socket")

    broken = Broken()
    encoding = ENCODINGS[Format.JSON, Framing.PLAIN]
    hub.join(
        Member(socket=broken, encoding=encoding, connection_id="b", echo=True, discontinue=lambda _: None), after=None
    )
    fine, _ = join(hub)
    hub.receive([entry(1)])
    await settle()
    fine.drain()
    hub.receive([entry(2)])
    await settle()
    fine.drain()

    assert fine.got == [1, 2]


async def test_who_was_not_reached_by_a_pass_that_broke_off_catches_up_in_the_next() -> None:
    hub = make_hub()

    class Broken(Peer):
        def write(self, batch: Frames) -> bool:
            raise RuntimeError("a fault in a server's socket")

        def on_writable(self, callback: Callable[[], None]) -> None:
            raise RuntimeError("another one")

    encoding = ENCODINGS[Format.JSON, Framing.PLAIN]
    hub.join(
        Member(socket=Broken(), encoding=encoding, connection_id="b", echo=True, discontinue=lambda _: None), after=None
    )
    fine, _ = join(hub)
    for serial in (1, 2):
        hub.receive([entry(serial)])
        await settle()
        fine.drain()

    assert fine.got == [1, 2]


async def test_resuming_in_a_room_that_was_deleted_ends() -> None:
    reads = 0

    class Nothing(Store):
        def read(self, room: RoomRef, after: int, callback: Callable[[Any], None]) -> None:
            nonlocal reads
            reads += 1
            assert reads < 10
            callback(([], after))

    hub = make_hub(Nothing(), head=20)
    peer, member = join(hub, after=3)

    assert (reads, member.position) == (1, 20)
    assert b"lost-20" in peer.batches[0][0]  # type: ignore[operator]


async def test_what_was_hidden_is_not_sent_from_memory() -> None:
    hub = make_hub()
    slow, _ = join(hub)
    slow.writable = False
    hub.receive([entry(1), entry(2)])
    await settle()
    hidden = Entry(room_id=1, room="lobby", serial=3, pk=1, wire=Message(id="m1", action=2, serial="1"), size=10)
    hub.receive([hidden])
    slow.drain()
    late, _ = join(hub, after=0)
    await settle()

    assert slow.got == late.got == [2, 3]
    assert not any(b"text 1" in piece for peer in (slow, late) for batch in peer.batches for piece in batch)  # type: ignore[operator]


async def test_what_was_hidden_out_of_turn_is_not_sent_from_memory() -> None:
    hub = make_hub()
    hub.receive([entry(1), entry(2)])
    hub.fill([entry(SHARED_RUN)], SHARED_RUN)
    await settle()
    join(hub, after=0)  # so that what comes up to here is kept, encoded
    end = SHARED_RUN
    hub.receive([Entry(room_id=1, room="lobby", serial=end + 2, pk=1, wire=Message(id="m1", action=2), size=10)])
    hub.receive([entry(end + 1)])  # closes the hole before it
    late, _ = join(hub, after=0)
    await settle()

    assert late.got == [2, end, end + 1, end + 2]
    assert not any(b'text 1"' in piece for batch in late.batches for piece in batch)  # type: ignore[operator]


async def test_a_hub_that_is_closed_while_it_is_healed_keeps_no_memory() -> None:
    shared = resources()
    hub = Hub(ROOM, shared, position=0)
    hub.receive([entry(2)])
    hub.close()
    hub.fill([entry(1), entry(2)], 2)  # what had been asked for before

    assert shared.memory.used == 0
    assert hub.tail.position == 0
