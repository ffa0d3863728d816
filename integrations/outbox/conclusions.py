"""Decides what an answer means for the deliveries of its call: done, retried or dead. Pure: takes clock and chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from integrations.egress.answers import Answer, CallFailed, explain
from integrations.outbox import retry
from integrations.outbox.retry import Chance
from integrations.wire import callback_tokens, verdicts
from integrations.wire.verdicts import AskedMessage, BadAnswer
from rooms.review.contract import Verdict

RESPONSE_KEPT_CHARACTERS = 4096
ERROR_MAX_CHARACTERS = 500
# After so many failures the deliveries of a batch are called one by one: one of them may be why the target fails.
TRIES_TOGETHER = 3
FORGIVEN_TRIES = len(retry.VERDICT_DELAYS_SECONDS)


@dataclass(frozen=True, kw_only=True)
class ClaimedDelivery:
    """A delivery that a worker has claimed for a call."""

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
    policy: str = ""  # what becomes of the message at the deadline, as its review said
    is_late: bool = False  # the deadline has decided; its verdict may still overrule that
    last_status: int | None = None

    @property
    def failed_often(self) -> bool:
        """Whether the delivery has failed too often to share a call with others."""
        return self.tries > TRIES_TOGETHER

    @property
    def asks_stand_in(self) -> bool:
        """Whether this call goes to the rule's stand-in: every second one, after a call that got no usable answer."""
        is_down = self.last_status is None or retry.judge(self.last_status) is retry.StatusMeaning.TEMPORARY
        return self.deadline is not None and not self.is_late and self.tries % 2 == 0 and is_down

    @property
    def is_suspect(self) -> bool:
        """Whether the delivery may be why its batch was refused: then it is called alone."""
        if self.attempt == 1:
            return False
        refused = self.last_status is not None and retry.judge(self.last_status) is not retry.StatusMeaning.TEMPORARY
        return refused or self.failed_often


@dataclass(frozen=True, kw_only=True)
class HeldLane:
    """A worker's claim on a lane, valid until another claim raises the lane's fence."""

    id: int
    fence: int


class Fate(StrEnum):
    """How a call ended for one delivery."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"
    CANCELLED = "cancelled"  # no longer needed


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """The result of a call for one delivery.

    `fall_back`: the rule's policy for the deadline decides now, because no later call can succeed. `alone`: the batch
    was refused, so the next call carries this delivery only. `forgive`: the calls so far do not count as tries.
    `answer`: a verdict that is stored and decides nothing (of a shadow rule).
    """

    delivery: ClaimedDelivery
    fate: Fate
    due_at: datetime
    status: int | None
    error: str = ""
    verdict: Verdict | None = None
    fall_back: bool = False
    alone: bool = False
    forgive: bool = False
    answer: str = ""


@dataclass(frozen=True, kw_only=True)
class CallReport:
    """The result of one call for all its deliveries. `is_shared`: no call was made, a cached verdict was used."""

    lane: HeldLane | None
    conclusions: Sequence[Conclusion]
    started_at: datetime
    duration_ms: float
    response: str = field(default="", repr=False)
    stand_in_id: int = 0  # the rule that was called in place of the deliveries' own
    is_shared: bool = False
    carried: int = 0  # how many deliveries the call had, where this is the result for some of them

    @property
    def events(self) -> int:
        """How many deliveries the call had."""
        return self.carried or len(self.conclusions)

    @property
    def by_stand_in(self) -> bool:
        """Whether another rule's target was called."""
        return self.stand_in_id > 0

    @property
    def lane_due_at(self) -> datetime:
        """When the lane's next call may begin: the head's retry holds back all behind it."""
        return self.conclusions[0].due_at

    @property
    def narrow(self) -> int:
        """The change of `Lane.narrow`, the number of deliveries that are called one by one."""
        if self.conclusions[0].alone:
            return len(self.conclusions)
        return -1 if len(self.conclusions) == 1 and self.conclusions[0].fate is not Fate.RETRY else 0


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Turns an answer into conclusions. `has_verdicts`: the rule is before publish, or the shadow of such a rule.

    `late_counts`: a verdict still counts after the deadline. `has_other`: the next call for a waiting message goes to
    another target: to the stand-in, or from the stand-in back to the rule's own.
    """

    has_verdicts: bool
    late_counts: bool
    now: datetime
    max_attempts: int
    retry_for: timedelta  # since the event; then it is a dead letter
    message_max_bytes: int
    chance: Chance
    has_other: bool = False

    def conclude(self, deliveries: Sequence[ClaimedDelivery], came: Answer | CallFailed) -> list[Conclusion]:
        """Return the conclusion for each delivery of a call."""
        if isinstance(came, CallFailed):
            return self._failed(deliveries, None, str(came), is_final=came.is_final)
        result = retry.judge(came.status)
        if result is not retry.StatusMeaning.SUCCESS:
            wait = retry.read_retry_after(came.status, came.retry_after, now=self.now.timestamp())
            is_final = result is retry.StatusMeaning.FINAL
            return self._failed(deliveries, came.status, explain(came), is_final=is_final, wait=wait)
        try:
            found = self._verdicts(deliveries, came.body)
        except BadAnswer as error:
            return self._failed(deliveries, came.status, str(error), is_about_one=True)
        return [self._delivered(one, came.status, found.get(one.id)) for one in deliveries]

    def share(self, one: ClaimedDelivery, verdict: Verdict) -> Conclusion:
        """Return the conclusion for a delivery that gets the verdict of another call about the same text."""
        return self._delivered(one, None, verdict)

    def _delivered(self, one: ClaimedDelivery, status: int | None, verdict: Verdict | None) -> Conclusion:
        decides = one.deadline is not None
        answer = "" if decides or verdict is None else verdicts.as_text(verdict)
        kept = verdict if decides else None
        return Conclusion(
            delivery=one, fate=Fate.DELIVERED, due_at=self.now, status=status, verdict=kept, answer=answer
        )

    def _verdicts(self, deliveries: Sequence[ClaimedDelivery], body: bytes) -> Mapping[int, Verdict]:
        if not self.has_verdicts:
            return {}
        asked = [
            AskedMessage(
                key=one.id,
                ids=frozenset({one.webhook_id, verdicts.read_payload(one.payload).id or ""}),
                payload=one.payload,
            )
            for one in deliveries
        ]
        return verdicts.parse(body, asked, max_bytes=self.message_max_bytes)

    def _failed(
        self,
        deliveries: Sequence[ClaimedDelivery],
        status: int | None,
        error: str,
        *,
        is_final: bool = False,
        is_about_one: bool = False,
        wait: float | None = None,
    ) -> list[Conclusion]:
        """Return the conclusions of a failed call: retried at a time, or dead. `wait`: Retry-After, in seconds."""
        # One target may refuse for good (the function or its permission was deleted); the other may still answer.
        is_final = is_final and not self.has_other
        # One message may be why the endpoint refuses a batch, or fails on it every time.
        is_refused = is_final or is_about_one
        is_split = len(deliveries) > 1 and (is_refused or deliveries[0].failed_often)
        due_at = self.now if is_split and is_refused else self.now + self._delay(deliveries[0], wait)
        conclusions = []
        for one in deliveries:
            is_dead = (is_final and not is_split) or self._is_over(one, due_at)
            asks = one.deadline is not None
            conclusions.append(
                Conclusion(
                    delivery=one,
                    fate=Fate.DEAD if is_dead else Fate.RETRY,
                    due_at=self.now if is_dead else due_at,
                    status=status,
                    error=_readable(error)[:ERROR_MAX_CHARACTERS],
                    # After a timeout or a 5xx the endpoint may still call back, so the message waits for its deadline.
                    fall_back=asks and not one.is_late and is_final and not is_split,
                    alone=is_split,
                    # Calls for verdicts go on until the deadline, however far away that is.
                    forgive=asks and not is_dead and one.tries >= min(FORGIVEN_TRIES, self.max_attempts),
                )
            )
        return conclusions

    def _is_over(self, one: ClaimedDelivery, due_at: datetime) -> bool:
        """Return whether a failed delivery is given up. Calls for verdicts are repeated until the deadline."""
        if one.deadline is not None and not one.is_late and (due_at < one.deadline or not self.late_counts):
            return due_at >= one.deadline
        # A delivery that somebody resends by hand gets all its attempts, however old its event is.
        is_old = one.attempt == one.tries and self.now - one.created_at >= self.retry_for
        return one.tries >= self.max_attempts or is_old

    def _delay(self, one: ClaimedDelivery, wait: float | None) -> timedelta:
        if one.deadline is not None and not one.is_late:
            wait = None if self.has_other else wait
            return timedelta(seconds=retry.verdict_delay(one.tries, chance=self.chance, retry_after=wait))
        return timedelta(seconds=retry.notification_delay(one.tries, chance=self.chance, retry_after=wait))


def _readable(error: str) -> str:
    """Return an error text of an endpoint without callback tokens and unprintable characters."""
    return "".join(one if one.isprintable() else "\ufffd" for one in callback_tokens.hide(error))
