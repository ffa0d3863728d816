"""The report of a run as lines for people. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from chatsite.swarm.results.report import Report
from chatsite.swarm.results.review import Reviewed
from chatsite.swarm.results.tally import Faults

PROBLEMS_SHOWN = 5
BEHIND_MS = 50  # a swarm that publishes later than this measures itself
LATENCIES = {  # the name of the line, the field of the report, and between which two events
    "accept": ("ack_latency_ms", "publish to acknowledgement"),
    "publish": ("publish_ms", "publish to the server's timestamp"),
    "fan-out": ("fan_out_ms", "timestamp to receipt"),
    "latency": ("latency_ms", "publish to receipt"),
    "everyone": ("everyone_ms", "publish until the last member had it"),
    "resume": ("resume_ms", "connecting again to attached"),
    "catch-up": ("catch_up_ms", "publish to receipt, of what was missed while away"),
}
COSTS = {
    "cpu_microseconds_per_delivery": "µs CPU per delivery",
    "cpu_microseconds_per_message": "µs CPU per message",
    "memory_bytes_per_member": "bytes per member",
}

Row = tuple[str, str]  # the name of a line and its text


def lines_of(report: Report) -> list[str]:
    """Return the report as people read it."""
    rows = [*_counts(report), *_incidents(report), *_latencies(report), *_costs(report)]
    rows += [("problem", f"{count} x {text}") for text, count in list(report.problems.items())[:PROBLEMS_SHOWN]]
    end = "NOT OK" if not report.ok else f"ok, but {report.refused} were refused" if report.refused else "ok"
    return [*(f"{name:<12}{text}" for name, text in rows), end]


def rate_of(per_second: float) -> str:
    """Return a rate for people: a slow one with a decimal."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:,.1f}"


def _counts(report: Report) -> Iterator[Row]:
    yield (
        "members",
        f"{report.attached} of {report.members} attached in {report.connect_seconds:.1f} s "
        f"({report.connected_per_second:.0f}/s), {report.churned} left and came back, {report.reconnects} reconnects",
    )
    yield (
        "published",
        f"{report.published} ({rate_of(report.published_per_second)}/s), acknowledged {report.acknowledged}, "
        f"refused {report.refused}",
    )
    yield "delivered", f"{report.delivered} of {report.expected} ({report.deliveries_per_second:.0f}/s)"
    wrong = (*Faults.__struct_fields__, "discontinuities")
    yield "wrong", ", ".join(f"{getattr(report, name)} {name.replace('_', ' ')}" for name in wrong)


def _incidents(report: Report) -> Iterator[Row]:
    if (room := report.worst_room) is not None and report.rooms > 1:
        wrong = f"{room.lost} lost, {room.duplicated} duplicated, {room.out_of_order} out of order"
        yield "worst room", f"{room.name} of {report.rooms}: {wrong}, {room.latency_ms}"
    if (slow := report.slow_readers) is not None:
        yield (
            "slow",
            f"{slow.caught_up} of {slow.members} caught up, {slow.cut_off} cut off, "
            f"{slow.discontinuities} told of a discontinuity ({slow.skipped} skipped), {slow.lost} lost",
        )
    if (killed := report.killed) is not None:
        seconds = killed.seconds_until_all_back
        back = f"all back after {seconds:.1f} s" if seconds is not None else f"{killed.back} came back"
        yield "killed", f"{killed.gateway} at {killed.at:.1f} s: {killed.cut} cut off, {back}"
    if report.reviewed is not None:
        yield from _review(report.reviewed)
    if report.killed_worker is not None:
        yield "killed", f"{report.killed_worker}: a worker"
    if report.counters:
        yield "gateways", ", ".join(f"{name} {count}" for name, count in report.counters.items())


def _review(review: Reviewed) -> Iterator[Row]:
    yield (
        "review",
        f"{review.messages} messages in {review.calls} calls ({rate_of(review.messages_per_second)} messages/s), "
        f"{review.unasked} never asked about, {review.repeated} repeated, {review.changed_ids} under another id",
    )
    yield "lambda", f"{review.own_ms} (its own time)"
    yield "overhead", f"{review.overhead_ms} (publish to the last member's receipt, without the lambda's own time)"
    if (outage := review.outage) is not None:
        text = f"down for {outage.seconds:g} s, {outage.backlog} messages waited"
        if outage.drain_seconds is not None:
            text += (
                f"; the first came {outage.first_after_seconds:g} s after it was back, the last after "
                f"{outage.drain_seconds:g} s ({rate_of(outage.drained_per_second or 0)}/s)"
            )
        yield "outage", text


def _latencies(report: Report) -> Iterator[Row]:
    for name, (field, meaning) in LATENCIES.items():
        spread = getattr(report, field)
        if spread.max is not None:
            yield name, f"{spread} ({meaning})"


def _costs(report: Report) -> Iterator[Row]:
    for name in ("server", "swarm"):
        values = [(getattr(report, f"{name}_{field}"), unit) for field, unit in COSTS.items()]
        known = ", ".join(f"{value:g} {unit}" for value, unit in values if value is not None) or "not measured"
        yield name, f"{known} ({getattr(report, f'{name}_processes')} processes)"
    if report.behind_ms > BEHIND_MS:
        yield (
            "behind",
            f"the swarm itself was {report.behind_ms:.0f} ms late with a message: the machine or a core is full; "
            "latencies are the swarm's as well",
        )
