"""Caches verdicts by text, so that one call decides many messages with the same text (a raid). Pure; one per worker.

The first messages with a text are each called for, so that a text which two people happen to write is judged twice.
After that there is one call at a time (single flight), and its verdict is used for `seconds`. Failures and
contradicting verdicts are never shared. A verdict that replaces the content is used for the same bytes only.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from hashlib import blake2b
from itertools import islice

import msgspec

from integrations.wire.verdicts import as_text
from rooms.protocol.wire import Message
from rooms.review.contract import Verdict, VerdictAction

TextKey = bytes
LookAgain = Callable[[], None]
TEXTUAL = frozenset({None, "", "json", "utf-8"})  # encodings in which letters are letters
MAX_REPLACED = 50  # spellings of one text whose replacements are kept


class CacheMiss(Enum):
    """What to do with a message that has no cached verdict."""

    CALL = "call"
    WAIT = "wait"  # for the calls under way


@dataclass(frozen=True, kw_only=True)
class TextKeys:
    """Keys of a message's text: `alike` ignores case, width and spaces; `exact` is equal for the same bytes only."""

    alike: TextKey
    exact: TextKey


@dataclass
class _Known:
    began: float  # of its window
    calls: int = 0  # in the window
    under_way: Counter[TextKey] = field(default_factory=Counter)  # by exact
    shared: str | None = None  # the verdict's text; None: none came yet
    verdict: Verdict | None = None
    replaced: dict[TextKey, Verdict] = field(default_factory=dict)
    contradicts: bool = False
    waiting: list[LookAgain] = field(default_factory=list)


def text_keys_of(message: Message, *, room_id: int, rule_id: int, changed_at: datetime) -> TextKeys:
    """Return the keys of a message's text for one version of one rule. Data that is no text is compared as it is."""
    data = folded = message.data
    if isinstance(data, str) and message.encoding in TEXTUAL:
        folded = " ".join(unicodedata.normalize("NFKC", data).casefold().split())
    about = (rule_id, changed_at.timestamp(), room_id, message.name, message.encoding, message.extras)
    return TextKeys(alike=_digest((*about, folded)), exact=_digest((*about, data)))


def _digest(value: object) -> TextKey:
    # JSON can hold every number of a payload; MessagePack cannot.
    return blake2b(msgspec.json.encode(value, order="deterministic"), digest_size=16).digest()


class VerdictCache:
    """The cache of one worker. Beyond `max_texts` the least recently used texts go, unless a call is under way."""

    def __init__(self, *, max_texts: int) -> None:
        self._max = max_texts
        self._known: OrderedDict[TextKey, _Known] = OrderedDict()
        self.waiting = 0

    def __len__(self) -> int:
        return len(self._known)

    def look(self, subject: TextKeys, *, seconds: float, after: int, now: float) -> Verdict | CacheMiss:
        """Return the cached verdict, or whether to call (then `begin`) or to `wait` for calls under way."""
        known = self._fresh(subject.alike, seconds, now)
        if known is None or known.contradicts or known.calls < max(after, 1):
            return CacheMiss.CALL
        if known.shared is None:
            return CacheMiss.WAIT if known.under_way.total() else CacheMiss.CALL
        verdict = known.replaced.get(subject.exact) if known.replaced else known.verdict
        return verdict or (CacheMiss.WAIT if known.under_way[subject.exact] else CacheMiss.CALL)

    def begin(self, subject: TextKeys, *, now: float) -> None:
        """Count a call about a text. Each `begin` needs its `end`."""
        known = self._known.get(subject.alike)
        if known is None:
            known = self._known[subject.alike] = _Known(began=now)
            self._trim()
        self._known.move_to_end(subject.alike)
        known.calls += 1
        known.under_way[subject.exact] += 1

    def wait(self, subject: TextKeys, look_again: LookAgain) -> None:
        """Call `look_again` once, when a call about the text has ended and `look` may return something else."""
        self._known[subject.alike].waiting.append(look_again)
        self.waiting += 1

    def end(self, subject: TextKeys, verdict: Verdict | None) -> None:
        """Store the verdict of a call, None if it failed or gave none, and call those who wait."""
        known = self._known[subject.alike]
        known.under_way[subject.exact] -= 1
        if not known.under_way[subject.exact]:
            del known.under_way[subject.exact]
        if verdict is not None:
            self._learn(known, subject, verdict)
        if known.shared is not None or not known.under_way:
            waiting, known.waiting = known.waiting, []
            self.waiting -= len(waiting)
            for look_again in waiting:
                look_again()

    def _learn(self, known: _Known, subject: TextKeys, verdict: Verdict) -> None:
        replaces = verdict.action is VerdictAction.REPLACE
        text = VerdictAction.REPLACE.value if replaces else as_text(verdict)
        known.contradicts |= known.shared not in (None, text)
        known.shared, known.verdict = text, verdict
        if replaces and len(known.replaced) < MAX_REPLACED:
            known.contradicts |= known.replaced.setdefault(subject.exact, verdict) != verdict

    def _fresh(self, key: TextKey, seconds: float, now: float) -> _Known | None:
        known = self._known.get(key)
        if known is None or now - known.began < seconds:
            return known
        if not known.under_way and not known.waiting:
            del self._known[key]
            return None
        # Calls under way go on; their verdicts are the first of the next window.
        known.began, known.calls, known.shared, known.verdict = now, known.under_way.total(), None, None
        known.replaced, known.contradicts = {}, False
        return known

    def _trim(self) -> None:
        for key in list(islice(self._known, max(0, len(self._known) - self._max))):
            if not self._known[key].under_way and not self._known[key].waiting:
                del self._known[key]
