"""Letters that are drawn like Latin ones, in lower case. Pure data.

LATIN holds variants of Latin letters, replaced wherever they stand. FOREIGN holds letters of other scripts:
replaced only where a word mixes scripts, because "рот" is also an honest Russian word.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache


def _pairs(table: str) -> dict[str, str]:
    """Read `a:xyz` as x, y and z are drawn like a."""
    return {
        drawn: latin for latin, _, drawings in (item.partition(":") for item in table.split()) for drawn in drawings
    }


def _range(first: int) -> dict[str, str]:
    """Read 26 code points from `first` on as a to z."""
    return {chr(first + place): chr(ord("a") + place) for place in range(26)}


REGIONAL = _range(0x1F1E6)  # two of them are a flag, more of them are a word

LATIN = {
    **_pairs(
        "a:ɑɐᴀⱥ b:ʙƀɓƃᴃ c:ᴄƈȼɔↄ d:ᴅđɗƌð e:ᴇɛǝəɘⱸɇ f:ꜰƒ g:ɢɡǥɠƃ h:ʜħɦⱨ i:ɪıɨɩ j:ᴊɉʝȷ k:ᴋƙⱪ l:ʟłɫɬƚ m:ᴍɱɯ n:ɴŋɲƞɳ "
        "o:ᴏøɵⱺ p:ᴘƥᵽ q:ɋʠ r:ʀɾɹɍɽ s:ꜱʂȿ t:ᴛŧƭʈⱦ u:ᴜʉʊ v:ᴠʋʌ w:ᴡⱳʍ x:ꭓ y:ʏɏƴʎ z:ᴢƶȥⱬʐ"
    ),
    **_range(0x1F130),  # squared
    **_range(0x1F150),  # negative circled
    **_range(0x1F170),  # negative squared
}

FOREIGN = _pairs(
    "a:аαдɑ b:вьбβъ c:сσ d:ԁժ e:еэєεҽ f:ғϝ g:ԍցɡ h:һнћի i:іїιɩӏ j:јյ k:кκ l:ӏւ l:ⅼ m:мϻ n:пηոп o:оοօө p:рρթ "
    "q:ԛզ r:гяր s:ѕ t:тτ u:υцսμ v:ѵνѷ w:ԝωшщա x:хχж y:уγү z:ʐ"
)


@lru_cache(maxsize=4096)
def is_latin(character: str) -> bool:
    """Tell whether a folded character is a Latin letter."""
    return "a" <= character <= "z" or unicodedata.name(character, "").startswith("LATIN")


@lru_cache(maxsize=4096)
def is_foreign(character: str) -> bool:
    """Tell whether a letter belongs to a script that shares the drawings of many letters with Latin."""
    return unicodedata.name(character, "").startswith(("CYRILLIC", "GREEK", "ARMENIAN"))
