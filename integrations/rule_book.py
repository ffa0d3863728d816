"""The rules that count now, for the accepting transaction: one small query, and the rows only after a change."""

from __future__ import annotations

from dataclasses import dataclass

from django.db import connection

from integrations.models import EventKind, IntegrationRule, When


@dataclass(frozen=True)
class RuleBook:
    """All rules at one version. Shared by threads: nobody changes its rows."""

    version: str
    before: tuple[IntegrationRule, ...]  # in the order in which they are asked, disabled ones too
    after: tuple[IntegrationRule, ...]  # enabled ones

    def hearing(self, event: EventKind) -> list[IntegrationRule]:
        """Return the enabled rules that hear of an event after it was published."""
        return [rule for rule in self.after if rule.event == event]


_current = RuleBook(version="", before=(), after=())


def read() -> RuleBook:
    """Return the rules as they are committed at this moment."""
    global _current
    version = _read_version()
    book = _current
    if book.version != version:
        # Rows that are newer than the version are read again by the next batch; older ones cannot be.
        rows = list(IntegrationRule.objects.order_by("order", "id"))
        book = _current = RuleBook(
            version=version,
            before=tuple(rule for rule in rows if rule.when == When.BEFORE),
            after=tuple(rule for rule in rows if rule.when == When.AFTER and rule.enabled),
        )
    return book


def _read_version() -> str:
    """Return a text that differs whenever a rule was added, changed or removed, by whomever.

    xmin is the transaction that wrote a row and ctid its place: Postgres keeps this version by itself.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT coalesce(string_agg(id || ':' || xmin || ':' || ctid, ',' ORDER BY id), '') "
            "FROM integrations_integrationrule"
        )
        return str(cursor.fetchone()[0])
