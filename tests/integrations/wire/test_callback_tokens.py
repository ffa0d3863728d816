"""Callback tokens: for one message, one rule, one purpose, a short time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.wire.callback_tokens import (
    BadToken,
    CallbackClaims,
    ExpiredToken,
    derive_key,
    issue,
    require_current,
    verify,
)

KEY = derive_key("a secret key")
NOW = 1_790_000_000_000
claims = st.builds(
    CallbackClaims,
    id=st.text("abcdefg_0", min_size=1, max_size=43),
    message=st.integers(1, 2**62),
    rule=st.integers(1, 2**62),
    expires=st.integers(NOW + 1, NOW + 10**6),
    audience=st.just("verdict"),
)


@given(claims)
def test_a_token_gives_back_what_it_was_issued_for(wanted: CallbackClaims) -> None:
    assert verify(issue(wanted, KEY), [KEY]) == wanted


@given(claims, st.data())
def test_a_token_with_one_changed_character_is_refused(wanted: CallbackClaims, data: st.DataObject) -> None:
    token = issue(wanted, KEY)
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.characters().filter(lambda character: character != token[place]))

    with pytest.raises(BadToken):
        verify(token[:place] + other + token[place + 1 :], [KEY])


@given(claims)
def test_a_token_is_good_until_its_expiry_and_not_after(wanted: CallbackClaims) -> None:
    require_current(wanted, now_ms=wanted.expires - 1)
    with pytest.raises(ExpiredToken):
        require_current(verify(issue(wanted, KEY), [KEY]), now_ms=wanted.expires)


@pytest.mark.parametrize("claim", [{"audience": "publish"}, {"operation": "update"}, {"id": ""}, {"id": "x" * 44}])
def test_a_token_for_another_purpose_or_operation_or_without_an_id_of_its_own_is_refused(claim: dict[str, str]) -> None:
    token = issue(CallbackClaims(**({"id": "t", "message": 1, "rule": 1, "expires": NOW + 1} | claim)), KEY)

    with pytest.raises(BadToken):
        verify(token, [KEY])


def test_a_token_of_a_former_key_is_good_while_that_key_is_listed() -> None:
    old = derive_key("the former key")
    token = issue(CallbackClaims(id="t", message=1, rule=1, expires=NOW + 1), old)

    assert verify(token, [KEY, old]).message == 1
    with pytest.raises(BadToken):
        verify(token, [KEY])


@given(st.text())
def test_noise_is_refused(token: str) -> None:
    with pytest.raises(BadToken):
        verify(token, [KEY])
