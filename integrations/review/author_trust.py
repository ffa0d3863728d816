"""The trust of authors: set by a moderator, or else derived from how many of their last messages were published."""

from __future__ import annotations

import time
from collections.abc import Collection
from datetime import datetime

from django.conf import settings
from django.db import connection

from integrations.models import AuthorTrust, Trust

# One query for all authors of a batch. Of each author only the last `looked_at` messages are read.
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
KNOWN_SECONDS = 60.0  # so long an author found to be known is not counted again
KNOWN_KEPT = 10_000


class KnownAuthors:
    """Client ids of authors who were found to be known in the last KNOWN_SECONDS. Bounded; threads share it."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def __contains__(self, client_id: str) -> bool:
        return self._until.get(client_id, 0.0) > time.monotonic()

    def add(self, client_id: str) -> None:
        """Remember a client id for KNOWN_SECONDS."""
        if len(self._until) >= KNOWN_KEPT:
            self._until = {}
        self._until[client_id] = time.monotonic() + KNOWN_SECONDS

    def clear(self) -> None:
        """Forget all."""
        self._until = {}


known = KnownAuthors()


def read(client_ids: Collection[str]) -> dict[str, Trust]:
    """Return the trust of each author, with one query.

    If no moderator has set it, an author is known when at least TRUST_KNOWN_MESSAGES of the last
    2 * TRUST_KNOWN_MESSAGES messages were published, and new otherwise.
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
    """Store the trust that a moderator sets for an author; None deletes it. It applies from the next message on."""
    if trust is None:
        AuthorTrust.objects.filter(client_id=client_id).delete()
    else:
        AuthorTrust.objects.update_or_create(
            client_id=client_id, defaults={"trust": trust, "note": note[:200], "changed_at": now}
        )
