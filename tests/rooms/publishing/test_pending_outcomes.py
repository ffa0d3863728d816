"""Authors who wait for a late verdict."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError
from django.utils import timezone

from rooms.log.outcomes import OutcomeKind
from rooms.models import Room
from rooms.publishing import pending_outcomes
from rooms.publishing.accept import accept
from rooms.publishing.pending_outcomes import PendingOutcomes
from tests.rooms.conftest import draft
from tests.rooms.reviewers import Obedient


async def test_patience_ends_while_postgres_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> Any:
        raise OperationalError

    monkeypatch.setattr(pending_outcomes.threads, "run", away)
    monkeypatch.setattr(pending_outcomes, "POLL_SECONDS", -1.0)
    monkeypatch.setattr("rooms.publishing.pending_outcomes.ACK_PATIENCE_SECONDS", -1.0)
    waiting = PendingOutcomes()
    told = waiting.wait(7)
    with pytest.raises(OperationalError):
        await waiting.poll()

    assert told.done() and told.result().kind is OutcomeKind.PENDING
    assert waiting.waiting == 0


@pytest.mark.django_db
def test_only_what_is_decided_is_told_to_those_who_wait(room: Room, obedient: Obedient) -> None:
    texts = ["hi", "defer", "hold", "reject"]
    accepted = accept([draft(room, text, author=text) for text in texts], now=timezone.now())
    decided = pending_outcomes.read_outcomes([outcome.message for outcome in accepted])

    assert {outcome.kind for outcome in decided} == {OutcomeKind.PUBLISHED, OutcomeKind.HELD, OutcomeKind.REJECTED}
    assert {outcome.message for outcome in decided} == {
        outcome.message for outcome in accepted if outcome.kind is not OutcomeKind.PENDING
    }
