"""The rules that count now, for the accepting transaction: one small query, and the rows only after a change."""

from __future__ import annotations

from dataclasses import dataclass

from integrations.models import EventKind, IntegrationRule, When
from rooms.table_version import SmallTable

RULES = SmallTable("integrations_integrationrule")


@dataclass(frozen=True)
class RuleBook:
    """All rules at one version. Shared by threads: nobody changes its rows."""

    version: str
    before: tuple[IntegrationRule, ...]  # in the order in which they are asked, disabled ones too
    after: tuple[IntegrationRule, ...]  # enabled ones

    def hearing(self, event: EventKind) -> list[IntegrationRule]:
        """Return the enabled rules that hear of an event after it was published."""
        return [rule for rule in self.after if event in rule.events]


_current = RuleBook(version="", before=(), after=())


def read() -> RuleBook:
    """Return the rules as they are committed at this moment."""
    global _current
    version = RULES.version()
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
