"""Matches word rules on a folded text. Pure, and linear in the length of the text for every rule (RE2).

A rule with a word matches that whole word, also written with lookalike digits and signs (c4bb@ge), with repeated
letters (caaabbage), dotted (cab.bage), or spelled out (c a b b a g e). `*` at an end stands for the rest of a word. A
rule with a regular expression matches anywhere.
"""

from __future__ import annotations

import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

import re2

from moderation.disguises import GAP, expression_of, stands_anywhere
from moderation.folding import Folded, fold

PATTERN_MAX_CHARACTERS = 500
PROGRAM_MAX_BYTES = 8 << 20  # RE2's memory for one compiled expression and its cache of states
MAX_CACHED_PATTERNS = 2048

SPELLED = re.compile(rf"\w{GAP}\w{GAP}")
SPELLED_BEFORE = re.compile(rf"(?:^|\W)\w{GAP}$")
SPELLED_AFTER = re.compile(rf"{GAP}\w(?:\W|$)")
SPELLED_ALONE_CHARACTERS = 5  # a word so long matches even among other spelled-out letters
NEIGHBOURHOOD_CHARACTERS = 8
# The edges of a word, roughly: letters of other scripts count as edges here, and are checked afterwards.
EDGE_BEFORE, EDGE_AFTER = "(?:^|[^a-z0-9])", "(?:$|[^a-z0-9])"


class Kind(StrEnum):
    """The kind of a rule's pattern."""

    WORD = "word"
    REGEX = "regex"


class MatchEffect(StrEnum):
    """The effect of a match on the message, the strongest last."""

    MASK = "mask"
    HOLD = "hold"
    REJECT = "reject"


class PatternError(ValueError):
    """The pattern cannot be used; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A word rule for matching: its pattern and its effect."""

    id: int
    pattern: str
    kind: Kind
    effect: MatchEffect
    name: str = ""  # for moderators
    reason: str = ""  # for the author
    room_filter: str = ""  # regular expression searched in the room's name; empty: every room


@dataclass(frozen=True, kw_only=True)
class Hit:
    """A rule that matched, and the matching spans of the original text."""

    rule: Rule
    spans: tuple[tuple[int, int], ...]


class Matcher:
    """Matches all rules of a room: one expression sieves out most texts, the others are matched rule by rule."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._patterns = [_pattern_of(rule) for rule in rules]
        self._sieves = _sieves(self._patterns)

    def find(self, folded: Folded) -> list[Hit]:
        """Return the rules that match, in their order."""
        texts = [_Text(text) for text in dict.fromkeys((folded.text, folded.unmasked))]
        texts = [text for text in texts if any(sieve.search(text.data) is not None for sieve in self._sieves)]
        hits = []
        for pattern in self._patterns if texts else ():
            spans = {folded.span_of(*span) for text in texts for span in pattern.spans(text)}
            if spans:
                hits.append(Hit(rule=pattern.rule, spans=tuple(sorted(spans))))
        return hits


def check_regex(pattern: str) -> None:
    """Raise PatternError for a regular expression that RE2 cannot run, or that is too long."""
    _check_length(pattern)
    try:
        compile_regex(pattern)
    except re2.error as error:
        raise PatternError(f"This is no regular expression that RE2 can run: {_text_of(error)}.") from None


def check_pattern(kind: Kind, pattern: str) -> None:
    """Raise PatternError for a pattern that cannot be matched, or matches every message."""
    if kind is Kind.REGEX:
        check_regex(pattern)
        if compile_regex(pattern).search("") is not None:
            raise PatternError("This expression matches the empty text, and so every message.")
        return
    _check_length(pattern)
    if not _bare(pattern):
        raise PatternError("A word has at least one visible character that is not `*`.")
    try:
        _Word(Rule(id=0, pattern=pattern, kind=kind, effect=MatchEffect.MASK))
    except re2.error:
        raise PatternError("This word is too long to be matched in all its disguises.") from None


def _check_length(pattern: str) -> None:
    if len(pattern) > PATTERN_MAX_CHARACTERS:
        raise PatternError(f"A pattern has at most {PATTERN_MAX_CHARACTERS} characters; this one has {len(pattern)}.")


def compile_regex(pattern: str, *, captures: bool = False) -> Any:
    """Compile an expression with RE2, with bounded memory and without logging. Raises re2.error."""
    options = re2.Options()
    options.log_errors = False
    options.never_capture = not captures
    options.max_mem = PROGRAM_MAX_BYTES
    return re2.compile(pattern, options)


# --- One rule ---------------------------------------------------------------------------------------------


class _Text:
    """A text in UTF-8, as RE2 reads it, with the way back from byte positions to characters."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.data = text.encode()
        self._is_ascii = len(self.data) == len(text)

    def characters(self, spans: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Convert spans of bytes, in order and without overlap, to spans of characters."""
        if self._is_ascii:
            yield from spans
            return
        read = characters = 0
        for start, end in spans:
            # A rule can match half a character (with \C), so decoding must not fail.
            first = characters + len(self.data[read:start].decode(errors="ignore"))
            characters, read = first + len(self.data[start:end].decode(errors="replace")), end
            yield first, characters


class _Pattern(ABC):
    """One compiled rule. Its `core` matches wherever the rule does; the sieve is built from all cores."""

    rule: Rule
    core: str

    @abstractmethod
    def spans(self, text: _Text) -> Iterator[tuple[int, int]]:
        """Yield where the rule matches, in characters."""


class _Expression(_Pattern):
    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.core = f"(?i:{rule.pattern})"
        self._regex = compile_regex(self.core)

    def spans(self, text: _Text) -> Iterator[tuple[int, int]]:
        found = (match.span() for match in self._regex.finditer(text.data))
        yield from text.characters(span for span in found if span[0] < span[1])


class _Word(_Pattern):
    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        pattern, self.word = rule.pattern.strip(), _bare(rule.pattern)
        self.core = expression_of(self.word)
        self._open_before, self._open_after = pattern.startswith("*"), pattern.endswith("*")
        self._edge_before = not self._open_before and not stands_anywhere(self.word[0])
        self._edge_after = not self._open_after and not stands_anywhere(self.word[-1])
        left, right = EDGE_BEFORE if self._edge_before else "", EDGE_AFTER if self._edge_after else ""
        self._regex = compile_regex(f"{left}({self.core}){right}", captures=True)
        self.is_whole = self._edge_before and self._edge_after

    def spans(self, text: _Text) -> Iterator[tuple[int, int]]:
        for start, end in text.characters(self._found(text.data)):
            if self._is_meant(text.text, start, end):
                yield self._with_rest(text.text, start, end)

    def _found(self, data: bytes) -> Iterator[tuple[int, int]]:
        # Each search starts at the end of the last word, so that one space can end a word and begin the next.
        position = 0
        while (match := self._regex.search(data, position)) is not None:
            yield match.span(1)
            position = match.end(1)

    def _is_meant(self, text: str, start: int, end: int) -> bool:
        """Return False for parts of words, for numbers that resemble the word (455), and parts of spelled-out words."""
        if (self._edge_before and start and _in_word(text[start - 1])) or (
            self._edge_after and end < len(text) and _in_word(text[end])
        ):
            return False
        found = text[start:end]
        digits = sum(character.isdigit() for character in found)
        if digits * 2 > sum(character.isalnum() for character in found) or (digits and len(self.word) < 3):
            return any(character.isdigit() for character in self.word)
        if len(self.word) >= SPELLED_ALONE_CHARACTERS or not SPELLED.match(found):
            return True
        before = text[max(0, start - NEIGHBOURHOOD_CHARACTERS) : start]
        return not SPELLED_BEFORE.search(before) and not SPELLED_AFTER.match(text[end : end + NEIGHBOURHOOD_CHARACTERS])

    def _with_rest(self, text: str, start: int, end: int) -> tuple[int, int]:
        """Extend a match to the rest of its word if the pattern has a `*` there."""
        while self._open_before and start and _in_word(text[start - 1]):
            start -= 1
        while self._open_after and end < len(text) and _in_word(text[end]):
            end += 1
        return start, end


@lru_cache(maxsize=MAX_CACHED_PATTERNS)
def _pattern_of(rule: Rule) -> _Pattern:
    return _Expression(rule) if rule.kind is Kind.REGEX else _Word(rule)


def _bare(pattern: str) -> str:
    """Return the folded word of a pattern, without its `*`."""
    return fold(pattern.strip().strip("*")).text.strip()


def _in_word(character: str) -> bool:
    return unicodedata.category(character)[0] in "LNM"


# --- Many rules -------------------------------------------------------------------------------------------


def _sieves(patterns: Sequence[_Pattern]) -> list[Any]:
    """Return the sieve: expressions that match wherever a pattern does, and hardly anywhere else."""
    whole = [pattern.core for pattern in patterns if isinstance(pattern, _Word) and pattern.is_whole]
    others = [pattern.core for pattern in patterns if not (isinstance(pattern, _Word) and pattern.is_whole)]
    return _combine(whole, f"{EDGE_BEFORE}(?:", f"){EDGE_AFTER}") + _combine(others, "(?:", ")")


def _combine(cores: Sequence[str], before: str, after: str) -> list[Any]:
    """Return one expression for all cores, or several if one would be too large or two use the same group name."""
    if not cores:
        return []
    try:
        return [compile_regex(f"{before}{'|'.join(cores)}{after}")]
    except re2.error:
        if len(cores) == 1:
            raise
        half = len(cores) // 2
        return _combine(cores[:half], before, after) + _combine(cores[half:], before, after)


def _text_of(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
