from __future__ import annotations

from collections.abc import Sequence

from chatsite.swarm.plan import Plan
from chatsite.swarm.results.review import Reviewed, review_of
from chatsite.swarm.results.tally import Asked, EndpointTally, Place, Seen, Token
from tests.chatsite.swarm.test_endpoint import reviewing

STEPS_PER_MS = 10


def seen(*moments: tuple[int, int]) -> dict[Place, Seen]:
    """Messages of publisher 0 that were sent and received at these milliseconds."""
    return {
        Place(0, number + 1, Token(0, number)): Seen(sent * STEPS_PER_MS, None, received * STEPS_PER_MS, 1)
        for number, (sent, received) in enumerate(moments)
    }


def tally(*moments: tuple[int, int]) -> EndpointTally:
    """An endpoint that was asked and answered at these milliseconds."""
    asked = {
        Token(0, number): Asked(webhook_id="m", arrived=arrived * STEPS_PER_MS, answered=answered * STEPS_PER_MS)
        for number, (arrived, answered) in enumerate(moments)
    }
    return EndpointTally(calls=len(asked), asked=asked)


def review(plan: Plan, asked: EndpointTally, received: dict[Place, Seen]) -> Reviewed:
    return review_of(plan, asked, received, 0.0)


def test_the_lambdas_own_time_is_no_overhead() -> None:
    found = review(reviewing(), tally((3, 23), (103, 128)), seen((0, 30), (100, 132)))

    assert (found.own_ms.p50, found.own_ms.max) == (20.1, 25.1)
    assert (found.overhead_ms.p50, found.overhead_ms.max) == (7.1, 10.1)
    assert (found.unasked, found.outage) == (0, None)


def test_a_message_that_was_published_without_a_question_is_counted() -> None:
    assert review(reviewing(), tally((1, 2)), seen((0, 5), (10, 15))).unasked == 1


def test_an_outage_is_worked_off_from_its_end_to_the_last_message_that_waited() -> None:
    waiting: Sequence[tuple[int, int]] = [(1500, 2100), (1900, 2300), (2050, 2200), (2500, 2510)]
    found = review(reviewing(review_down=(1.0, 2.0)), tally(), seen((0, 10), *waiting)).outage

    assert found is not None
    assert (found.backlog, found.first_after_seconds, found.drain_seconds) == (2, 0.1, 0.3)
    assert found.drained_per_second == 15.0  # three messages in 200 ms
