"""The content of a delivery's page: its request, its calls over time, their answers, the verdict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from integrations.admin.deliveries import request_view, verdict_view
from integrations.admin.journey_steps import end_of, is_good, is_shared, step_ahead, step_of_call, title_of
from integrations.admin.tones import STATE_TONES
from integrations.models import Attempt, Delivery, DeliveryState
from rooms.admin.journey import Step, Tone
from rooms.admin.waterfall import Fact, duration, lay_out

SHOWN_CALLS = 50


@dataclass(frozen=True, kw_only=True)
class CallView:
    """A call and its answer, as shown."""

    attempt: Attempt
    answer: str
    took: str
    is_good: bool
    is_open: bool  # unfolded: the newest call


def context_of(delivery: Delivery, *, now: datetime, may_call: bool) -> dict[str, Any]:
    """Return the variables of the template, with a fixed number of queries."""
    attempts = list(Attempt.objects.filter(delivery_id=delivery.pk).order_by("-number")[:SHOWN_CALLS])
    steps = list(_steps(delivery, attempts[::-1]))
    return {
        "delivery": delivery,
        "title": title_of(delivery),
        "facts": _facts(delivery, attempts),
        "request_view": request_view.of_delivery(delivery, now=now, may_call=may_call),
        "verdict": verdict_view.read(delivery.answer),
        "calls": [_view(attempt, is_open=not place) for place, attempt in enumerate(attempts)],
        "calls_hidden": max(0, delivery.attempts - len(attempts)),
        "waterfalls": [lay_out(steps, delivery.created_at)],
        "is_shared": is_shared(delivery),
        "can_resend": delivery.finished_at is not None and not delivery.is_before,
    }


def _view(attempt: Attempt, *, is_open: bool) -> CallView:
    return CallView(
        attempt=attempt,
        answer=request_view.pretty(attempt.response),
        took=duration(attempt.duration_ms),
        is_good=is_good(attempt),
        is_open=is_open,
    )


def _facts(delivery: Delivery, attempts: Sequence[Attempt]) -> list[Fact]:
    """Return the figures at the top of the page. `attempts`: the newest first."""
    state = "dead letter" if delivery.state == DeliveryState.DEAD else delivery.state
    facts = [
        Fact(label="State", value=state, tone=STATE_TONES[delivery.state]),
        Fact(label="Calls", value="shared" if is_shared(delivery) else f"{delivery.attempts:,}"),
    ]
    if attempts:
        facts.append(Fact(label="Last call took", value=duration(attempts[0].duration_ms)))
    if delivery.finished_at is not None:
        total = (delivery.finished_at - delivery.created_at).total_seconds() * 1000
        facts.append(Fact(label="Owed to ended", value=duration(max(0.0, total))))
    return facts


def _steps(delivery: Delivery, attempts: Sequence[Attempt]) -> Iterator[Step]:
    yield Step(at=delivery.created_at, title="Owed", detail="written with the event, in one transaction")
    for attempt in attempts:
        yield step_of_call(delivery, attempt)
    if delivery.finished_at is not None:
        last = attempts[-1] if attempts else None
        ended = max(delivery.finished_at, end_of(last)) if last else delivery.finished_at
        title = "Verdict shared" if is_shared(delivery) else delivery.get_state_display().capitalize()
        yield Step(at=ended, title=title, tone=STATE_TONES[delivery.state])
    else:
        yield step_ahead(delivery)
    if delivery.deadline is not None and delivery.finished_at is None:
        yield Step(at=delivery.deadline, title="Deadline", tone=Tone.WAITING, is_ahead=True)
