"""The room that tests write to, and drafts for it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest

from rooms.log.content import Content, Draft
from rooms.models import Room
from rooms.review import pipeline
from tests.rooms.reviewers import Obedient

_numbers = count()


@pytest.fixture
def obedient(settings: Any) -> Iterator[Obedient]:
    """The only reviewer is one that does what the texts ask for."""
    settings.ROOMS_REVIEWERS = ["tests.rooms.reviewers.Obedient"]
    pipeline.reviewers.cache_clear()
    reviewer = pipeline.reviewers()[0]
    assert isinstance(reviewer, Obedient)
    yield reviewer
    pipeline.reviewers.cache_clear()


@pytest.fixture
def room(db: None) -> Room:
    return Room.objects.create(name="lobby")


def draft(room: Room, text: str, *, author: str = "alice", message_id: str | None = None, origin: str = "") -> Draft:
    """A draft as a connection of `author` would make it."""
    return Draft(
        room_id=room.pk,
        room=room.name,
        message_id=message_id or f"id-{next(_numbers)}",
        author=f"client:{author}",
        client_id=author,
        connection_id=f"connection-of-{author}",
        content=Content(text=text),
        origin=origin,
    )
