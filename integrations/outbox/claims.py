"""Claims due deliveries for a worker: each claim is a lease, after which other workers may claim them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any

from django.db import transaction

from integrations.matching.rule_book import RULES
from integrations.models import IntegrationRule, Late
from integrations.outbox import queries
from integrations.outbox.conclusions import ClaimedDelivery, Conclusion, Fate, HeldLane
from integrations.outbox.new_deliveries import NOTIFY
from integrations.outbox.records import releasing, storing
from rooms.database.statements import Statement, together

NO_REPORT = "Every worker that called ended before it could tell the answer."  # shown in the admin
NOT_NEEDED = "The message was decided without it."
NO_ROOM = "The room no longer exists."


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The deliveries that one call will carry."""

    rule: IntegrationRule
    deliveries: Sequence[ClaimedDelivery]
    lane: HeldLane | None = None


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The calls that a worker may begin for one rule, and how many seconds each is leased."""

    rule_id: int
    calls: int
    lease: float


@dataclass(frozen=True, kw_only=True)
class Claimed:
    """The claims of one transaction, with all rules as they were at that moment."""

    rules: Mapping[int, IntegrationRule]
    claims: Sequence[Claim]
    given_up: Mapping[int, int]  # by rule: deliveries that became dead letters unseen, their workers having died


# --- Claiming ---------------------------------------------------------------------------------------------


def claim_singles(
    capacities: Sequence[Capacity], *, free: int, max_attempts: int, owner: str, now: datetime
) -> Claimed:
    """Claim due deliveries outside lanes, for at most `free` calls. Deliveries that nobody needs now are cancelled."""
    with transaction.atomic():
        version, rows = together(
            [_LIGHTLY, _VERSION, (queries.CLAIM_SINGLES, [now, *_columns(capacities), owner, float(free)])]
        )[1:]
        rules = _read_rules(version[0][0])
        taken: list[ClaimedDelivery] = []
        ended: list[Conclusion] = []
        for *columns, policy, last_status, is_waiting, is_answered in rows:
            one = _claimed_delivery(columns, policy, last_status)
            problem = _problem(one, max_attempts)
            if not problem and one.deadline is not None and (not is_waiting or one.deadline <= now):
                # The message was decided: by the deadline, or by another verdict.
                one = _claimed_delivery(columns, policy, last_status, is_late=True)
                problem = "" if _counts_late(rules.get(one.rule_id), one, is_answered, now) else NOT_NEEDED
            if problem:
                ended.append(_ending(one, problem, now))
            else:
                taken.append(one)
        if ended:
            together(storing(ended, now))
    return Claimed(rules=rules, claims=_group(taken, rules), given_up=_given_up(ended))


def claim_lanes(capacities: Sequence[Capacity], *, free: int, max_attempts: int, owner: str, now: datetime) -> Claimed:
    """Claim due lanes with their oldest deliveries: one call for each lane, at most `free` calls."""
    with transaction.atomic():
        _, version, lanes, rows = together(
            [
                _LIGHTLY,
                _VERSION,
                (queries.CLAIM_LANES, [now, *_columns(capacities), free, owner]),
                (queries.CLAIM_HEADS, [owner]),
            ]
        )
        rules = _read_rules(version[0][0])
        fences = dict(zip(lanes[0][0] or (), lanes[0][1] or (), strict=True))
        by_lane: dict[int, list[ClaimedDelivery]] = {lane: [] for lane in fences}
        ended: list[Conclusion] = []
        for *columns, lane in rows:
            one = _claimed_delivery(columns)
            if problem := _problem(one, max_attempts):
                ended.append(_ending(one, problem, now))
            else:
                by_lane[lane].append(one)
        # A lane whose head was given up just now may hold more deliveries; the next claim finds them.
        empty = [lane for lane, deliveries in by_lane.items() if not deliveries]
        if ended or empty:
            together([*storing(ended, now), *releasing(empty, [now] * len(empty), [0] * len(empty))])
    claims = [
        Claim(
            rule=rules[deliveries[0].rule_id],
            deliveries=sorted(deliveries, key=lambda one: one.id),
            lane=HeldLane(id=lane, fence=fences[lane]),
        )
        for lane, deliveries in by_lane.items()
        if deliveries and deliveries[0].rule_id in rules
    ]
    return Claimed(rules=rules, claims=claims, given_up=_given_up(ended))


def release(claims: Sequence[Claim], *, now: datetime) -> None:
    """Give back claims whose calls were not made or not finished: other workers may claim them at once."""
    deliveries = [one for claim in claims for one in claim.deliveries]
    lanes = [claim.lane for claim in claims if claim.lane is not None]
    if not deliveries:
        return
    with transaction.atomic():
        unclaim: Statement = (
            queries.UNCLAIM,
            [now, [one.id for one in deliveries], [one.attempt for one in deliveries]],
        )
        lock: Statement = (queries.LOCK_LANES, [[lane.id for lane in lanes], [lane.fence for lane in lanes]])
        locked = [lane for (lane,) in together([lock, unclaim])[0]]
        together([*releasing(locked, [now] * len(locked), [0] * len(locked)), NOTIFY])


_LIGHTLY: Statement = (queries.CLAIM_LIGHTLY, ())
_VERSION: Statement = (f"SELECT ({RULES.query})", ())


def _columns(capacities: Sequence[Capacity]) -> tuple[list[int], list[int], list[float]]:
    return [one.rule_id for one in capacities], [one.calls for one in capacities], [one.lease for one in capacities]


# --- From rows to claims ----------------------------------------------------------------------------------


def _claimed_delivery(
    columns: Sequence[Any], policy: str = "", last_status: int | None = None, *, is_late: bool = False
) -> ClaimedDelivery:
    (
        id_, rule_id, room_id, message_id, event, serial, webhook_id, payload, attempts, forgiven, created_at,
        deadline, room, epoch,
    ) = columns  # fmt: skip
    return ClaimedDelivery(
        id=id_, rule_id=rule_id, room_id=room_id, message_id=message_id, event=event, serial=serial,
        webhook_id=webhook_id, payload=payload, attempt=attempts, tries=attempts - forgiven, created_at=created_at,
        deadline=deadline, room=room or "", epoch=epoch or "", policy=policy, is_late=is_late,
        last_status=last_status,
    )  # fmt: skip


def _problem(one: ClaimedDelivery, max_attempts: int) -> str:
    if not one.room:
        return NO_ROOM
    return NO_REPORT if one.tries > max_attempts else ""


def _counts_late(rule: IntegrationRule | None, one: ClaimedDelivery, is_answered: bool, now: datetime) -> bool:
    """Return whether a verdict may still change a message that the deadline has decided."""
    assert one.deadline is not None
    return rule is not None and rule.late == Late.APPLY and one.deadline <= now and not is_answered


def _ending(one: ClaimedDelivery, problem: str, now: datetime) -> Conclusion:
    fate = Fate.DEAD if problem == NO_REPORT else Fate.CANCELLED
    return Conclusion(delivery=one, fate=fate, due_at=now, status=None, error=problem)


def _given_up(ended: Sequence[Conclusion]) -> Mapping[int, int]:
    return Counter(one.delivery.rule_id for one in ended if one.fate is Fate.DEAD)


def _group(taken: Sequence[ClaimedDelivery], rules: Mapping[int, IntegrationRule]) -> list[Claim]:
    """Group deliveries into calls: those of a batched rule together, except for suspects, which are called alone."""
    claims: list[Claim] = []
    gathered: dict[int, list[ClaimedDelivery]] = {}
    # First the deliveries whose messages wait for a verdict.
    for one in sorted(taken, key=lambda one: (one.deadline is None, one.is_late, one.id)):
        rule = rules.get(one.rule_id)
        if rule is None:  # the rule was just removed, and its deliveries with it
            continue
        if not rule.batched or one.is_suspect:
            claims.append(Claim(rule=rule, deliveries=[one]))
        else:
            gathered.setdefault(rule.pk, []).append(one)
    return claims + [
        Claim(rule=rules[rule_id], deliveries=deliveries)
        for rule_id, all_ in gathered.items()
        for deliveries in _batches(all_, rules)
    ]


def _batches(
    deliveries: Sequence[ClaimedDelivery], rules: Mapping[int, IntegrationRule]
) -> list[list[ClaimedDelivery]]:
    """Split the deliveries of one rule into calls by number and bytes. Late ones are not mixed with others."""
    rule = rules[deliveries[0].rule_id]
    batches: list[list[ClaimedDelivery]] = []
    for _, alike in groupby(deliveries, key=lambda one: one.is_late):
        room = 0
        for one in alike:
            size = len(one.payload.encode())
            if room < size or len(batches[-1]) >= rule.batch_events:
                batches.append([])
                room = max(rule.batch_bytes, size)
            batches[-1].append(one)
            room -= size
        # Late deliveries begin a call of their own.
    return batches


# --- Rules ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _KnownRules:
    """All rules at one version of their table. Threads share it, so its rows are never changed."""

    version: str
    rules: Mapping[int, IntegrationRule]


_known = _KnownRules(version="", rules={})


def _read_rules(version: str) -> Mapping[int, IntegrationRule]:
    global _known
    known = _known
    if known.version != version:
        known = _known = _KnownRules(version=version, rules={rule.pk: rule for rule in IntegrationRule.objects.all()})
    return known.rules
