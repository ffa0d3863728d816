"""What a run found, for people and for programs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from chatsite.swarm.latency import Latency

PROBLEMS_SHOWN = 5
BEHIND_MS = 50  # a swarm that publishes later than this measures itself


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds; null if nothing was measured."""

    p50: float | None
    p95: float | None
    p99: float | None
    max: float | None

    @classmethod
    def of(cls, latency: Latency) -> Spread:
        """Return the percentiles of a histogram."""
        shares = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "max": 1.0}
        return cls(**{name: latency.percentile(share) for name, share in shares.items()})

    def __str__(self) -> str:
        found = [f"{name} {value:.1f}" for name, value in msgspec.structs.asdict(self).items() if value is not None]
        return " · ".join(found) + " ms" if found else "not measured"


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


class SlowReaders(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What became of the members that read slowly on purpose."""

    members: int
    delivered: int
    caught_up: int  # members that had everything, or were told what not, when they read at full speed in the end
    cut_off: int  # times
    discontinuities: int  # times that one was told that it misses something
    skipped: int  # deliveries that they were told to miss
    lost: int  # deliveries missing without a word, twice, or out of order


class Killed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the end of one gateway did."""

    gateway: str
    at: float  # seconds since publishing began
    cut: int  # members that lost their connection then or later
    back: int
    seconds_until_all_back: float | None  # null: not all came back


class Outage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How what gathered while the Lambda was down was worked off. Seconds since it was back."""

    seconds: float  # that it was down
    backlog: int  # messages published before it was back and visible only after
    first_after_seconds: float | None = None
    drain_seconds: float | None = None  # until the last of them was visible
    drained_per_second: float | None = None  # messages, new ones too, from the first of them to the last


class Reviewed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the swarm's own Lambda saw."""

    calls: int
    messages: int
    unasked: int  # messages that were published without a question
    repeated: int  # messages that it was asked about more than once
    changed_ids: int  # of those, how many came under another webhook id
    messages_per_second: float
    own_ms: Spread  # from a question's arrival to its answer
    overhead_ms: Spread  # from publish to the last member's receipt, without that
    outage: Outage | None


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One run. Each of the counts from `lost` to `divergent` is 0 for a server that keeps its promises.

    Slow readers are told of apart: nothing but `members` and `attached` counts them.
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
    lost: int  # deliveries that a member should have had
    duplicated: int  # deliveries that a member had before, and messages published twice
    out_of_order: int  # deliveries after a later one, and messages after a later one of their publisher
    misdirected: int  # deliveries of another room's messages
    acknowledged_but_missing: int  # messages
    rejected_but_published: int  # messages
    divergent: int  # serials under which members saw different messages
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
    catch_up_ms: Spread  # from publish to receipt, of what was missed while away
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

    def as_dict(self) -> dict[str, Any]:
        """Return the shape that --json prints."""
        shape = msgspec.to_builtins(self)
        assert isinstance(shape, dict)
        return shape

    def lines(self) -> list[str]:
        """Return the report for people."""
        rows = [*self._rows_of_counts(), *self._rows_of_latencies(), *self._rows_of_costs()]
        problems = [("problem", f"{count} x {text}") for text, count in list(self.problems.items())[:PROBLEMS_SHOWN]]
        end = "NOT OK" if not self.ok else f"ok, but {self.refused} were refused" if self.refused else "ok"
        return [*(f"{name:<12}{text}" for name, text in [*rows, *problems]), end]

    def _rows_of_counts(self) -> list[tuple[str, str]]:
        rows = [
            (
                "members",
                f"{self.attached} of {self.members} attached in {self.connect_seconds:.1f} s "
                f"({self.connected_per_second:.0f}/s), {self.churned} left and came back, {self.reconnects} reconnects",
            ),
            (
                "published",
                f"{self.published} ({rate_of(self.published_per_second)}/s), acknowledged {self.acknowledged}, "
                f"refused {self.refused}",
            ),
            ("delivered", f"{self.delivered} of {self.expected} ({self.deliveries_per_second:.0f}/s)"),
            (
                "wrong",
                f"{self.lost} lost, {self.duplicated} duplicated, {self.out_of_order} out of order, "
                f"{self.misdirected} misdirected, {self.acknowledged_but_missing} acknowledged but missing, "
                f"{self.rejected_but_published} rejected but published, {self.divergent} divergent, "
                f"{self.discontinuities} discontinuities",
            ),
        ]
        if (room := self.worst_room) is not None and self.rooms > 1:
            wrong = f"{room.lost} lost, {room.duplicated} duplicated, {room.out_of_order} out of order"
            rows.append(("worst room", f"{room.name} of {self.rooms}: {wrong}, {room.latency_ms}"))
        if (slow := self.slow_readers) is not None:
            rows.append(
                (
                    "slow",
                    f"{slow.caught_up} of {slow.members} caught up, {slow.cut_off} cut off, "
                    f"{slow.discontinuities} told of a discontinuity ({slow.skipped} skipped), {slow.lost} lost",
                )
            )
        if (killed := self.killed) is not None:
            seconds = killed.seconds_until_all_back
            back = f"all back after {seconds:.1f} s" if seconds is not None else f"{killed.back} came back"
            rows.append(("killed", f"{killed.gateway} at {killed.at:.1f} s: {killed.cut} cut off, {back}"))
        rows += _rows_of_review(self.reviewed) if self.reviewed is not None else []
        if self.killed_worker is not None:
            rows.append(("killed", f"{self.killed_worker}: a worker"))
        if self.counters:
            rows.append(("gateways", ", ".join(f"{name} {count}" for name, count in self.counters.items())))
        return rows

    def _rows_of_latencies(self) -> list[tuple[str, str]]:
        rows = [
            ("accept", f"{self.ack_latency_ms} (publish to acknowledgement)"),
            ("publish", f"{self.publish_ms} (publish to the server's timestamp)"),
            ("fan-out", f"{self.fan_out_ms} (timestamp to receipt)"),
            ("latency", f"{self.latency_ms} (publish to receipt)"),
            ("everyone", f"{self.everyone_ms} (publish until the last member had it)"),
            ("resume", f"{self.resume_ms} (connecting again to attached)"),
            ("catch-up", f"{self.catch_up_ms} (publish to receipt, of what was missed while away)"),
        ]
        return [(name, text) for name, text in rows if not text.startswith("not measured")]

    def _rows_of_costs(self) -> list[tuple[str, str]]:
        server = [
            (self.server_cpu_microseconds_per_delivery, "µs CPU per delivery"),
            (self.server_cpu_microseconds_per_message, "µs CPU per message"),
            (self.server_memory_bytes_per_member, "bytes per member"),
        ]
        swarm = [
            (self.swarm_cpu_microseconds_per_delivery, "µs CPU per delivery"),
            (self.swarm_cpu_microseconds_per_message, "µs CPU per message"),
            (self.swarm_memory_bytes_per_member, "bytes per member"),
        ]
        rows = [
            ("server", f"{_known(server)} ({self.server_processes} processes)"),
            ("swarm", f"{_known(swarm)} ({self.swarm_processes} processes)"),
        ]
        if self.behind_ms > BEHIND_MS:
            text = f"the swarm itself was {self.behind_ms:.0f} ms late with a message: the machine or a core is full"
            rows.append(("behind", f"{text}; latencies are the swarm's as well"))
        return rows


def _rows_of_review(review: Reviewed) -> list[tuple[str, str]]:
    rows = [
        (
            "review",
            f"{review.messages} messages in {review.calls} calls ({rate_of(review.messages_per_second)} messages/s), "
            f"{review.unasked} never asked about, {review.repeated} repeated, {review.changed_ids} under another id",
        ),
        ("lambda", f"{review.own_ms} (its own time)"),
        ("overhead", f"{review.overhead_ms} (publish to the last member's receipt, without the lambda's own time)"),
    ]
    if (outage := review.outage) is not None:
        text = f"down for {outage.seconds:g} s, {outage.backlog} messages waited"
        if outage.drain_seconds is not None:
            text += (
                f"; the first came {outage.first_after_seconds:g} s after it was back, the last after "
                f"{outage.drain_seconds:g} s ({rate_of(outage.drained_per_second or 0)}/s)"
            )
        rows.append(("outage", text))
    return rows


def rate_of(per_second: float) -> str:
    """Return a rate for people: a slow one with a decimal."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:,.1f}"


def _known(values: Sequence[tuple[float | None, str]]) -> str:
    return ", ".join(f"{value:g} {unit}" for value, unit in values if value is not None) or "not measured"
