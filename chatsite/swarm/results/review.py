"""The part of the report about --review: what the swarm's own Lambda was asked, and what asking it cost. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from chatsite.swarm.plan import Plan
from chatsite.swarm.results.latency import STEPS_PER_SECOND, Latency, Spread
from chatsite.swarm.results.tally import EndpointTally, Place, Seen


class Outage(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How the messages that gathered while the Lambda was down were worked off. Seconds since it was back."""

    seconds: float  # that it was down
    backlog: int  # messages published before it was back and visible only after
    first_after_seconds: float | None = None
    drain_seconds: float | None = None  # until the last of them was visible
    drained_per_second: float | None = None  # messages, new ones too, from the first of them to the last


class Reviewed(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The calls of the swarm's own Lambda in a run."""

    calls: int
    messages: int
    unasked: int  # messages that were published without a question
    repeated: int  # messages that it was asked about more than once
    changed_ids: int  # of those, how many came under another webhook id
    messages_per_second: float
    own_ms: Spread  # from a question's arrival to its answer
    overhead_ms: Spread  # from publish to the last member's receipt, without that
    outage: Outage | None


def review_of(plan: Plan, tally: EndpointTally, seen: Mapping[Place, Seen], started: float) -> Reviewed:
    """Return what the review did and cost. `started`: monotonic seconds."""
    asked = tally.asked
    own, overhead = Latency(), Latency()
    for place, each in seen.items():
        call = asked.get(place.token)
        if call is not None and call.answered and each.members:
            took = call.answered - call.arrived
            own.add_steps(took)
            overhead.add_steps(max(0, each.last_at - each.sent_at - took))
    moments = [each.last_at for each in seen.values() if each.members]
    seconds = max(moments) / STEPS_PER_SECOND - started if moments else 0.0
    return Reviewed(
        calls=tally.calls,
        messages=len(asked),
        unasked=sum(place.token not in asked for place in seen),
        repeated=sum(each.calls > 1 for each in asked.values()),
        changed_ids=sum(each.ids > 1 for each in asked.values()),
        messages_per_second=round(len(moments) / seconds, 1) if seconds > 0 else 0.0,
        own_ms=own.spread(),
        overhead_ms=overhead.spread(),
        outage=_outage(plan, seen.values(), started),
    )


def _outage(plan: Plan, seen: Collection[Seen], started: float) -> Outage | None:
    if plan.review_down is None:
        return None
    began, ended = (int((started + moment) * STEPS_PER_SECOND) for moment in plan.review_down)
    down = (ended - began) / STEPS_PER_SECOND
    waited = [each.last_at for each in seen if each.members and each.sent_at < ended <= each.last_at]
    if not waited:
        return Outage(seconds=down, backlog=0)
    first, last = min(waited), max(waited)
    # Everything that was published meanwhile had to be worked off as well.
    done = sum(first <= each.last_at <= last for each in seen if each.members) if last > first else len(waited)
    return Outage(
        seconds=down,
        backlog=len(waited),
        first_after_seconds=round((first - ended) / STEPS_PER_SECOND, 3),
        drain_seconds=round((last - ended) / STEPS_PER_SECOND, 3),
        drained_per_second=round(done / max((last - first) / STEPS_PER_SECOND, 0.001), 1),
    )
