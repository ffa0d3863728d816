"""Adds and reads the verdicts on messages, as rooms_verdict keeps them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import msgspec
from django.db import connection

from rooms.database.spread import spread
from rooms.database.statements import Statement
from rooms.log.lifecycle import REASON_MAX_CHARACTERS
from rooms.log.rows import Row
from rooms.review.contract import STEP_MAX_CHARACTERS, Verdict, VerdictAction

_TYPES = {
    "room_id": "bigint", "public_id": "text", "message_id": "bigint", "step": "text", "action": "text",
    "reason": "text", "decided_at": "timestamptz",
}  # fmt: skip
_WRITTEN = ("message_id", "step", "action", "reason", "decided_at")


class StepVerdict(msgspec.Struct, frozen=True):
    """A verdict of one step on one message."""

    row: Row
    step: str
    verdict: Verdict


def adding(verdicts: Sequence[StepVerdict], now: datetime) -> Statement:
    """Return the statement that adds verdicts, at least one, in order."""
    new = spread({"message_id": [verdict.row.id for verdict in verdicts]} | _columns(verdicts, now), _TYPES)
    return _insertion([new.selected[name] for name in _WRITTEN], new.source), new.values


def adding_to_new(verdicts: Sequence[StepVerdict], now: datetime) -> Statement:
    """Return the statement that adds verdicts on messages whose primary keys are not known yet.

    A statement before it, in the same round trip, stores these messages.
    """
    keys: dict[str, Sequence[Any]] = {
        "room_id": [verdict.row.room_id for verdict in verdicts],
        "public_id": [verdict.row.message_id for verdict in verdicts],
    }
    new = spread(_columns(verdicts, now) | keys, _TYPES, many=keys)
    source = (
        f"{new.source} JOIN rooms_message AS message ON message.room_id = new.room_id "
        "AND message.message_id = new.public_id"
    )
    return _insertion(["message.id", *(new.selected[name] for name in _WRITTEN[1:])], source), new.values


def _columns(verdicts: Sequence[StepVerdict], now: datetime) -> dict[str, Sequence[Any]]:
    return {
        "step": [verdict.step[:STEP_MAX_CHARACTERS] for verdict in verdicts],
        "action": [verdict.verdict.action.value for verdict in verdicts],
        "reason": [verdict.verdict.reason[:REASON_MAX_CHARACTERS] for verdict in verdicts],
        "decided_at": [now] * len(verdicts),
    }


def _insertion(selected: Sequence[str], source: str) -> str:
    return (
        f"INSERT INTO rooms_verdict ({', '.join(_WRITTEN)}) SELECT {', '.join(selected)} FROM {source} ORDER BY place"
    )


def read(messages: Collection[int]) -> dict[int, list[tuple[str, VerdictAction]]]:
    """Return the verdicts on messages (primary keys), each with its step, oldest first."""
    verdicts: dict[int, list[tuple[str, VerdictAction]]] = {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT message_id, step, action FROM rooms_verdict WHERE message_id = ANY(%s) ORDER BY id",
            [list(messages)],
        )
        for message, step, action in cursor.fetchall():
            verdicts.setdefault(message, []).append((step, VerdictAction(action)))
    return verdicts


def read_last(messages: Collection[int]) -> dict[int, tuple[str, Verdict]]:
    """Return the last verdict on each of these messages (primary keys), with its step."""
    if not messages:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT DISTINCT ON (message_id) message_id, step, action, reason FROM rooms_verdict "
            "WHERE message_id = ANY(%s) ORDER BY message_id, id DESC",
            [list(messages)],
        )
        return {
            message: (step, Verdict(action=VerdictAction(action), reason=reason))
            for message, step, action, reason in cursor.fetchall()
        }


def read_editors(messages: Collection[int]) -> dict[int, list[str]]:
    """Return the names of the persons and steps that changed each message (primary key) after publication."""
    if not messages:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT message_id, array_agg(DISTINCT replaced_by) FROM rooms_messageversion "
            "WHERE message_id = ANY(%s) GROUP BY message_id",
            [list(messages)],
        )
        return dict(cursor.fetchall())
