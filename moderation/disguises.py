"""Builds a regular expression for a word in all the disguises that people use to get past a filter. Pure."""

from __future__ import annotations

import re
from itertools import groupby

# Digits and signs that people write for letters. Those in INNER are punctuation too, and count only inside a word.
LEET = {"a": "4@", "b": "8", "c": "¢", "e": "3€", "g": "9", "i": "1", "l": "1", "o": "0", "s": "5$", "t": "7", "z": "2"}
INNER = {"i": "!|", "l": "|", "t": "+"}
VOWELS = "aeiou"
SEPARATOR = "[-_.*~]"  # within a word
GAP = r"[-_.*~ ,/|+·•:;]+"  # between the letters of a word that is spelled out
# Scripts that write no spaces between words: there a word may stand anywhere.
UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)


def expression_of(word: str) -> str:
    """Return an expression (RE2) for a folded word or phrase, without conditions on the characters around it."""
    forms = [GAP.join(_tight(part) for part in word.split())]
    if " " not in word and len(word) > 2 and word.isalnum():
        forms.append(_spelled(word))
    return f"(?:{'|'.join(forms)})"


def stands_anywhere(character: str) -> bool:
    """Return whether a word that begins or ends with this character may stand inside other text."""
    return UNSPACED.match(character) is not None or not character.isalnum()


def _tight(word: str) -> str:
    """Return the expression of a word written together: its letters may be dotted, or stand three times and more."""
    starred = len(word) > 2 and sum(letter not in VOWELS for letter in word) > 1 and word.isalpha()
    runs = [(letter, len(list(run))) for letter, run in groupby(word)]
    parts = []
    for place, (letter, count) in enumerate(runs):
        form = _letter(letter, inner=0 < place < len(runs) - 1, starred=starred)
        if not letter.isalpha():
            parts.append(form * count)
        elif count == 1:
            # "god" is not in "good" and "rapper" is not "raper": a letter is doubled by spelling, tripled by evasion.
            parts.append(f"{form}(?:{form}{form}+)?")
        else:
            parts.append(f"{form}{f'{SEPARATOR}?{form}' * (count - 1)}{form}*")
    return f"{SEPARATOR}?".join(parts) if word.isalpha() else "".join(parts)


def _spelled(word: str) -> str:
    last = len(word) - 1
    return GAP.join(_letter(letter, inner=0 < place < last, starred=False) for place, letter in enumerate(word))


def _letter(letter: str, *, inner: bool, starred: bool) -> str:
    others = LEET.get(letter, "") + (INNER.get(letter, "") if inner else "")
    if inner and starred and letter in VOWELS:
        others += "*"
    return f"[{re.escape(letter + others)}]" if others else re.escape(letter)
