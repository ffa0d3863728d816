"""Authors who wait for a late verdict."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError

from rooms import verdicts
from rooms.outcomes import OutcomeKind
from rooms.verdicts import Verdicts


async def test_patience_ends_while_postgres_is_away(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    async def away(*_: Any) -> Any:
        raise OperationalError

    monkeypatch.setattr(verdicts.database, "run", away)
    monkeypatch.setattr(verdicts, "POLL_SECONDS", -1.0)
    settings.ACK_PATIENCE_SECONDS = -1.0
    waiting = Verdicts()
    told = waiting.wait(7)
    with pytest.raises(OperationalError):
        await waiting.poll()

    assert told.done() and told.result().kind is OutcomeKind.PENDING
    assert waiting.waiting == 0
