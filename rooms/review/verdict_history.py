"""What reviewers and moderators said of messages: the rows of rooms_verdict, and the SQL that adds them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec

from rooms.database.spread import spread
from rooms.database.statements import Statement
from rooms.log.rows import Row
from rooms.review.contract import STEP_MAX_CHARACTERS, Verdict

_TYPES = {
    "room_id": "bigint", "public_id": "text", "message_id": "bigint", "step": "text", "action": "text",
    "reason": "text", "decided_at": "timestamptz",
}  # fmt: skip
_WRITTEN = ("message_id", "step", "action", "reason", "decided_at")


class Word(msgspec.Struct, frozen=True):
    """A verdict of one step on one message."""

    row: Row
    step: str
    verdict: Verdict


def recording(words: Sequence[Word], now: datetime) -> Statement:
    """Return the statement that adds words, at least one, in order."""
    new = spread({"message_id": [word.row.id for word in words]} | _columns(words, now), _TYPES)
    return _inserting([new.selected[name] for name in _WRITTEN], new.source), new.values


def recording_new(words: Sequence[Word], now: datetime) -> Statement:
    """Return the same for messages whose primary keys are not known yet: a statement before it stores them."""
    keys: dict[str, Sequence[Any]] = {
        "room_id": [word.row.room_id for word in words],
        "public_id": [word.row.message_id for word in words],
    }
    new = spread(_columns(words, now) | keys, _TYPES, many=keys)
    source = (
        f"{new.source} JOIN rooms_message AS message ON message.room_id = new.room_id "
        "AND message.message_id = new.public_id"
    )
    return _inserting(["message.id", *(new.selected[name] for name in _WRITTEN[1:])], source), new.values


def _columns(words: Sequence[Word], now: datetime) -> dict[str, Sequence[Any]]:
    return {
        "step": [word.step[:STEP_MAX_CHARACTERS] for word in words],
        "action": [word.verdict.action.value for word in words],
        "reason": [word.verdict.reason[:500] for word in words],
        "decided_at": [now] * len(words),
    }


def _inserting(selected: Sequence[str], source: str) -> str:
    return (
        f"INSERT INTO rooms_verdict ({', '.join(_WRITTEN)}) SELECT {', '.join(selected)} FROM {source} ORDER BY place"
    )
