"""From what the swarm's own Lambda was asked to the report on the review. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from chatsite.swarm.endpoint import Asked, EndpointTally
from chatsite.swarm.findings import Place, Token
from chatsite.swarm.latency import STEPS_PER_SECOND, Latency
from chatsite.swarm.messages import Seen
from chatsite.swarm.plan import Plan
from chatsite.swarm.report import Outage, Reviewed, Spread


def report_review(
    plan: Plan, tally: EndpointTally | None, seen: Mapping[Place, Seen], started: float
) -> Reviewed | None:
    """Return what the review did and cost; None where there was none. `started`: monotonic seconds."""
    if tally is None:
        return None
    asked = tally.asked
    own, overhead = _times(asked, seen)
    moments = [each.last_at for each in seen.values() if each.members]
    seconds = (max(moments) / STEPS_PER_SECOND - started) if moments else 0.0
    return Reviewed(
        calls=tally.calls,
        messages=len(asked),
        unasked=sum(place.token not in asked for place in seen),
        repeated=sum(each.calls > 1 for each in asked.values()),
        changed_ids=sum(each.ids > 1 for each in asked.values()),
        messages_per_second=round(len(moments) / seconds, 1) if seconds > 0 else 0.0,
        own_ms=Spread.of(own),
        overhead_ms=Spread.of(overhead),
        outage=_outage(plan, seen.values(), started),
    )


def _times(asked: Mapping[Token, Asked], seen: Mapping[Place, Seen]) -> tuple[Latency, Latency]:
    """Return how long the Lambda took itself, and what came on top of it from publishing to the last member."""
    own, overhead = Latency(), Latency()
    for place, each in seen.items():
        call = asked.get(place.token)
        if call is None or not call.answered or not each.members:
            continue
        took = call.answered - call.arrived
        own.add_steps(took)
        overhead.add_steps(max(0, each.last_at - each.sent_at - took))
    return own, overhead


def _outage(plan: Plan, seen: Collection[Seen], started: float) -> Outage | None:
    """Return how what had gathered while the Lambda was down was worked off."""
    if plan.review_down is None:
        return None
    began, ended = (int((started + moment) * STEPS_PER_SECOND) for moment in plan.review_down)
    waited = [each for each in seen if each.members and each.sent_at < ended <= each.last_at]
    if not waited:
        return Outage(seconds=(ended - began) / STEPS_PER_SECOND, backlog=0)
    last = max(each.last_at for each in waited)
    first = min(each.last_at for each in waited)
    # Everything that was published meanwhile had to be worked off as well.
    done = sum(first <= each.last_at <= last for each in seen if each.members) if last > first else len(waited)
    seconds = (last - ended) / STEPS_PER_SECOND
    return Outage(
        seconds=(ended - began) / STEPS_PER_SECOND,
        backlog=len(waited),
        first_after_seconds=round((first - ended) / STEPS_PER_SECOND, 3),
        drain_seconds=round(seconds, 3),
        drained_per_second=round(done / max((last - first) / STEPS_PER_SECOND, 0.001), 1),
    )
