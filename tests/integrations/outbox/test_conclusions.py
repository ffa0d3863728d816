"""What an answer means for the deliveries of a call."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.egress.answers import Answer, CallFailed
from integrations.outbox.conclusions import ClaimedDelivery, Conclusion, Fate, Judge
from integrations.wire import callback_tokens

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
DOWN = CallFailed("No answer.")


def judge(**changes: Any) -> Judge:
    usual: dict[str, Any] = {
        "has_verdicts": True,
        "late_counts": False,
        "now": NOW,
        "max_attempts": 30,
        "retry_for": 24 * HOUR,
    }
    return Judge(**(usual | {"message_max_bytes": 65_536, "chance": lambda low, high: high} | changes))


def owed(number: int = 1, **changes: Any) -> ClaimedDelivery:
    usual: dict[str, Any] = {
        "id": number,
        "rule_id": 1,
        "room_id": 1,
        "message_id": number,
        "event": "channel.message",
        "serial": 0,
        "webhook_id": f"msg_{number}",
        "payload": f'{{"id":"m{number}","data":"a"}}',
        "attempt": 1,
        "tries": 1,
        "created_at": NOW,
        "deadline": None,
        "room": "lobby",
        "epoch": "e",
    }
    return ClaimedDelivery(**(usual | changes))


def ask(number: int = 1, **changes: Any) -> ClaimedDelivery:
    return owed(number, **({"deadline": NOW + HOUR} | changes))


def after(one: ClaimedDelivery, came: Answer | CallFailed = DOWN, **changes: Any) -> Conclusion:
    return judge(**changes).conclude([one], came)[0]


def test_a_verdict_is_asked_for_until_the_deadline_however_often_that_is() -> None:
    often = after(ask(tries=29, attempt=400))

    assert (often.fate, often.forgive, often.fall_back) == (Fate.RETRY, True, False)
    assert after(ask(deadline=NOW + timedelta(seconds=0.1))).fate is Fate.DEAD
    assert after(ask(deadline=NOW + timedelta(seconds=0.1)), late_counts=True).fate is Fate.RETRY


def test_the_first_failures_of_a_verdict_count_so_that_a_batch_is_taken_apart() -> None:
    assert not after(ask(tries=3)).forgive
    batch = judge().conclude([ask(1, tries=4), ask(2, tries=4)], DOWN)

    assert all(one.alone for one in batch)
    assert all(one.due_at > NOW for one in batch)  # its target may as well be down
    assert not any(one.alone for one in judge().conclude([ask(1), ask(2)], DOWN))


@pytest.mark.parametrize("status", [400, 404, 301])
def test_a_refusal_lets_the_policy_decide_at_once_but_for_one_that_is_late(status: int) -> None:
    refused = after(ask(), Answer(status=status, body=b""))
    late = after(ask(deadline=NOW - HOUR, is_late=True), Answer(status=status, body=b""))

    assert (refused.fate, refused.fall_back) == (Fate.DEAD, True)
    assert (late.fate, late.fall_back) == (Fate.DEAD, False)


def test_a_late_verdict_is_asked_for_like_any_event() -> None:
    late = ask(deadline=NOW - HOUR, is_late=True, tries=5)

    assert after(late).fate is Fate.RETRY
    assert after(late).due_at == NOW + timedelta(seconds=16)
    assert after(replace(late, created_at=NOW - 24 * HOUR, attempt=5)).fate is Fate.DEAD
    assert after(replace(late, tries=30)).fate is Fate.DEAD


def test_an_event_is_given_up_by_age_and_one_that_is_sent_again_by_hand_has_all_its_attempts() -> None:
    old = owed(created_at=NOW - 24 * HOUR, attempt=7, tries=7)

    assert after(old).fate is Fate.DEAD
    assert after(replace(old, tries=2)).fate is Fate.RETRY


def test_a_shadows_verdict_is_kept_and_never_counts() -> None:
    shadow = after(owed(), Answer(status=200, body=b'{"action": "reject"}'))

    assert shadow.verdict is None
    assert '"reject"' in shadow.answer


@given(
    st.lists(st.builds(ask, st.integers(1, 1000), tries=st.integers(1, 40)), min_size=1, max_size=5),
    st.sampled_from(
        [DOWN, Answer(status=200, body=b"nonsense"), *(Answer(status=n, body=b"") for n in (404, 429, 500))]
    ),
)
def test_each_delivery_of_a_call_ends_or_is_tried_again_later(
    batch: list[ClaimedDelivery], came: Answer | CallFailed
) -> None:
    conclusions = judge().conclude(batch, came)

    assert [one.delivery for one in conclusions] == batch
    assert all(one.fate in (Fate.RETRY, Fate.DEAD) and one.due_at >= NOW for one in conclusions)
    assert all(one.fate is Fate.DEAD for one in conclusions if one.fall_back)


def test_an_error_is_text_that_a_table_can_hold_and_gives_no_token_away() -> None:
    token = callback_tokens.issue(callback_tokens.CallbackClaims(id="msg_1", message=1, rule=1, expires=1), b"key")
    error = after(owed(), CallFailed(f"The function failed: a\0b \x1b[2J\ud800 {token}.")).error

    assert error == "The function failed: a\ufffdb \ufffd[2J\ufffd token-not-shown."


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_target_that_is_gone_leaves_the_message_to_its_stand_in_and_decides_only_where_there_is_none(
    status: int,
) -> None:
    gone = Answer(status=status, body=b"")
    stood_in, alone = after(ask(), gone, has_other=True), after(ask(), gone)
    assert (stood_in.fate, stood_in.fall_back) == (Fate.RETRY, False)
    assert (alone.fate, alone.fall_back) == (Fate.DEAD, True)
