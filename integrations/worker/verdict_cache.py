"""Verdicts that serve for several messages that say the same: one call answers a raid. Pure, one worker's memory.

The first calls about a text are made one by one, so that what people happen to say twice is judged twice. From then
on nobody is called while one of them is under way (single flight), and its verdict serves for `seconds`. What failed
is never shared, nor are verdicts that contradict each other; one that replaces the content serves for the very same
bytes alone.
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
    """What is to be done about a message without a verdict."""

    CALL = "call"
    WAIT = "wait"  # for the calls under way


@dataclass(frozen=True, kw_only=True)
class TextKeys:
    """What a message says: `alike` is equal for messages that say the same, `exact` for those of the same bytes."""

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
    """Return what a message says, to one version of one rule. Data that is no text is compared as it is."""
    data = folded = message.data
    if isinstance(data, str) and message.encoding in TEXTUAL:
        folded = " ".join(unicodedata.normalize("NFKC", data).casefold().split())
    about = (rule_id, changed_at.timestamp(), room_id, message.name, message.encoding, message.extras)
    return TextKeys(alike=_digest((*about, folded)), exact=_digest((*about, data)))


def _digest(value: object) -> TextKey:
    # JSON: it has a form for every number of a payload.
    return blake2b(msgspec.json.encode(value, order="deterministic"), digest_size=16).digest()


class VerdictCache:
    """Bounded: the texts that were not asked about for longest go first, unless a call about them is under way."""

    def __init__(self, *, max_texts: int) -> None:
        self._max = max_texts
        self._known: OrderedDict[TextKey, _Known] = OrderedDict()
        self.waiting = 0

    def __len__(self) -> int:
        return len(self._known)

    def look(self, subject: TextKeys, *, seconds: float, after: int, now: float) -> Verdict | CacheMiss:
        """Return the verdict that serves, or whether to call (then `begin`) or to wait for those under way."""
        known = self._fresh(subject.alike, seconds, now)
        if known is None or known.contradicts or known.calls < max(after, 1):
            return CacheMiss.CALL
        if known.shared is None:
            return CacheMiss.WAIT if known.under_way.total() else CacheMiss.CALL
        verdict = known.replaced.get(subject.exact) if known.replaced else known.verdict
        return verdict or (CacheMiss.WAIT if known.under_way[subject.exact] else CacheMiss.CALL)

    def begin(self, subject: TextKeys, *, now: float) -> None:
        """Count a call about a text. Each needs its `end`."""
        known = self._known.get(subject.alike)
        if known is None:
            known = self._known[subject.alike] = _Known(began=now)
            self._trim()
        self._known.move_to_end(subject.alike)
        known.calls += 1
        known.under_way[subject.exact] += 1

    def wait(self, subject: TextKeys, look_again: LookAgain) -> None:
        """Be told once, when a call under way has ended in a way that may change the answer of `look`."""
        self._known[subject.alike].waiting.append(look_again)
        self.waiting += 1

    def end(self, subject: TextKeys, verdict: Verdict | None) -> None:
        """Take in what a call brought, None where it failed or gave no verdict, and tell those who wait."""
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
        # Calls under way go on; what they bring is the first that the next window knows.
        known.began, known.calls, known.shared, known.verdict = now, known.under_way.total(), None, None
        known.replaced, known.contradicts = {}, False
        return known

    def _trim(self) -> None:
        for key in list(islice(self._known, max(0, len(self._known) - self._max))):
            if not self._known[key].under_way and not self._known[key].waiting:
                del self._known[key]
