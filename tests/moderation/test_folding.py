from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moderation import folding
from moderation.folding import fold, is_visible, mask

ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
# Letters, marks, invisible characters and lookalikes, so that examples combine them.
NASTY_TEXT = st.text("aAсЕβﬁｃé́̈\u200b\u200d\ufe0f\u00ad\u2800ㅏㄱ각각か゛ﾞ🇨🇦👍🏽ⅣßŐ İıſ\u1e9e", max_size=12)


@given(ANY_TEXT | NASTY_TEXT)
def test_folding_a_folded_text_changes_nothing(text: str) -> None:
    folded = fold(text).text
    assert fold(folded).text == folded


@given(ANY_TEXT | NASTY_TEXT)
def test_every_folded_character_comes_from_somewhere_and_in_order(text: str) -> None:
    folded = fold(text)
    spans = [folded.span_of(place, place + 1) for place in range(len(folded.text))]
    assert all(0 <= start < end <= len(text) for start, end in spans)
    assert spans == sorted(spans)
    assert len(folded.unmasked) == len(folded.text)


@given(ANY_TEXT | NASTY_TEXT | st.text("aäßéÀñжЖя你好ｆ１ﬁİ\u0301\u200b \n😀", max_size=20))
def test_the_quick_way_folds_as_the_thorough_one_does(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folding, "_letters", {})  # str.translate leaves what it does not find
        patch.setattr(folding, "MANY", "")  # and this is in every text
        thorough = fold(text)
    quick = fold(text)

    assert (quick.text, quick.unmasked) == (thorough.text, thorough.unmasked)
    for place in range(len(quick.text)):
        assert quick.span_of(place, place + 1) == thorough.span_of(place, place + 1)


def test_what_cannot_be_seen_does_not_change_the_fold() -> None:
    plain = "the quick brown fox"
    assert fold("\u200b\u2060".join(plain)).text == plain


def test_half_a_surrogate_pair_folds_to_something_that_can_be_encoded() -> None:
    assert fold("a\ud800b").text.encode()


@given(ANY_TEXT | NASTY_TEXT, st.data())
def test_masking_leaves_everything_outside_the_spans(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    masked = mask(text, [(start, end)])
    assert masked.startswith(text[:start])
    assert masked.endswith(text[end:])
    assert not is_visible(masked[start : len(masked) - (len(text) - end)].replace("*", ""))


def test_a_mask_has_one_star_for_each_character_that_a_reader_sees() -> None:
    assert mask("x c\u0301a\u200bb y", [(2, 7)]) == "x *** y"
    assert mask("a b", [(0, 3)]) == "* *"
    assert mask("👍🏽!", [(0, 2)]) == "*!"


def test_overlapping_spans_are_masked_once() -> None:
    assert mask("abcdef", [(0, 4), (2, 6), (1, 2)]) == "******"


def test_texts_without_a_visible_character_are_recognised() -> None:
    for text in ("\u200b" * 64, " \t\n", "\u202e\u2066\ufe0f", "\u2800\u3164\u00ad", "\x00\x1b", "\U000e0041"):
        assert not is_visible(text)
    for text in (".", "\u200bа\u200b", "👍", "\u0301x"):
        assert is_visible(text)
