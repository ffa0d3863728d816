"""Receivers of the log's signals: each event adds deliveries to the outbox, in the transaction of the event."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from django.utils import timezone

from integrations import outbox
from integrations.matching import filters, rule_book
from integrations.models import EventKind, IntegrationRule
from integrations.wire import events
from rooms.log.content import Draft
from rooms.log.entries import Entry
from rooms.log.rows import milliseconds
from rooms.models import MessageAction
from rooms.review.endings import ReviewEnd

CHANGES = {MessageAction.UPDATE: EventKind.EDITED, MessageAction.DELETE: EventKind.DELETED}


def on_published(sender: Any, *, entries: Sequence[Entry], rooms: Collection[int], **kwargs: Any) -> None:
    """Add a delivery for each newly published message and each rule that receives it."""
    rules = rule_book.read().receivers_of(EventKind.MESSAGE)
    if not rules:
        return
    deliveries: list[outbox.NewDelivery] = []
    for entry in entries:
        if entry.wire.action not in (None, MessageAction.CREATE):
            continue
        if concerned := _concerned(rules, entry.room, entry.wire.client_id, entry.wire.id):
            payload = events.message_payload(entry.wire)
            deliveries += [_of_entry(rule, entry, EventKind.MESSAGE, payload) for rule in concerned]
    _add(deliveries, rooms)


def on_amended(sender: Any, *, entries: Sequence[Entry], by: str = "", rooms: Collection[int], **kwargs: Any) -> None:
    """Add a delivery for each published message that was edited or hidden, and each rule that receives such events."""
    book = rule_book.read()
    deliveries: list[outbox.NewDelivery] = []
    for entry in entries:
        event = CHANGES.get(MessageAction(entry.wire.action or 0))
        rules = () if event is None else book.receivers_of(event)
        if event is None or not rules:
            continue
        if concerned := _concerned(rules, entry.room, entry.wire.client_id, entry.wire.id):
            payload = events.change_payload(entry.wire, by=by)
            deliveries += [_of_entry(rule, entry, event, payload) for rule in concerned]
    _add(deliveries, rooms)


def on_accepted(sender: Any, *, accepted: Sequence[tuple[int, Draft]], rooms: Collection[int], **kwargs: Any) -> None:
    """Add a delivery for each accepted message, before its review, and each rule that receives such events."""
    rules = rule_book.read().receivers_of(EventKind.ACCEPTED)
    if not rules:
        return
    deliveries: list[outbox.NewDelivery] = []
    for pk, draft in accepted:
        concerned = _concerned(rules, draft.room, draft.client_id, draft.message_id)
        if concerned:
            payload = events.draft_payload(draft)
            deliveries += [
                delivery_for(rule, EventKind.ACCEPTED, room_id=draft.room_id, message_id=pk, payload=payload)
                for rule in concerned
            ]
    _add(deliveries, rooms)


def on_reviewed(sender: Any, *, ended: Sequence[ReviewEnd], rooms: Collection[int], **kwargs: Any) -> None:
    """Add a delivery for each review that ended, and each rule that receives such events."""
    rules = rule_book.read().receivers_of(EventKind.REVIEWED)
    if not rules:
        return
    now = timezone.now()
    # A message may be reviewed more than once (held, published, retracted). The time in microseconds keeps its events
    # apart, and the place those of one moment.
    moment = int(now.timestamp() * 1_000_000)
    deliveries: list[outbox.NewDelivery] = []
    for place, one in enumerate(ended):
        message = one.message
        if concerned := _concerned(rules, one.room, message.client_id, message.id):
            review = events.Review(
                outcome=one.ending, by=one.by, at=milliseconds(now), reason=one.reason, code=one.code, detail=one.detail
            )
            payload, serial = events.review_payload(message, review), moment + place
            deliveries += [
                delivery_for(
                    rule, EventKind.REVIEWED, room_id=one.room_id, message_id=one.pk, payload=payload, serial=serial
                )
                for rule in concerned
            ]
    _add(deliveries, rooms)


def _add(deliveries: Sequence[outbox.NewDelivery], rooms: Collection[int]) -> None:
    in_order = rule_book.read().ordered_message_rules if deliveries else ()
    outbox.add_deliveries(
        deliveries,
        now=timezone.now(),
        reach=outbox.Reach(rules=in_order, rooms=rooms) if in_order else None,
    )


def delivery_for(
    rule: IntegrationRule, event: EventKind, *, room_id: int, message_id: int | None, payload: str, serial: int = 0
) -> outbox.NewDelivery:
    """Return the delivery of an event to a rule after publish. Events of one message and kind differ in `serial`."""
    return outbox.NewDelivery(
        rule_id=rule.pk,
        room_id=room_id,
        message_id=message_id,
        payload=payload,
        event=event,
        serial=serial,
        in_lane=rule.ordered,
    )


def _concerned(
    rules: Sequence[IntegrationRule], room: str, client_id: str | None, message_id: str | None
) -> list[IntegrationRule]:
    return [
        rule for rule in rules if filters.lets_pass(rule, room=room, client_id=client_id or "", key=message_id or "")
    ]


def _of_entry(rule: IntegrationRule, entry: Entry, event: EventKind, payload: str) -> outbox.NewDelivery:
    return delivery_for(rule, event, room_id=entry.room_id, message_id=entry.pk, payload=payload, serial=entry.serial)
