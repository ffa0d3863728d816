"""What this app does when the log says that something happened. Runs inside the transaction that publishes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from django.utils import timezone

from integrations import outbox, rule_book, rules
from integrations.models import EventKind
from rooms.log import Entry
from rooms.models import MessageAction
from rooms.wire import to_json_shape


def owe_deliveries(sender: Any, *, entries: Sequence[Entry], **kwargs: Any) -> None:
    """Write a delivery for each newly published message and each rule after publish that concerns its room."""
    hearing = rule_book.read().hearing(EventKind.MESSAGE)
    if not hearing:
        return
    owed: list[outbox.Debt] = []
    for entry in entries:
        if entry.wire.action not in (None, MessageAction.CREATE):
            continue
        concerned = [rule for rule in hearing if rules.matches(rule.room_filter, entry.room)]
        if concerned:
            payload = msgspec.json.encode(to_json_shape(entry.wire)).decode()
            owed += [
                outbox.Debt(
                    rule_id=rule.pk,
                    room_id=entry.room_id,
                    message_id=entry.pk,
                    serial=entry.serial,
                    payload=payload,
                    in_lane=True,
                )
                for rule in concerned
            ]
    outbox.owe(owed, now=timezone.now())
