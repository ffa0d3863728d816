"""From what the processes of a run saw to its report. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from chatsite.swarm.endpoint import EndpointTally
from chatsite.swarm.findings import Findings, Place, check
from chatsite.swarm.killing import Kill
from chatsite.swarm.latency import STEPS_PER_SECOND, Latency
from chatsite.swarm.messages import Seen
from chatsite.swarm.plan import Plan
from chatsite.swarm.publishers import Published
from chatsite.swarm.report import Event, Killed, Report, Second, SlowReaders, Spread, WorstRoom
from chatsite.swarm.reviewed import report_review
from chatsite.swarm.tally import RoomTally, SlowTally, Tally
from chatsite.swarm.timings import STEPS_PER_MILLISECOND

HALF_MILLISECOND = STEPS_PER_MILLISECOND // 2  # a timestamp says that it is not later than the next millisecond


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What was measured outside of the wire. `server_*` is None if no process of the server was named or found."""

    started: float  # monotonic seconds
    publish_seconds: float
    swarm_memory_bytes: int
    swarm_processes: int
    clock_offset: float | None = None  # the server's epoch seconds minus monotonic ones
    server_processes: int = 0
    server_cpu_seconds: float | None = None
    server_memory_bytes: int | None = None  # by how much the members made it grow
    kill: Kill | None = None
    worker_kill: Kill | None = None
    endpoint: EndpointTally | None = None
    counters: dict[str, int] | None = None


def compile_report(plan: Plan, published: Sequence[Published], tallies: Sequence[Tally], usage: Usage) -> Report:
    """Put together what the processes of a run saw."""
    seen = merge_seen(tally.seen for tally in tallies)
    rooms = _merge_rooms(tallies)
    slow = SlowTally()
    for tally in tallies:
        slow.add(tally.slow)
    acknowledged = [sent for each in published for sent in each.acknowledged]
    by_room = check(seen.keys(), acknowledged, [sent for each in published for sent in each.rejected])
    if not plan.members:
        by_room = {}  # nobody was there to receive anything
    findings = sum(by_room.values(), start=Findings())
    whole = _add_up(rooms)
    discontinuities = sum(tally.discontinuities for tally in tallies)
    attached = sum(tally.attached for tally in tallies)
    delivered = sum(tally.delivered for tally in tallies)
    refused = sum(each.refused for each in published)
    killed = _killed(usage, tallies)
    connect_seconds = _connect_seconds(tallies)
    publish_ms, fan_out_ms = _hops(seen, tallies, usage.clock_offset)
    wrong = whole.lost + whole.doubled + whole.late + whole.strayed + discontinuities + slow.lost
    own_cpu = sum(tally.cpu_seconds for tally in tallies) + sum(each.cpu_seconds for each in published)
    unanswered = plan.total - len(acknowledged) - refused
    all_back = killed is None or killed.seconds_until_all_back is not None
    reviewed = report_review(plan, usage.endpoint, seen, usage.started)
    unreviewed = reviewed is not None and bool(reviewed.unasked or reviewed.changed_ids)
    return Report(
        ok=not (wrong or findings or unanswered or unreviewed) and attached == plan.members and all_back,
        members=plan.members,
        rooms=plan.rooms,
        attached=attached,
        connected_per_second=round(attached / connect_seconds, 1) if connect_seconds else 0.0,
        connect_seconds=round(connect_seconds, 3),
        published=sum(each.published for each in published),
        acknowledged=len(acknowledged),
        refused=refused,
        published_per_second=round(len(acknowledged) / usage.publish_seconds, 1),
        delivered=delivered,
        expected=whole.expected,
        lost=whole.lost,
        duplicated=whole.doubled + findings.twice,
        out_of_order=whole.late + findings.disordered,
        misdirected=whole.strayed,
        acknowledged_but_missing=findings.missing,
        rejected_but_published=findings.leaked,
        divergent=findings.divergent,
        discontinuities=discontinuities,
        churned=sum(tally.churned for tally in tallies),
        reconnects=sum(tally.reconnects for tally in tallies) + sum(each.reconnects for each in published),
        deliveries_per_second=round(delivered / usage.publish_seconds, 1),
        latency_ms=Spread.of(whole.latency),
        ack_latency_ms=Spread.of(Latency.merged(each.accept for each in published)),
        publish_ms=publish_ms,
        fan_out_ms=fan_out_ms,
        everyone_ms=Spread.of(_everyone(seen)),
        resume_ms=Spread.of(Latency.merged(tally.resume for tally in tallies)),
        catch_up_ms=Spread.of(Latency.merged(tally.catch_up for tally in tallies)),
        worst_room=_worst(plan, rooms, by_room),
        slow_readers=_slow(slow),
        killed=killed,
        killed_worker=None if usage.worker_kill is None else usage.worker_kill.name,
        reviewed=reviewed,
        counters=usage.counters,
        server_processes=usage.server_processes,
        server_cpu_microseconds_per_delivery=_microseconds(usage.server_cpu_seconds, delivered + slow.delivered),
        server_cpu_microseconds_per_message=_microseconds(usage.server_cpu_seconds, len(acknowledged)),
        server_memory_bytes_per_member=_whole_per(usage.server_memory_bytes, attached),
        swarm_processes=usage.swarm_processes,
        swarm_cpu_microseconds_per_delivery=_microseconds(own_cpu, delivered + slow.delivered),
        swarm_cpu_microseconds_per_message=_microseconds(own_cpu, len(acknowledged)),
        swarm_memory_bytes_per_member=_whole_per(usage.swarm_memory_bytes, attached),
        behind_ms=round(max((each.behind_seconds for each in published), default=0.0) * 1000, 1),
        problems=dict(_problems(published, tallies).most_common()),
        events=_events(plan, killed),
        series=_series(published, tallies, seen, usage.started),
    )


def _problems(published: Sequence[Published], tallies: Sequence[Tally]) -> Counter[str]:
    problems = sum((tally.problems for tally in tallies), Counter[str]())
    return sum((each.problems for each in published), problems)


def merge_seen(parts: Iterable[Mapping[Place, Seen]]) -> dict[Place, Seen]:
    """Return what the members of all processes received, as one."""
    merged: dict[Place, Seen] = {}
    for part in parts:
        for place, seen in part.items():
            known = merged.setdefault(place, seen)
            if known is not seen:
                known.last_at = max(known.last_at, seen.last_at)
                known.members += seen.members
    return merged


def _merge_rooms(tallies: Sequence[Tally]) -> dict[int, RoomTally]:
    rooms: dict[int, RoomTally] = {}
    for tally in tallies:
        for room, part in tally.rooms.items():
            rooms.setdefault(room, RoomTally()).add(part)
    return rooms


def _add_up(rooms: Mapping[int, RoomTally]) -> RoomTally:
    whole = RoomTally()
    for room in rooms.values():
        whole.add(room)
    return whole


def _connect_seconds(tallies: Sequence[Tally]) -> float:
    if not tallies:
        return 0.0
    return max(tally.attached_at for tally in tallies) - min(tally.opened_at for tally in tallies)


def _everyone(seen: Mapping[Place, Seen]) -> Latency:
    """Return how long each message took until the last of the members that were there had it."""
    latency = Latency()
    for each in seen.values():
        if each.members:
            latency.add_steps(each.last_at - each.sent_at)
    return latency


def _hops(seen: Mapping[Place, Seen], tallies: Sequence[Tally], offset: float | None) -> tuple[Spread, Spread]:
    """Return the two hops that the server's timestamp parts, publish and fan-out.

    Where the clocks' difference is not known, the quickest message is taken to have arrived at once.
    """
    publish, fan_out = Latency(), Latency()
    raw = [
        each.timestamp * STEPS_PER_MILLISECOND + HALF_MILLISECOND - each.sent_at
        for each in seen.values()
        if each.timestamp is not None
    ]
    if raw:
        difference = min(raw) if offset is None else round(offset * STEPS_PER_SECOND)
        for took in raw:
            publish.add_steps(took - difference)
        for tally in tallies:
            for took, times in tally.fan_out.items():
                fan_out.add_steps(took - HALF_MILLISECOND + difference, times)
    return Spread.of(publish), Spread.of(fan_out)


def _worst(plan: Plan, rooms: Mapping[int, RoomTally], by_room: Mapping[int, Findings]) -> WorstRoom | None:
    """Return the room with most faults; where none has any, the one with the highest p99."""
    found = [(room, tally, by_room.get(room, Findings())) for room, tally in rooms.items()]
    if not found:
        return None

    def badness(each: tuple[int, RoomTally, Findings]) -> tuple[int, float]:
        _, tally, findings = each
        faults = findings.missing + findings.twice + findings.disordered + findings.divergent + findings.leaked
        return tally.lost + tally.doubled + tally.late + tally.strayed + faults, tally.latency.percentile(0.99) or 0.0

    room, tally, findings = max(found, key=badness)
    return WorstRoom(
        name=plan.room_name(room),
        members=tally.members,
        lost=tally.lost,
        duplicated=tally.doubled + findings.twice,
        out_of_order=tally.late + findings.disordered,
        acknowledged_but_missing=findings.missing,
        latency_ms=Spread.of(tally.latency),
    )


def _slow(slow: SlowTally) -> SlowReaders | None:
    if not slow.members:
        return None
    return SlowReaders(**{name: getattr(slow, name) for name in SlowReaders.__struct_fields__})


def _killed(usage: Usage, tallies: Sequence[Tally]) -> Killed | None:
    if (kill := usage.kill) is None:
        return None
    cut = sum(moment >= kill.at for tally in tallies for moment in tally.cut_at)
    back = [moment - kill.at for tally in tallies for moment in tally.back_at if moment >= kill.at]
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


def _series(
    published: Sequence[Published], tallies: Sequence[Tally], seen: Mapping[Place, Seen], started: float
) -> list[Second]:
    live: defaultdict[int, list[Latency]] = defaultdict(list)
    accept: defaultdict[int, list[Latency]] = defaultdict(list)
    everyone: defaultdict[int, Latency] = defaultdict(Latency)
    for tally in tallies:
        for second, latency in tally.by_second.items():
            live[second].append(latency)
    for each in published:
        for second, latency in each.accept_by_second.items():
            accept[second].append(latency)
    first = int(started * STEPS_PER_SECOND)
    for each_seen in seen.values():
        if each_seen.members:
            second = (each_seen.sent_at - first) // STEPS_PER_SECOND
            everyone[second].add_steps(each_seen.last_at - each_seen.sent_at)
    return [
        Second(
            second=second,
            delivered=len(merged := Latency.merged(live[second])),
            latency_ms=Spread.of(merged),
            everyone_ms=Spread.of(everyone[second]),
            ack_ms=Latency.merged(accept[second]).percentile(0.99),
        )
        for second in sorted({*live, *accept})
        if second >= 0
    ]


def _microseconds(seconds: float | None, count: int) -> float | None:
    return None if seconds is None or not count else round(seconds / count * 1_000_000, 2)


def _whole_per(size: int | None, count: int) -> int | None:
    return None if size is None or not count else round(size / count)
