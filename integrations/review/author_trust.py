"""How far authors are trusted: what a moderator said of them, or else how much of theirs was published lately."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import datetime

from django.conf import settings
from django.db import connection

from integrations.models import AuthorTrust, Trust

# One query for all authors of a batch. Of each author no more than the last messages are read, however many there are.
_READ = """
SELECT asked.client_id, said.trust, (
    SELECT count(*) FILTER (WHERE recent.status = 'published') FROM (
        SELECT status FROM rooms_message AS message
        WHERE asked.is_open AND message.client_id = asked.client_id ORDER BY message.id DESC LIMIT %(looked_at)s
    ) AS recent
)
FROM unnest(%(client_ids)s::text[], %(is_open)s::boolean[]) AS asked (client_id, is_open)
LEFT JOIN integrations_authortrust AS said ON said.client_id = asked.client_id
"""
KNOWN_SECONDS = 60.0  # so long an author who is known is not looked up again
KNOWN_KEPT = 10_000


class KnownAuthors:
    """Client ids that were found known a moment ago. Bounded; shared by threads."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def __contains__(self, client_id: str) -> bool:
        return self._until.get(client_id, 0.0) > time.monotonic()

    def add(self, client_id: str) -> None:
        """Remember one for KNOWN_SECONDS."""
        if len(self._until) >= KNOWN_KEPT:
            self._until = {}
        self._until[client_id] = time.monotonic() + KNOWN_SECONDS

    def clear(self) -> None:
        """Forget all."""
        self._until = {}


known = KnownAuthors()


def read(client_ids: Collection[str]) -> dict[str, Trust]:
    """Return how far authors are trusted, with one query; every author that was asked about is in it.

    Without a moderator's word an author is known if, of the last 2 * TRUST_KNOWN_MESSAGES messages, so many as
    TRUST_KNOWN_MESSAGES were published.
    """
    if not client_ids:
        return {}
    asked = list(client_ids)
    wanted: int = settings.TRUST_KNOWN_MESSAGES
    is_open = [client_id not in known for client_id in asked]
    with connection.cursor() as cursor:
        cursor.execute(_READ, {"client_ids": asked, "is_open": is_open, "looked_at": 2 * wanted})
        rows = cursor.fetchall()
    found: dict[str, Trust] = {}
    for client_id, said, published in rows:
        if said is None and published >= wanted:
            known.add(client_id)
        is_known = published >= wanted or client_id in known
        found[client_id] = Trust(said) if said else Trust.KNOWN if is_known else Trust.NEW
    return found


def set_trust(client_id: str, trust: Trust | None, *, note: str = "", now: datetime) -> None:
    """Store a moderator's word on an author; None takes it back. It counts for the next message."""
    if trust is None:
        AuthorTrust.objects.filter(client_id=client_id).delete()
    else:
        AuthorTrust.objects.update_or_create(
            client_id=client_id, defaults={"trust": trust, "note": note[:200], "changed_at": now}
        )
