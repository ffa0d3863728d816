"""When a failed call is made again."""

from __future__ import annotations

import random
from email.utils import formatdate

from hypothesis import given
from hypothesis import strategies as st

from integrations.outbox.retry import (
    MAX_DELAY_SECONDS,
    RETRY_AFTER_MAX_SECONDS,
    StatusMeaning,
    judge,
    notification_delay,
    read_retry_after,
    verdict_delay,
)

NOW = 1_790_000_000.0


@given(st.integers(100, 599))
def test_only_2xx_is_success_and_every_status_has_one_meaning(status: int) -> None:
    result = judge(status)

    assert (result is StatusMeaning.SUCCESS) == (200 <= status < 300)
    if status >= 500 or status in (408, 425, 429):
        assert result is StatusMeaning.TEMPORARY
    elif 300 <= status < 500:
        assert result is StatusMeaning.FINAL


@given(st.integers(-3, 10**9), st.randoms(use_true_random=False))
def test_a_delay_is_never_negative_and_never_above_the_cap(attempt: int, chance: random.Random) -> None:
    assert 0 <= notification_delay(attempt, chance=chance.uniform) <= MAX_DELAY_SECONDS
    assert 0.16 <= verdict_delay(attempt, chance=chance.uniform) <= 154


def test_delays_double_up_to_an_hour() -> None:
    longest = [notification_delay(attempt, chance=lambda low, high: high) for attempt in range(1, 15)]

    assert longest[:4] == [1, 2, 4, 8]
    assert longest[-1] == 3600


def test_verdicts_are_asked_for_again_after_a_fifth_of_a_second_then_one_then_four_and_later_seldom() -> None:
    delays = [verdict_delay(attempt, chance=lambda low, high: 1.0) for attempt in range(1, 8)]

    assert delays == [0.2, 1.0, 4.0, 4.0, 4.0, 8.0, 16.0]
    assert verdict_delay(1000, chance=lambda low, high: 1.0) == 128.0


@given(st.integers(1, 20), st.floats(0, RETRY_AFTER_MAX_SECONDS), st.randoms(use_true_random=False))
def test_what_the_endpoint_asks_for_is_the_least(attempt: int, wait: float, chance: random.Random) -> None:
    assert notification_delay(attempt, chance=chance.uniform, retry_after=wait) >= wait
    assert verdict_delay(attempt, chance=chance.uniform, retry_after=wait) >= wait


def test_retry_after_is_read_as_seconds_or_as_a_date_and_capped() -> None:
    assert read_retry_after(503, "7", now=NOW) == 7
    assert read_retry_after(429, formatdate(NOW + 60, usegmt=True), now=NOW) == 60
    assert read_retry_after(429, "99999999999", now=NOW) == RETRY_AFTER_MAX_SECONDS
    assert read_retry_after(500, "7", now=NOW) is None


@given(st.text())
def test_a_senseless_retry_after_is_no_wish(header: str) -> None:
    wait = read_retry_after(503, header, now=NOW)

    assert wait is None or 0 <= wait <= RETRY_AFTER_MAX_SECONDS
