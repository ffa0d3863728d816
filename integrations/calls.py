"""From an answer to what it means for the deliveries of a call. Pure: time and chance are given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from integrations import retry, verdicts
from integrations.answers import Answer, CallFailed, explain
from integrations.retry import Chance
from integrations.verdicts import Asked, BadAnswer
from rooms.review import Verdict

RESPONSE_KEPT_CHARACTERS = 4096
ERROR_MAX_CHARACTERS = 500


@dataclass(frozen=True, kw_only=True)
class Owed:
    """A delivery that was claimed for a call."""

    id: int
    rule_id: int
    room_id: int
    message_id: int | None
    event: str  # integrations.models.EventKind
    serial: int
    webhook_id: str
    payload: str
    attempt: int  # this call's number
    tries: int  # calls that count, with this one; a resend begins anew
    created_at: datetime
    deadline: datetime | None
    room: str
    epoch: str


@dataclass(frozen=True, kw_only=True)
class HeldLane:
    """The claim on a lane: good while nobody else raised the fence."""

    id: int
    fence: int


class Fate(StrEnum):
    """What a call means for a delivery."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What became of one delivery.

    `fall_back`: the rule's policy decides now, no later answer can be hoped for. `alone`: it was refused as part of
    a batch, and shows by itself what it is worth.
    """

    owed: Owed
    fate: Fate
    due_at: datetime
    status: int | None
    error: str = ""
    verdict: Verdict | None = None
    fall_back: bool = False
    alone: bool = False


@dataclass(frozen=True, kw_only=True)
class Report:
    """What one call brought, for all its deliveries."""

    lane: HeldLane | None
    conclusions: Sequence[Conclusion]
    started_at: datetime
    duration_ms: float
    response: str = field(default="", repr=False)

    @property
    def lane_due_at(self) -> datetime:
        """When the lane's next call may begin: the head's retry holds back all behind it."""
        return self.conclusions[0].due_at

    @property
    def narrow(self) -> int:
        """By how many the lane's deliveries that go one by one change."""
        if self.conclusions[0].alone:
            return len(self.conclusions)
        return -1 if len(self.conclusions) == 1 and self.conclusions[0].fate is not Fate.RETRY else 0


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Says what an answer means. `before`: the call asked for verdicts."""

    before: bool
    now: datetime
    max_attempts: int
    message_max_bytes: int
    chance: Chance

    def conclude(self, owed: Sequence[Owed], came: Answer | CallFailed) -> list[Conclusion]:
        """Return what became of each delivery of a call."""
        if isinstance(came, CallFailed):
            return self._failed(owed, None, str(came), is_final=came.is_final)
        result = retry.judge(came.status)
        if result is not retry.Result.SUCCESS:
            wait = retry.read_retry_after(came.status, came.retry_after, now=self.now.timestamp())
            error = explain(came)
            return self._failed(owed, came.status, error, is_final=result is retry.Result.FINAL, wait=wait)
        try:
            found = self._verdicts(owed, came.body)
        except BadAnswer as error:
            return self._failed(owed, came.status, str(error), is_about_one=True)
        return [
            Conclusion(owed=one, fate=Fate.DELIVERED, due_at=self.now, status=came.status, verdict=found.get(one.id))
            for one in owed
        ]

    def _verdicts(self, owed: Sequence[Owed], body: bytes) -> Mapping[int, Verdict]:
        if not self.before:
            return {}
        asked = [
            Asked(
                key=one.id,
                ids=frozenset({one.webhook_id, verdicts.read_payload(one.payload).id or ""}),
                payload=one.payload,
            )
            for one in owed
        ]
        return verdicts.parse(body, asked, max_bytes=self.message_max_bytes)

    def _failed(
        self,
        owed: Sequence[Owed],
        status: int | None,
        error: str,
        *,
        is_final: bool = False,
        is_about_one: bool = False,
        wait: float | None = None,
    ) -> list[Conclusion]:
        """Say when each is tried again, or that it is not. `wait`: what the endpoint asked for, in seconds."""
        # One message may be why the endpoint refuses a batch.
        is_split = len(owed) > 1 and (is_final or is_about_one)
        due_at = self.now if is_split else self.now + self._delay(owed[0].tries, wait)
        conclusions = []
        for one in owed:
            is_over = one.tries >= self.max_attempts or (one.deadline is not None and due_at >= one.deadline)
            is_dead = (is_final and not is_split) or is_over
            conclusions.append(
                Conclusion(
                    owed=one,
                    fate=Fate.DEAD if is_dead else Fate.RETRY,
                    due_at=self.now if is_dead else due_at,
                    status=status,
                    error=error[:ERROR_MAX_CHARACTERS],
                    # After a timeout or a 5xx the endpoint may still call back: then the deadline decides, not we.
                    fall_back=self.before and is_final and not is_split,
                    alone=is_split,
                )
            )
        return conclusions

    def _delay(self, tries: int, wait: float | None) -> timedelta:
        delay = retry.verdict_delay if self.before else retry.notification_delay
        return timedelta(seconds=delay(tries, chance=self.chance, retry_after=wait))
