"""Letters that look like Latin ones, in lower case. Pure data.

LATIN: variants of Latin letters, which are always replaced. FOREIGN: letters of other scripts, which are replaced only
if a word mixes scripts, because "рот" is also a Russian word.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache


def _pairs(table: str) -> dict[str, str]:
    """Parse pairs such as `a:xyz`: x, y and z look like a."""
    return {
        drawn: latin for latin, _, drawings in (item.partition(":") for item in table.split()) for drawn in drawings
    }


def _range(first: int) -> dict[str, str]:
    """Map 26 code points from `first` on to a to z."""
    return {chr(first + place): chr(ord("a") + place) for place in range(26)}


REGIONAL = _range(0x1F1E6)  # regional indicators: two of them are a flag, more can spell a word

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
    """Return whether a folded character is a Latin letter."""
    return "a" <= character <= "z" or unicodedata.name(character, "").startswith("LATIN")


@lru_cache(maxsize=4096)
def is_foreign(character: str) -> bool:
    """Return whether a letter belongs to a script with many letters that look like Latin ones."""
    return unicodedata.name(character, "").startswith(("CYRILLIC", "GREEK", "ARMENIAN"))
