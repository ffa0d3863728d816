"""Stores word rules, and caches the enabled ones for the reviewer."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock

import re2

from moderation.matcher import Matcher, Rule, compile_regex
from moderation.models import WordRule
from rooms.database.small_tables import SmallTable

logger = logging.getLogger(__name__)

MAX_ENABLED = 500  # further rules are not matched, and the admin refuses to enable them
MAX_MATCHERS = 32  # cached matchers, one for each distinct set of rules; each may take up to 16 MB
MAX_ROOMS = 10_000
ENABLED = SmallTable("moderation_wordrule", "enabled")


# --- State changes ----------------------------------------------------------------------------------------


def store(rule: WordRule, *, by: str, now: datetime) -> None:
    """Store a new or edited rule, which must have been cleaned. It counts from the next batch of messages on."""
    rule.changed_at, rule.changed_by = now, by[:150]
    rule.save()


def set_enabled(rules: Collection[int], *, enabled: bool, by: str, now: datetime) -> int:
    """Enable or disable rules by primary key, and return how many have changed."""
    changing = WordRule.objects.filter(pk__in=rules, enabled=not enabled)
    return changing.update(enabled=enabled, changed_at=now, changed_by=by[:150])


# --- Reading ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class WordRules:
    """The enabled word rules at one moment. Matchers are built when a room first needs them. Threads share it."""

    version: str
    rules: tuple[Rule, ...]
    _rooms: OrderedDict[str, Matcher | None] = field(default_factory=OrderedDict, repr=False)
    _matchers: OrderedDict[tuple[int, ...], Matcher] = field(default_factory=OrderedDict, repr=False)
    _lock: Lock = field(default_factory=Lock, repr=False)

    def matcher_for(self, room: str) -> Matcher | None:
        """Return the matcher for a room, None if no rule applies to it."""
        with self._lock:
            if room not in self._rooms:
                self._rooms[room] = self._make_matcher(room)
                if len(self._rooms) > MAX_ROOMS:
                    self._rooms.popitem(last=False)
            return self._rooms[room]

    def _make_matcher(self, room: str) -> Matcher | None:
        applying = [rule for rule in self.rules if _applies(rule, room)]
        if not applying:
            return None
        key = tuple(rule.id for rule in applying)
        if key not in self._matchers:
            self._matchers[key] = Matcher(applying)
            if len(self._matchers) > MAX_MATCHERS:
                self._matchers.popitem(last=False)
                self._rooms.clear()  # its entries would keep the dropped matcher in memory
        return self._matchers[key]


_current = WordRules(version="", rules=())


def read() -> WordRules:
    """Return the enabled word rules: one query, and a second one only after a rule was changed."""
    global _current
    version = ENABLED.version()
    book = _current
    if book.version != version:
        book = _current = WordRules(version=version, rules=tuple(_usable(_read_enabled())))
    return book


def count_enabled() -> int:
    """Return the number of enabled rules."""
    return WordRule.objects.filter(enabled=True).count()


def _read_enabled() -> list[Rule]:
    return [row.as_rule() for row in WordRule.objects.filter(enabled=True).order_by("id")[:MAX_ENABLED]]


def _usable(rules: Sequence[Rule]) -> list[Rule]:
    """Leave out rules that cannot be compiled: a rule stored past the checks must not stop every message."""
    usable = []
    for rule in rules:
        try:
            Matcher([rule])
            compile_regex(rule.room_filter)
        except (re2.error, ValueError, IndexError):
            logger.error("word rule %d cannot be compiled and is skipped; edit it in the admin", rule.id)
        else:
            usable.append(rule)
    return usable


def _applies(rule: Rule, room: str) -> bool:
    return not rule.room_filter or compile_regex(rule.room_filter).search(room) is not None
