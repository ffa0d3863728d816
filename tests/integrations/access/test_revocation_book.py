"""Which tokens a revocation ends: those of its key, of its subject, issued before its moment, once it is in force."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from integrations.access.revocation_book import CHANNEL, CLIENT, REVOCATION_KEY, TOKEN, RevocationBook, RevokedTokens
from integrations.models import RevocationSubject
from rooms.access.capabilities import Capability
from rooms.access.grants import Grant

NAMES = st.sampled_from(["a", "b", "*"])
MOMENTS = st.floats(0, 10)


def grant(**changes: Any) -> Grant:
    return Grant(
        **{
            "client_id": "alice",
            "capability": Capability.parse({"lobby": ["publish"], "team:*": ["subscribe"]}),
            "key_name": "app.key",
            "token_id": "t1",
            "issued_at": 10.0,
            "issued_to": "alice",
            "revocation_key": "group",
        }
        | changes
    )


def ended(subject: str, value: str, **changes: Any) -> RevokedTokens:
    return RevokedTokens(
        **{"key_name": "app.key", "subject": subject, "value": value, "issued_before": 11.0, "starts_at": 0.0} | changes
    )


def ends(one: RevokedTokens, of: Grant, *, now: float = 5.0) -> bool:
    book = RevocationBook()
    book.add(one, now)
    in_force = book.ends(of)
    assert in_force == (one.covers(of) and one.starts_at <= now)
    return in_force


def test_the_books_subjects_are_those_of_the_table() -> None:
    assert {CLIENT, TOKEN, REVOCATION_KEY, CHANNEL} == set(RevocationSubject.values)


def test_each_subject_ends_the_tokens_that_it_names() -> None:
    assert ends(ended(CLIENT, "alice"), grant())
    assert ends(ended(TOKEN, "t1"), grant())
    assert ends(ended(REVOCATION_KEY, "group"), grant())
    assert ends(ended(CHANNEL, "lobby"), grant())
    assert ends(ended(CHANNEL, "team:*"), grant())


def test_it_ends_no_others() -> None:
    assert not ends(ended(CLIENT, "bob"), grant())
    assert not ends(ended(TOKEN, "alice"), grant())
    assert not ends(ended(REVOCATION_KEY, "group"), grant(revocation_key=None))
    # The room as the capability spells it, as the protocol has it: not each that gives a right to it.
    assert not ends(ended(CHANNEL, "team:red"), grant())
    assert not ends(ended(CLIENT, "alice", key_name="app.other"), grant())


def test_a_token_that_was_issued_later_is_good_unless_it_is_named_by_its_id() -> None:
    later = grant(issued_at=11.0)
    for subject, value in ((CLIENT, "alice"), (REVOCATION_KEY, "group"), (CHANNEL, "lobby")):
        assert not ends(ended(subject, value), later)
    assert ends(ended(TOKEN, "t1"), later)


def test_who_came_with_the_key_itself_holds_no_token() -> None:
    assert not ends(ended(CLIENT, "alice"), grant(token_id=None))


def test_a_token_for_any_client_ends_with_the_client_id_that_it_is_used_for() -> None:
    assert ends(ended(CLIENT, "alice"), grant(issued_to="*"))
    assert ends(ended(CLIENT, "*"), grant(issued_to="*"))
    assert not ends(ended(CLIENT, "bob"), grant(issued_to="*"))


def test_a_revocation_with_a_margin_does_not_suspend_one_in_force() -> None:
    book = RevocationBook()
    book.add(ended(CLIENT, "alice"), now=1.0)
    book.add(ended(CLIENT, "alice", issued_before=20.0, starts_at=30.0), now=1.0)
    assert book.ends(grant())
    assert not book.ends(grant(issued_at=15.0))
    assert book.advance(30.0)
    assert book.ends(grant(issued_at=15.0))
    assert not book.advance(40.0)


@given(st.lists(st.builds(RevokedTokens, key_name=NAMES, subject=st.sampled_from(RevocationSubject.values), value=NAMES,
                          issued_before=MOMENTS, starts_at=MOMENTS), max_size=12), st.lists(MOMENTS, max_size=3), NAMES,
       NAMES, st.one_of(st.none(), NAMES), MOMENTS)  # fmt: skip
def test_the_book_says_of_a_token_what_its_revocations_say_one_by_one(
    all_ended: list[RevokedTokens],
    looks: list[float],
    key: str,
    client: str,
    revocation_key: str | None,
    issued_at: float,
) -> None:
    book, now = RevocationBook(), 0.0
    for one in all_ended:
        book.add(one, now)
    for now in sorted(looks):
        book.advance(now)
    token = grant(key_name=key, client_id=client, token_id="a", revocation_key=revocation_key, issued_at=issued_at)
    assert book.ends(token) == any(one.covers(token) and one.starts_at <= now for one in all_ended)
