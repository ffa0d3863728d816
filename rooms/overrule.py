"""Verdicts that come after the deadline has decided: they may still change what nobody decided since."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from rooms.outcomes import Outcome
from rooms.review import Decision


def overrule(decisions: Sequence[Decision], *, now: datetime) -> list[Outcome]:
    """Apply verdicts on messages that the deadline of the awaited step decided. Return an outcome each, in order.

    What was published is retracted (reject, hold) or edited (replace); what was rejected or held is restored, and
    published now (publish, replace), or gets the verdict; what waits for another step gets it too. STALE: the message
    was not decided by that deadline, or somebody (another verdict, a moderator) has changed it since, or this step's
    late verdict was counted before. UNKNOWN: no such message. One transaction, and each late verdict is recorded.

    It locks rooms: call it in a transaction of its own, not after `decide` in the same one.
    """
    raise NotImplementedError  # in the next commit
