"""What tests of rules and deliveries share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from rooms.review import pipeline
from tests.integrations.receiver import Receiver, running_receiver


@pytest.fixture
def webhooks_only(settings: Any) -> Iterator[None]:
    """Rules are the only reviewer, and targets on this machine are allowed."""
    settings.ROOMS_REVIEWERS = ["integrations.review.reviewer.WebhookReviewer"]
    settings.WEBHOOK_ALLOW_PRIVATE = ["127.0.0.0/8"]
    pipeline.reviewers.cache_clear()
    yield
    pipeline.reviewers.cache_clear()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with running_receiver() as running:
        yield running
