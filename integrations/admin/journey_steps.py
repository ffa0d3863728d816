"""The steps that integrations add to the journey of a message: deliveries to rules, their calls, callbacks."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta

from django.urls import reverse

from integrations.admin.tones import CALLBACK_TONES, STATE_TONES
from integrations.models import Attempt, CallbackUse, Delivery, DeliveryState, EventKind, IntegrationRule
from rooms.admin import journey
from rooms.admin.cells import plural
from rooms.admin.journey import Step, Tone
from rooms.models import Message

# The step names of integrations.review.reviewer.awaiting_of, alone or as part of a longer name.
RULE_STEP = re.compile(r"(?P<before>[a-z ]*)integrations:rule-(?P<rule>[0-9]{1,18})")
MAX_CALLS = 20  # of one delivery, whose own page shows more


@journey.register
def calls(message: Message) -> Iterable[Step]:
    """Return the deliveries of a message and their calls as steps."""
    found = Delivery.objects.filter(message_id=message.pk).select_related("rule").defer("payload")
    deliveries = list(found.order_by("pk")[: journey.MAX_STEPS_OF_A_KIND])
    tries: dict[int, list[Attempt]] = defaultdict(list)
    rows = Attempt.objects.filter(delivery_id__in=[delivery.pk for delivery in deliveries]).defer("response")
    for attempt in rows.order_by("delivery_id", "number")[: journey.MAX_STEPS_OF_A_KIND * 5]:
        tries[attempt.delivery_id].append(attempt)
    for delivery in deliveries:
        yield from _steps(delivery, tries[delivery.pk])


@journey.register
def callbacks(message: Message) -> Iterable[Step]:
    """Return the uses of a message's callback tokens as steps, applied or refused."""
    uses = CallbackUse.objects.filter(message_pk=message.pk).order_by("pk")[: journey.MAX_STEPS_OF_A_KIND]
    for use in uses:
        detail = f"{use.problem} (code {use.code})" if use.code else use.get_result_display()
        yield Step(
            at=use.at,
            title=f"Callback {use.result}",
            detail=detail,
            tone=CALLBACK_TONES[use.result],
            link=reverse("admin:integrations_callbackuse_change", args=[use.pk]),
        )


@journey.register_names
def names_of_rules(steps: Iterable[str]) -> Mapping[str, str]:
    """Return readable names for steps such as `integrations:rule-7` and `deadline of integrations:rule-7`."""
    found = {step: match for step in steps if (match := RULE_STEP.fullmatch(step))}
    rules = dict(
        IntegrationRule.objects.filter(pk__in={int(match["rule"]) for match in found.values()}).values_list(
            "pk", "name"
        )
    )
    return {
        step: f"{match['before']}rule {rules[int(match['rule'])]}"
        for step, match in found.items()
        if int(match["rule"]) in rules
    }


def title_of(delivery: Delivery) -> str:
    """Return a title for a delivery."""
    rule = delivery.rule
    if rule.is_shadow and delivery.event == EventKind.MESSAGE:
        return f"Asked shadow rule {rule.name}"
    if delivery.is_before:
        return f"Asked rule {rule.name}"
    if delivery.event == EventKind.MESSAGE:
        return f"Told rule {rule.name}"
    return f"Told rule {rule.name} of {delivery.event.removeprefix('channel.')}"


def is_shared(delivery: Delivery) -> bool:
    """Return whether a delivery got its verdict from another delivery's call about the same text."""
    return delivery.state == DeliveryState.DELIVERED and delivery.last_status is None and bool(delivery.answer)


def _steps(delivery: Delivery, attempts: list[Attempt]) -> Iterator[Step]:
    link = reverse("admin:integrations_delivery_change", args=[delivery.pk])
    outcome = f"{delivery.get_state_display()}, {plural(delivery.attempts, 'call')}"
    if is_shared(delivery):
        outcome = "the verdict of a call about the same text was taken"
    elif delivery.last_status or delivery.last_error:
        outcome += f" ({delivery.last_status or delivery.last_error})"
    yield Step(
        began=delivery.created_at if delivery.finished_at or attempts else None,
        at=delivery.finished_at or (end_of(attempts[-1]) if attempts else delivery.created_at),
        title=title_of(delivery),
        detail=outcome,
        tone=STATE_TONES[DeliveryState(delivery.state)],
        link=link,
    )
    for attempt in attempts[:MAX_CALLS]:
        yield step_of_call(delivery, attempt, link)
    if delivery.finished_at is None:
        yield step_ahead(delivery, link)


def step_ahead(delivery: Delivery, link: str = "") -> Step:
    """Return the next step of an unfinished delivery. In a lane its own `due_at` means nothing."""
    name = delivery.rule.name
    if delivery.state == DeliveryState.DELIVERING:
        title, detail = f"Call to {name} is under way", "if its worker dies, another one takes over"
    elif delivery.in_lane:
        title, detail = f"Next call to {name}", "in the order of the room"
    else:
        title, detail = f"Next call to {name}", ""
    at = None if delivery.in_lane else delivery.due_at
    return Step(at=at, title=title, detail=detail, tone=Tone.WAITING, is_ahead=True, link=link)


def step_of_call(delivery: Delivery, attempt: Attempt, link: str = "") -> Step:
    """Return a call as a step. `link`: the URL of the delivery's page, "" on that page itself."""
    words = [attempt.error or f"HTTP {attempt.status}"]
    if attempt.by_stand_in:
        words.append("answered by the stand-in")
    if attempt.events > 1:
        words.append(f"one call for {attempt.events} events")
    return Step(
        began=attempt.started_at,
        at=end_of(attempt),
        title=f"Call {attempt.number} to {delivery.rule.name}",
        detail=", ".join(words),
        tone=Tone.GOOD if is_good(attempt) else Tone.BAD,
        is_call=True,
        is_part=True,
        is_aside=delivery.rule.is_shadow,
        link=f"{link}#call-{attempt.number}",
    )


def is_good(attempt: Attempt) -> bool:
    """Return whether a call was answered with 2xx, and the answer could be read."""
    return attempt.status is not None and 200 <= attempt.status < 300 and not attempt.error


def end_of(attempt: Attempt) -> datetime:
    """Return when a call ended."""
    return attempt.started_at + timedelta(milliseconds=attempt.duration_ms)
