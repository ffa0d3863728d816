"""Compares the verdicts of a shadow rule with those of its main rule. Reads only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from django.db import connection

from integrations.models import Delivery, IntegrationRule
from rooms.models import Message

COMPARED: Final = 5_000  # the newest deliveries of the shadow
SHOWN: Final = 50
NOTHING: Final = ""  # the action of a rule that gave no verdict


@dataclass(frozen=True, kw_only=True)
class RuleVerdict:
    """The verdict of one of the two rules on a message. `action` is a VerdictAction, "" without a verdict."""

    delivery_id: int
    action: str
    reason: str = ""
    answer: str = ""  # the whole verdict as JSON, "" if there is none
    error: str = ""


@dataclass(frozen=True, kw_only=True)
class Disagreement:
    """A message on which the two rules disagree."""

    message_id: int
    room: str
    author: str
    text: str | None
    at: datetime
    main: RuleVerdict
    shadow: RuleVerdict


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The comparison of the newest messages that both rules were asked about, at most COMPARED.

    `actions` counts pairs (main's action, shadow's action); `unanswered` those where one of them gave no verdict;
    `rewritten` those that both replaced, by different texts.
    """

    compared: int
    agreed: int
    unanswered: int
    rewritten: int
    actions: Mapping[tuple[str, str], int]
    differences: Sequence[Disagreement]

    @property
    def agreement(self) -> float | None:
        """The share (0 to 1) of equal verdicts among the messages with two verdicts; None without any."""
        both = self.compared - self.unanswered
        return self.agreed / both if both else None


# Verdicts are stored as JSON with sorted keys: the action comes first, and equal verdicts are equal texts.
PAIRS: Final = r"""
SELECT shadow.id, main.id, shadow.message_id, shadow.created_at,
    coalesce(substring(main.answer FROM '^\{"action":"([a-z]+)"'), ''),
    coalesce(substring(shadow.answer FROM '^\{"action":"([a-z]+)"'), ''),
    main.answer = shadow.answer
FROM (
    SELECT id, message_id, answer, created_at, finished_at, state FROM integrations_delivery
    WHERE rule_id = %(shadow)s ORDER BY rule_id, id DESC LIMIT %(limit)s
) AS shadow
JOIN integrations_delivery AS main
  ON main.message_id = shadow.message_id AND main.rule_id = %(main)s AND main.deadline IS NOT NULL
WHERE shadow.finished_at IS NOT NULL AND main.finished_at IS NOT NULL AND shadow.state <> 'cancelled'
ORDER BY shadow.id DESC
"""
ANSWERS_AT_ONCE: Final = 200


@dataclass(frozen=True)
class _Pair:
    shadow_id: int
    main_id: int
    message_id: int
    at: datetime
    main_action: str
    shadow_action: str
    is_equal: bool

    @property
    def actions(self) -> tuple[str, str]:
        return self.main_action, self.shadow_action

    @property
    def is_unanswered(self) -> bool:
        return NOTHING in self.actions


class _Replacement(msgspec.Struct):
    """The part of a replacing verdict that is compared: its content, not its reason."""

    content: msgspec.Raw = msgspec.Raw(b"null")


def compare(shadow: IntegrationRule) -> Comparison:
    """Compare a shadow rule with its main rule. Without messages all counts are 0."""
    values = {"shadow": shadow.pk, "main": shadow.shadow_of_id, "limit": COMPARED}
    with connection.cursor() as cursor:
        cursor.execute(PAIRS, values)
        pairs = [_Pair(*row) for row in cursor.fetchall()]
    rewritten = _rewritten(pairs)
    differing = [pair for pair in pairs if pair.main_action != pair.shadow_action or pair.shadow_id in rewritten]
    unanswered = sum(pair.is_unanswered for pair in pairs)
    return Comparison(
        compared=len(pairs),
        agreed=len(pairs) - sum(not pair.is_unanswered for pair in differing) - unanswered,
        unanswered=unanswered,
        rewritten=len(rewritten),
        actions=Counter(pair.actions for pair in pairs),
        differences=_described(differing[:SHOWN]),
    )


def _rewritten(pairs: Sequence[_Pair]) -> set[int]:
    """Return the shadow's deliveries where both rules replaced the message by different contents."""
    both = [pair for pair in pairs if pair.actions == ("replace", "replace") and not pair.is_equal]
    found: set[int] = set()
    for start in range(0, len(both), ANSWERS_AT_ONCE):
        some = both[start : start + ANSWERS_AT_ONCE]
        ids = [id_ for pair in some for id_ in (pair.main_id, pair.shadow_id)]
        answers = dict(Delivery.objects.filter(id__in=ids).values_list("id", "answer"))
        found |= {
            pair.shadow_id
            for pair in some
            if _content(answers.get(pair.main_id, "")) != _content(answers.get(pair.shadow_id, ""))
        }
    return found


def _content(answer: str) -> bytes:
    try:
        return bytes(msgspec.json.decode(answer, type=_Replacement).content)
    except msgspec.MsgspecError:
        return b""


def _described(pairs: Sequence[_Pair]) -> list[Disagreement]:
    ids = [id_ for pair in pairs for id_ in (pair.main_id, pair.shadow_id)]
    deliveries = Delivery.objects.in_bulk(ids)
    messages = Message.objects.select_related("room").in_bulk([pair.message_id for pair in pairs])
    return [
        Disagreement(
            message_id=pair.message_id,
            room=message.room.name,
            author=message.client_id or "",
            text=message.text,
            at=pair.at,
            main=_said(deliveries[pair.main_id], pair.main_action),
            shadow=_said(deliveries[pair.shadow_id], pair.shadow_action),
        )
        for pair in pairs
        if (message := messages.get(pair.message_id)) and pair.main_id in deliveries and pair.shadow_id in deliveries
    ]


def _said(delivery: Delivery, action: str) -> RuleVerdict:
    try:
        reason = msgspec.json.decode(delivery.answer, type=_Reason).reason if delivery.answer else ""
    except msgspec.MsgspecError:
        reason = ""
    return RuleVerdict(
        delivery_id=delivery.pk, action=action, reason=reason, answer=delivery.answer, error=delivery.last_error
    )


class _Reason(msgspec.Struct):
    reason: str = ""
