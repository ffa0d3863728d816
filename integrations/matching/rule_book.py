"""The current integration rules, cached: a small query reads their version, and the rows only after a change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from integrations.models import EventKind, IntegrationRule, When
from integrations.wire import events
from rooms.database.small_tables import SmallTable

RULES = SmallTable("integrations_integrationrule")


@dataclass(frozen=True)
class RuleBook:
    """All integration rules at one version of their table. Threads share it, so its rows are never changed."""

    version: str
    before: tuple[IntegrationRule, ...] = ()  # rules before publish in their order, disabled ones too, without shadows
    shadows: Mapping[int, tuple[IntegrationRule, ...]] = field(default_factory=dict)  # enabled, by their main rule
    after: Mapping[str, tuple[IntegrationRule, ...]] = field(default_factory=dict)  # enabled, by event
    # Rules that receive message events in room order; a transaction can produce two events for the same message.
    ordered_message_rules: tuple[int, ...] = ()

    def receivers_of(self, event: EventKind) -> Sequence[IntegrationRule]:
        """Return the enabled rules after publish that receive an event."""
        return self.after.get(event, ())

    def place_of(self, rule_id: int) -> int:
        """Return the index of a rule in `before`, -1 if it is not in it."""
        return next((place for place, rule in enumerate(self.before) if rule.pk == rule_id), -1)


_current = RuleBook(version="")


def read() -> RuleBook:
    """Return the rules as they are committed now."""
    global _current
    version = RULES.version()
    book = _current
    if book.version != version:
        # The rows may be newer than the version, never older: then the next call reads them again.
        book = _current = _book_of(version, list(IntegrationRule.objects.order_by("order", "id")))
    return book


def _book_of(version: str, rows: Sequence[IntegrationRule]) -> RuleBook:
    shadows: dict[int, tuple[IntegrationRule, ...]] = {}
    after: dict[str, tuple[IntegrationRule, ...]] = {}
    for rule in rows:
        if not rule.enabled:
            continue
        if rule.shadow_of_id is not None:
            shadows[rule.shadow_of_id] = (*shadows.get(rule.shadow_of_id, ()), rule)
        elif rule.when == When.AFTER:
            after |= {event: (*after.get(event, ()), rule) for event in rule.events}
    lanes = [rule for rule in rows if rule.enabled and rule.when == When.AFTER and rule.ordered]
    kinds = {event for rule in lanes for event in rule.events} & events.OF_MESSAGES
    return RuleBook(
        ordered_message_rules=()
        if kinds <= {events.MESSAGE}
        else tuple(rule.pk for rule in lanes if kinds & set(rule.events)),
        version=version,
        before=tuple(rule for rule in rows if rule.when == When.BEFORE and not rule.is_shadow),
        shadows=shadows,
        after=after,
    )
