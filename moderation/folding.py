"""Folds a text into a normal form on which word rules are matched, with the way back to the original. Pure.

Folding removes differences that a reader does not mind: case, width and style of letters (NFKC), accents and stacked
marks, invisible characters, unusual spaces and dashes. `unmasked` also replaces lookalikes from other scripts; it
differs from `text` only if a word mixes scripts.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from moderation.lookalikes import FOREIGN, LATIN, REGIONAL, is_foreign, is_latin

MAX_ROUNDS = 4  # the result of decomposing may fold again; two rounds are usual
MASK = "*"
MAX_CACHED_LETTERS = 16_384
MANY = "\U0010ffff"  # marks a character that does not fold to one character on its own; texts do not use it
MAX_CACHED_CHARACTERS = 16  # of one cluster: a letter under a thousand accents is not worth keeping
LINE_BREAKS = str.maketrans("\t\n\r", "   ")

# Invisible characters that are not in Unicode's category of format characters (Cf).
INVISIBLE = frozenset(
    map(chr, [0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2065, 0x3164, 0xFFA0, 0x1D159, *range(0xFFF0, 0xFFF9)])
) | frozenset(map(chr, [*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0000, 0xE1000)]))
BLANK = "\u2800"  # the empty Braille pattern: a space that Unicode counts as a symbol
# Marks of all scripts: accents, strokes, zalgo. Marks of a single script (vowels of Hindi or Thai, the dakuten of
# Japanese) distinguish words and stay.
GENERAL_MARKS = tuple(
    range(first, last + 1)
    for first, last in ((0x300, 0x36F), (0x1AB0, 0x1AFF), (0x1DC0, 0x1DFF), (0x20D0, 0x20FF), (0xFE20, 0xFE2F))
)
MAX_OWN_MARKS = 4  # marks of its own script on one letter; more are decoration
DASHES = frozenset("\u2043\u2212\u02d7")  # dashes outside Unicode's category of dashes


@dataclass(frozen=True, kw_only=True)
class Folded:
    """A folded text. `clusters[i]` is the (start, end) in the original that character i comes from."""

    original: str
    text: str
    clusters: Sequence[tuple[int, int]] | None  # None: every character stands for itself

    @cached_property
    def unmasked(self) -> str:
        """The text with lookalikes in mixed words replaced. It has the same length as `text`."""
        has_lookalikes = not (FOREIGN.keys().isdisjoint(self.text) and REGIONAL.keys().isdisjoint(self.text))
        return _unmask(self.text) if has_lookalikes and not self.text.isascii() else self.text

    def span_of(self, start: int, end: int) -> tuple[int, int]:
        """Return the span of the original that the folded characters start..end come from."""
        if self.clusters is None:
            return start, end
        return self.clusters[start][0], self.clusters[end - 1][1]


def fold(text: str) -> Folded:
    """Return the folded form of a text. Folding it again changes nothing."""
    if text.isascii() and (plain := text.translate(LINE_BREAKS)).isprintable():
        return Folded(original=text, text=plain.lower(), clusters=None)
    letters = text.translate(_letters)
    if MANY not in letters:
        return Folded(original=text, text=letters, clusters=None)
    current, clusters = _fold_once(text)
    for _ in range(MAX_ROUNDS):
        again, steps = _fold_once(current)
        if again == current:
            break
        clusters = [(clusters[start][0], clusters[end - 1][1]) for start, end in steps]
        current = again
    return Folded(original=text, text=current, clusters=clusters)


def mask(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """Return the original text with a `*` for each visible character of the spans. Spaces stay."""
    parts: list[str] = []
    position = 0
    for start, end in sorted(spans):
        if end <= position:
            continue
        start = max(start, position)
        parts.append(text[position:start])
        parts += [_mask_of(text[first:last]) for first, last in _spans(text[start:end], start)]
        position = end
    parts.append(text[position:])
    return "".join(parts)


def is_visible(text: str) -> bool:
    """Return whether a text has a visible character."""
    return any(not _is_invisible(character) and not _is_space(character) for character in text)


# --- Folding ----------------------------------------------------------------------------------------------


class _Letters(dict[int, str]):
    """The folded form of each character on its own; MANY if it depends on its neighbours or is not one character.

    Most texts of most languages have no MANY, and are folded at the speed of str.translate.
    """

    def __missing__(self, code: int) -> str:
        character = chr(code)
        folded = _fold_cluster(character)
        stays = len(folded) == 1 and _fold_cluster(folded) == folded
        letter = folded if stays and not _extends(character) and not _extends(folded) else MANY
        if len(self) < MAX_CACHED_LETTERS:
            self[code] = letter
        return letter


_letters = _Letters()


def _fold_once(text: str) -> tuple[str, list[tuple[int, int]]]:
    folded: list[str] = []
    origins: list[tuple[int, int]] = []
    for start, end in _spans(text, 0):
        short = end - start <= MAX_CACHED_CHARACTERS
        result = _fold_cached(text[start:end]) if short else _fold_cluster(text[start:end])
        folded.append(result)
        origins += [(start, end)] * len(result)
    return "".join(folded), origins


def _spans(text: str, offset: int) -> Iterator[tuple[int, int]]:
    """Yield the (start, end) of each character including the marks and invisible characters after it."""
    start = 0
    for place, character in enumerate(text):
        if place and not _extends(character):
            yield offset + start, offset + place
            start = place
    if text:
        yield offset + start, offset + len(text)


@lru_cache(maxsize=16_384)
def _fold_cached(cluster: str) -> str:
    return _fold_cluster(cluster)


def _fold_cluster(cluster: str) -> str:
    kept = "".join(character for character in cluster if not _is_invisible(character))
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", kept).casefold())
    bare = "".join(LATIN.get(character, character) for character in folded if not _is_general_mark(character))
    return "".join(_plain(character) for character in unicodedata.normalize("NFC", _bounded(bare)))


def _bounded(text: str) -> str:
    """Drop the marks after the first MAX_OWN_MARKS in a row."""
    kept: list[str] = []
    marks = 0
    for character in text:
        marks = marks + 1 if unicodedata.category(character).startswith("M") else 0
        if marks <= MAX_OWN_MARKS:
            kept.append(character)
    return "".join(kept)


def _plain(character: str) -> str:
    if _is_invisible(character):
        return ""
    if _is_space(character):
        return " "
    category = unicodedata.category(character)
    if category == "Cs":
        return "\ufffd"  # a lone surrogate, which cannot be encoded
    return "-" if category == "Pd" or character in DASHES else character


@lru_cache(maxsize=16_384)
def _extends(character: str) -> bool:
    """Return whether a character belongs to the one before it: marks, invisible ones, Hangul vowels and finals."""
    if character < "\x80":
        return False
    return (
        unicodedata.category(character)[0] == "M"
        or _is_invisible(character)
        or "\u1160" <= character <= "\u11ff"
        or "\U0001f3fb" <= character <= "\U0001f3ff"  # skin tones
    )


@lru_cache(maxsize=16_384)
def _is_invisible(character: str) -> bool:
    if character in INVISIBLE:
        return True
    category = unicodedata.category(character)
    return category == "Cf" or (category == "Cc" and not character.isspace())


def _is_space(character: str) -> bool:
    return character.isspace() or character == BLANK


def _is_general_mark(character: str) -> bool:
    return character > "\u02ff" and any(ord(character) in marks for marks in GENERAL_MARKS)


def _mask_of(cluster: str) -> str:
    return MASK if is_visible(cluster) else cluster


# --- Lookalikes -------------------------------------------------------------------------------------------


def _unmask(text: str) -> str:
    """Replace lookalikes word by word.

    A word that mixes Latin with other scripts is a disguise. So is a word of lookalikes only in a text that is
    otherwise Latin: a Russian text soon has a letter that does not look Latin.
    """
    words = list(_words(text))
    letters = [character for character in text if character.isalpha()]
    honest = any(character in FOREIGN for character in letters) and any(
        is_foreign(character) and character not in FOREIGN for character in letters
    )
    has_latin = any(is_latin(character) for character in letters)
    characters = list(text)
    for start, end in words:
        word = text[start:end]
        if all(character in REGIONAL for character in word):
            if len(word) > 2:
                characters[start:end] = [REGIONAL[character] for character in word]
        elif any(is_latin(character) for character in word) or (
            has_latin and not honest and all(character in FOREIGN for character in word if character.isalpha())
        ):
            characters[start:end] = [FOREIGN.get(character, character) for character in word]
    return "".join(characters)


def _words(text: str) -> Iterator[tuple[int, int]]:
    start = None
    for place, character in enumerate(text):
        inside = character.isalnum() or character in REGIONAL
        if inside and start is None:
            start = place
        elif not inside and start is not None:
            yield start, place
            start = None
    if start is not None:
        yield start, len(text)
