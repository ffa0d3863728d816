"""What a run found, for people and for programs. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from chatsite.swarm.crowd import Tally
from chatsite.swarm.findings import Place, check
from chatsite.swarm.latency import Latency
from chatsite.swarm.plan import Plan
from chatsite.swarm.publishers import Published

PROBLEMS_SHOWN = 5


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
        return " · ".join(f"{name} {value:.1f}" for name, value in msgspec.structs.asdict(self).items() if value)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured outside of the wire. `server_*` is null if no process of the server was named or found."""

    connect_seconds: float
    publish_seconds: float
    swarm_cpu_seconds: float
    server_processes: int = 0
    server_cpu_seconds: float | None = None
    server_memory_bytes: int | None = None  # how much the members made it grow


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One run. Each of the counts from `lost` to `divergent` is 0 for a server that keeps its promises."""

    ok: bool
    members: int
    attached: int
    connected_per_second: float
    connect_seconds: float
    published: int
    acknowledged: int
    refused: int
    delivered: int
    expected: int
    lost: int  # deliveries that a member should have had
    duplicated: int  # deliveries that a member had before, and messages published twice
    out_of_order: int  # deliveries after a later one, and messages after a later one of their publisher
    acknowledged_but_missing: int  # messages
    rejected_but_published: int  # messages
    divergent: int  # serials under which members saw different messages
    discontinuities: int  # how often a member was told that it misses something
    reconnects: int
    deliveries_per_second: float
    latency_ms: Spread  # from publish to receipt
    ack_latency_ms: Spread  # from publish to ACK
    server_processes: int
    server_cpu_microseconds_per_delivery: float | None
    server_memory_bytes_per_member: int | None
    swarm_cpu_microseconds_per_delivery: float | None
    problems: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """Return the shape that --json prints."""
        shape = msgspec.to_builtins(self)
        assert isinstance(shape, dict)
        return shape

    def lines(self) -> list[str]:
        """Return the report for people."""
        cpu, memory = self.server_cpu_microseconds_per_delivery, self.server_memory_bytes_per_member
        own = self.swarm_cpu_microseconds_per_delivery
        return [
            f"members     {self.attached} of {self.members} attached in {self.connect_seconds:.1f} s "
            f"({self.connected_per_second:.0f}/s), {self.reconnects} reconnects",
            f"published   {self.published}, acknowledged {self.acknowledged}, refused {self.refused}",
            f"delivered   {self.delivered} of {self.expected} ({self.deliveries_per_second:.0f}/s)",
            f"wrong       {self.lost} lost, {self.duplicated} duplicated, {self.out_of_order} out of order, "
            f"{self.acknowledged_but_missing} acknowledged but missing, "
            f"{self.rejected_but_published} rejected but published, {self.divergent} divergent, "
            f"{self.discontinuities} discontinuities",
            f"latency     {self.latency_ms} ms (publish to receipt)",
            f"            {self.ack_latency_ms} ms (publish to acknowledgement)",
            f"server      {_unit(cpu, 'µs CPU per delivery')}, {_unit(memory, 'bytes per member')} "
            f"({self.server_processes} processes)",
            f"swarm       {_unit(own, 'µs CPU per delivery')}",
            *(f"problem     {count} x {text}" for text, count in list(self.problems.items())[:PROBLEMS_SHOWN]),
            "ok" if self.ok else "NOT OK",
        ]


def compile_report(plan: Plan, published: Published, tallies: Sequence[Tally], usage: Usage) -> Report:
    """Put together what the processes of a run saw."""
    places = set[Place]().union(*(tally.places for tally in tallies))
    findings = check(places, published.acknowledged, published.rejected)
    total = {name: sum(getattr(tally, name) for tally in tallies) for name in COUNTS}
    delivered, attached = total["delivered"], total["attached"]
    problems = sum((tally.problems for tally in tallies), published.problems)
    wrong = total["lost"] + total["doubled"] + total["late"] + total["discontinuities"]
    unanswered = plan.total - len(published.acknowledged) - published.refused
    return Report(
        ok=not (wrong or findings or unanswered) and attached == plan.members,
        members=plan.members,
        attached=attached,
        connected_per_second=round(attached / usage.connect_seconds, 1) if usage.connect_seconds else 0.0,
        connect_seconds=round(usage.connect_seconds, 3),
        published=published.published,
        acknowledged=len(published.acknowledged),
        refused=published.refused,
        delivered=delivered,
        expected=total["expected"],
        lost=total["lost"],
        duplicated=total["doubled"] + findings.twice,
        out_of_order=total["late"] + findings.disordered,
        acknowledged_but_missing=findings.missing,
        rejected_but_published=findings.leaked,
        divergent=findings.divergent,
        discontinuities=total["discontinuities"],
        reconnects=total["reconnects"] + published.reconnects,
        deliveries_per_second=round(delivered / usage.publish_seconds, 1) if usage.publish_seconds else 0.0,
        latency_ms=Spread.of(Latency.merged(Latency(tally.latency) for tally in tallies)),
        ack_latency_ms=Spread.of(Latency(published.latency)),
        server_processes=usage.server_processes,
        server_cpu_microseconds_per_delivery=_per(usage.server_cpu_seconds, delivered),
        server_memory_bytes_per_member=_whole_per(usage.server_memory_bytes, attached),
        swarm_cpu_microseconds_per_delivery=_per(usage.swarm_cpu_seconds, delivered),
        problems=dict(problems.most_common()),
    )


COUNTS = ("attached", "delivered", "expected", "lost", "doubled", "late", "discontinuities", "reconnects")


def _per(seconds: float | None, count: int) -> float | None:
    return None if seconds is None or not count else round(seconds / count * 1_000_000, 2)


def _whole_per(size: int | None, count: int) -> int | None:
    return None if size is None or not count else round(size / count)


def _unit(value: float | None, unit: str) -> str:
    return f"unknown {unit}" if value is None else f"{value:g} {unit}"
