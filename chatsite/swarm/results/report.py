"""The report of a run: its figures, as --json prints them, and how they follow from what the processes saw. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from chatsite.swarm.plan import Plan
from chatsite.swarm.results.findings import check
from chatsite.swarm.results.latency import STEPS_PER_SECOND, Latency, Spread
from chatsite.swarm.results.review import Reviewed, review_of
from chatsite.swarm.results.tally import Faults, Published, RoomTally, Seen, SlowReaders, Tally, Usage

STEPS_PER_MILLISECOND = STEPS_PER_SECOND // 1000
HALF_MILLISECOND = STEPS_PER_MILLISECOND // 2  # a timestamp says that it is not later than the next millisecond


class Second(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The messages published in one second. Milliseconds; null if there were none."""

    second: int
    delivered: int
    latency_ms: Spread
    everyone_ms: Spread  # until all members had one, by message
    ack_ms: float | None  # p99


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was done to the server or the members, in seconds since publishing began."""

    at: float
    text: str


class WorstRoom(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The room with most faults, and among those the one with the highest p99."""

    name: str
    members: int
    lost: int
    duplicated: int
    out_of_order: int
    acknowledged_but_missing: int
    latency_ms: Spread


class Killed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The end of one gateway and the members that it cut off."""

    gateway: str
    at: float  # seconds since publishing began
    cut: int  # members that lost their connection then or later
    back: int
    seconds_until_all_back: float | None  # null: not all came back


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One run. Each of the counts from `lost` to `divergent` is 0 for a server that keeps its promises.

    Slow readers have figures of their own: only `members` and `attached` count them too.
    """

    ok: bool
    members: int
    rooms: int
    attached: int
    connected_per_second: float
    connect_seconds: float
    published: int
    acknowledged: int
    refused: int
    published_per_second: float
    delivered: int
    expected: int
    lost: int  # this one and the next six: see Faults
    duplicated: int
    out_of_order: int
    misdirected: int
    acknowledged_but_missing: int
    rejected_but_published: int
    divergent: int
    discontinuities: int  # how often a member was told that it misses something
    churned: int  # members that left on purpose and came back
    reconnects: int
    deliveries_per_second: float
    latency_ms: Spread  # from publish to receipt
    ack_latency_ms: Spread  # from publish to ACK
    publish_ms: Spread  # from publish to the server's timestamp
    fan_out_ms: Spread  # from the server's timestamp to receipt
    everyone_ms: Spread  # from publish until the last member had it, by message
    resume_ms: Spread  # from opening a connection again to being attached again
    catch_up_ms: Spread  # from publish to receipt, of messages missed while away
    worst_room: WorstRoom | None
    slow_readers: SlowReaders | None
    killed: Killed | None
    killed_worker: str | None
    reviewed: Reviewed | None
    counters: dict[str, int] | None  # by how much the gateways' own grew
    server_processes: int
    server_cpu_microseconds_per_delivery: float | None
    server_cpu_microseconds_per_message: float | None
    server_memory_bytes_per_member: int | None
    swarm_processes: int
    swarm_cpu_microseconds_per_delivery: float | None
    swarm_cpu_microseconds_per_message: float | None
    swarm_memory_bytes_per_member: int | None
    behind_ms: float  # how late the swarm itself was with a message at worst
    problems: dict[str, int]
    events: list[Event]
    series: list[Second]


def compile_report(plan: Plan, published: Sequence[Published], tallies: Sequence[Tally], usage: Usage) -> Report:
    """Return the report on a run from the figures of all its processes, which are used up."""
    sent, tally = Published.total(published), Tally.total(tallies)
    # Without members nobody was there to receive anything.
    found = check(tally.seen.keys(), sent.acknowledged, sent.rejected) if plan.members else {}
    whole = RoomTally.total(tally.rooms.values())
    faults = Faults.total([whole.faults, *found.values()])
    killed = _killed(usage, tally)
    reviewed = review_of(plan, usage.endpoint, tally.seen, usage.started) if usage.endpoint is not None else None
    wrong = faults.count + tally.discontinuities + tally.slow.lost + plan.total - len(sent.acknowledged) - sent.refused
    unreviewed = reviewed is not None and (reviewed.unasked or reviewed.changed_ids)
    all_back = killed is None or killed.seconds_until_all_back is not None
    connecting = max(0.0, tally.attached_at - tally.opened_at)
    publish_ms, fan_out_ms = _hops(tally, usage.clock_offset)
    deliveries, messages = tally.delivered + tally.slow.delivered, len(sent.acknowledged)
    return Report(
        ok=not wrong and not unreviewed and all_back and tally.attached == plan.members,
        members=plan.members,
        rooms=plan.rooms,
        attached=tally.attached,
        connected_per_second=round(tally.attached / connecting, 1) if connecting else 0.0,
        connect_seconds=round(connecting, 3),
        published=sent.published,
        acknowledged=messages,
        refused=sent.refused,
        published_per_second=round(messages / usage.publish_seconds, 1),
        delivered=tally.delivered,
        expected=whole.expected,
        **msgspec.structs.asdict(faults),
        discontinuities=tally.discontinuities,
        churned=tally.churned,
        reconnects=tally.reconnects + sent.reconnects,
        deliveries_per_second=round(tally.delivered / usage.publish_seconds, 1),
        latency_ms=whole.latency.spread(),
        ack_latency_ms=sent.accept.spread(),
        publish_ms=publish_ms,
        fan_out_ms=fan_out_ms,
        everyone_ms=_until_everyone(tally.seen.values()).spread(),
        resume_ms=tally.resume.spread(),
        catch_up_ms=tally.catch_up.spread(),
        worst_room=_worst(plan, tally.rooms, found),
        slow_readers=tally.slow if tally.slow.members else None,
        killed=killed,
        killed_worker=usage.worker_kill.name if usage.worker_kill is not None else None,
        reviewed=reviewed,
        counters=usage.counters,
        server_processes=usage.server_processes,
        **_costs("server", usage.server_cpu_seconds, deliveries, messages),
        server_memory_bytes_per_member=_per(usage.server_memory_bytes, tally.attached),
        swarm_processes=usage.swarm_processes,
        **_costs("swarm", tally.cpu_seconds + sent.cpu_seconds, deliveries, messages),
        swarm_memory_bytes_per_member=_per(usage.swarm_memory_bytes, tally.attached),
        behind_ms=round(sent.behind_seconds * 1000, 1),
        problems=dict((tally.problems + sent.problems).most_common()),
        events=_events(plan, killed),
        series=_series(sent, tally, usage.started),
    )


def _hops(tally: Tally, offset: float | None) -> tuple[Spread, Spread]:
    """Return the times before and after the server's timestamp, corrected for the difference of the clocks.

    Where that is not known, the quickest message is taken to have arrived at once.
    """
    publish, fan_out = Latency(), Latency()
    raw = [
        each.timestamp * STEPS_PER_MILLISECOND + HALF_MILLISECOND - each.sent_at
        for each in tally.seen.values()
        if each.timestamp is not None
    ]
    if raw:
        difference = min(raw) if offset is None else round(offset * STEPS_PER_SECOND)
        for took in raw:
            publish.add_steps(took - difference)
        for took, times in tally.fan_out.items():
            fan_out.add_steps(took - HALF_MILLISECOND + difference, times)
    return publish.spread(), fan_out.spread()


def _until_everyone(messages: Iterable[Seen]) -> Latency:
    """Return how long each message took until the last of the members that were there had it."""
    latency = Latency()
    for each in messages:
        if each.members:
            latency.add_steps(each.last_at - each.sent_at)
    return latency


def _worst(plan: Plan, rooms: Mapping[int, RoomTally], found: Mapping[int, Faults]) -> WorstRoom | None:
    for room, faults in found.items():
        if room in rooms:
            rooms[room].faults += faults
    if not rooms:
        return None
    worst = max(rooms, key=lambda room: (rooms[room].faults.count, rooms[room].latency.percentile(0.99) or 0.0))
    tally = rooms[worst]
    return WorstRoom(
        name=plan.room_name(worst),
        members=tally.members,
        lost=tally.faults.lost,
        duplicated=tally.faults.duplicated,
        out_of_order=tally.faults.out_of_order,
        acknowledged_but_missing=tally.faults.acknowledged_but_missing,
        latency_ms=tally.latency.spread(),
    )


def _killed(usage: Usage, tally: Tally) -> Killed | None:
    if (kill := usage.kill) is None:
        return None
    cut = sum(moment >= kill.at for moment in tally.cut_at)
    back = [moment - kill.at for moment in tally.back_at if moment >= kill.at]
    return Killed(
        gateway=kill.name,
        at=round(kill.at - usage.started, 3),
        cut=cut,
        back=len(back),
        seconds_until_all_back=round(max(back, default=0.0), 3) if len(back) == cut else None,
    )


def _events(plan: Plan, killed: Killed | None) -> list[Event]:
    events = []
    if plan.churn:
        events.append(Event(at=0.0, text=f"{plan.churn:g} % leave each second"))
        events.append(Event(at=plan.seconds, text="nobody leaves any more"))
    if killed is not None:
        events.append(Event(at=killed.at, text=f"{killed.gateway} killed"))
        if killed.seconds_until_all_back:
            events.append(Event(at=round(killed.at + killed.seconds_until_all_back, 3), text="all back"))
    return sorted(events, key=lambda event: event.at)


def _series(sent: Published, tally: Tally, started: float) -> list[Second]:
    messages: defaultdict[int, list[Seen]] = defaultdict(list)
    for each in tally.seen.values():
        messages[(each.sent_at - int(started * STEPS_PER_SECOND)) // STEPS_PER_SECOND].append(each)
    return [
        Second(
            second=second,
            delivered=len(live := tally.by_second.get(second, Latency())),
            latency_ms=live.spread(),
            everyone_ms=_until_everyone(messages[second]).spread(),
            ack_ms=sent.accept_by_second.get(second, Latency()).percentile(0.99),
        )
        for second in sorted({*tally.by_second, *sent.accept_by_second})
        if second >= 0
    ]


def _costs(of: str, cpu_seconds: float | None, deliveries: int, messages: int) -> dict[str, Any]:
    counts = {"delivery": deliveries, "message": messages}
    return {
        f"{of}_cpu_microseconds_per_{name}": round(cpu_seconds / count * 1_000_000, 2)
        if cpu_seconds is not None and count
        else None
        for name, count in counts.items()
    }


def _per(size: int | None, count: int) -> int | None:
    return None if size is None or not count else round(size / count)
