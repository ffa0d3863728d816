"""Workers that decide, end waits, let deadlines pass and overrule at once, while others accept into the same rooms."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from rooms.log.content import Content
from rooms.log.outcomes import Outcome, OutcomeKind
from rooms.models import Message, Room, Status
from rooms.models import Verdict as Word
from rooms.publishing.accept import accept
from rooms.review.contract import Decision, Verdict, VerdictAction
from rooms.review.deadlines import expire, hasten
from rooms.review.decide import decide
from rooms.review.overrule import overrule
from tests.patience import PATIENCE
from tests.rooms.conftest import draft
from tests.rooms.reviewers import Obedient

ROOMS, MESSAGES, AUTHORS = 4, 240, 6
NOW = timezone.now()
COUNTED = (OutcomeKind.PUBLISHED, OutcomeKind.REJECTED, OutcomeKind.HELD, OutcomeKind.PENDING)


def decisions(messages: list[int], chance: random.Random) -> list[Decision]:
    """One for each message, in no order."""
    said = []
    for message in chance.sample(messages, len(messages)):
        action = chance.choice(list(VerdictAction))
        content = Content(text="clean") if action is VerdictAction.REPLACE else None
        verdict = Verdict(action=action, content=content)
        said.append(Decision(message=message, awaiting="obedient:one", verdict=verdict))
    return said


def in_batches(
    take: Callable[..., list[Outcome]], messages: list[int], chance: random.Random
) -> list[tuple[int, OutcomeKind]]:
    """Give `take` decisions on all messages, some at a time. Return what became of each."""
    left, outcomes = decisions(messages, chance), []
    while left:
        size = chance.randint(1, 30)
        taken, left = left[:size], left[size:]
        outcomes += [(one.message, one.kind) for one in take(taken, now=NOW)]
    return outcomes


def accept_more(rooms: list[Room], start: int) -> list[int]:
    texts = [f"defer {'open' if place % 3 else 'human'} {place:04d}" for place in range(start, start + MESSAGES)]
    drafts = [
        draft(rooms[place % ROOMS], text, author=f"author {place % AUTHORS}") for place, text in enumerate(texts, start)
    ]
    return [one.message for first in range(0, MESSAGES, 20) for one in accept(drafts[first : first + 20], now=NOW)]


@pytest.mark.django_db(transaction=True)
def test_whoever_decides_at_once_each_message_hears_one_and_the_logs_have_no_gap(obedient: Obedient) -> None:
    rooms = [Room.objects.create(name=f"decided-{number}") for number in range(ROOMS)]
    chance = random.Random(11)
    first, second = accept_more(rooms, 0), accept_more(rooms, MESSAGES)
    overdue = NOW + timedelta(seconds=60)

    def alone(work: Callable[[], object]) -> object:
        try:
            return work()
        finally:
            connection.close()

    seeds = [random.Random(chance.random()) for _ in range(6)]
    with ThreadPoolExecutor(max_workers=7) as threads:
        deciding = [threads.submit(alone, lambda c=seed: in_batches(decide, first, c)) for seed in seeds[:2]]
        more = threads.submit(alone, lambda: accept_more(rooms, 2 * MESSAGES))
        others = [threads.submit(alone, lambda: hasten("obedient:one", now=NOW + timedelta(seconds=1)))]
        told: Counter[int] = Counter()
        for done in deciding:
            told.update(message for message, kind in done.result(timeout=PATIENCE) if kind in COUNTED)  # type: ignore[attr-defined]
        assert sorted(told) == sorted(first) and set(told.values()) == {1}

        # The second half is decided by its deadline, and by late verdicts that race with it and with each other.
        others += [threads.submit(alone, lambda: expire(now=overdue)) for _ in range(2)]
        overruling = [threads.submit(alone, lambda c=seed: in_batches(overrule, second, c)) for seed in seeds[2:4]]
        more.result(timeout=PATIENCE)
        for other in [*others, *overruling]:
            other.result(timeout=PATIENCE)
    while expire(now=overdue):
        pass
    told_late = in_batches(overrule, second, seeds[4])

    words = Counter(Word.objects.values_list("message_id", "step"))
    assert max(words.values()) == 1, "each step speaks once of a message"
    late = {message for message, step in words if step.startswith("late ")}
    assert late == set(second) and any(kind is OutcomeKind.STALE for _, kind in told_late)
    assert not Message.objects.filter(status__in=[Status.ACCEPTED, Status.APPROVED]).exists()
    for room in rooms:
        room.refresh_from_db()
        messages = Message.objects.filter(room=room, serial__isnull=False)
        places = set(messages.values_list("serial", flat=True)) | set(messages.values_list("created_serial", flat=True))
        versions = set(Message.objects.filter(room=room).values_list("versions__serial", flat=True)) - {None}
        assert places | versions == set(range(1, room.head + 1))
        in_turn = messages.exclude(verdicts__step__startswith="late ").exclude(verdicts__step="moderator")
        for number in range(AUTHORS):
            of_author = in_turn.filter(author=f"client:author {number}").order_by("created_serial")
            keys = list(of_author.values_list("pk", flat=True))
            assert keys == sorted(keys)
