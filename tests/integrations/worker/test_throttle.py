"""How freely a target is called: as it takes it, and not at all while it is down."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from integrations.worker.throttle import Breaker, CallEnd, Throttle


def throttle(cap: int = 10, **more: float) -> Throttle:
    return Throttle(cap=cap, longest_pause=10.0, **more)


def call(of: Throttle, ended: CallEnd, *, at: float = 0.0, took: float = 0.0, **more: float) -> bool:
    return of.end(of.begin(at), ended, at + took, **more)


def broken(at: float = 0.0) -> Throttle:
    one = throttle()
    for _ in range(5):
        call(one, CallEnd.FAILED, at=at)
    return one


def test_a_target_that_takes_everything_is_called_up_to_its_cap() -> None:
    one = throttle(3)
    begun = [one.begin(0.0) for _ in range(3)]

    assert one.free(0.0) == 0
    assert not one.end(begun[0], CallEnd.WELL, 0.1)
    assert one.free(0.1) == 1


def test_a_round_of_failures_halves_the_limit_once() -> None:
    one = throttle(16)
    begun = [one.begin(0.0) for _ in range(4)]
    for each in begun:
        one.end(each, CallEnd.TOO_MUCH, 1.0)

    assert one.limit == 8
    call(one, CallEnd.TOO_MUCH, at=1.0, took=0.1)
    assert one.limit == 4


def test_a_round_of_successes_at_the_limit_adds_one() -> None:
    one = throttle(16, limit=4)
    begun = [one.begin(0.0) for _ in range(4)]
    for each in begun:
        one.end(each, CallEnd.WELL, 1.0)

    assert 4.7 < one.limit <= 5.0


def test_a_limit_that_is_not_used_does_not_grow() -> None:
    one = throttle(16, limit=8)
    for _ in range(100):
        call(one, CallEnd.WELL)

    assert one.limit == 8


def test_what_the_target_asks_for_holds_all_its_calls_back() -> None:
    one = throttle()
    call(one, CallEnd.TOO_MUCH, at=0.0, hold=30.0)

    assert one.free(29.9) == 0
    assert one.wait(0.0) == 30.0
    assert one.free(30.0) > 0


def test_the_breaker_opens_when_half_of_the_last_calls_failed() -> None:
    one = throttle()
    for _ in range(10):
        call(one, CallEnd.WELL)
    for _ in range(9):
        call(one, CallEnd.FAILED)
    assert one.breaker is Breaker.CLOSED
    call(one, CallEnd.FAILED)

    assert one.breaker is Breaker.OPEN
    assert one.free(0.9) == 0


def test_fewer_than_five_failures_say_nothing() -> None:
    one = throttle()
    for _ in range(4):
        call(one, CallEnd.FAILED)

    assert one.breaker is Breaker.CLOSED
    assert one.free(0.0) == 1


def test_one_that_answers_429_to_some_is_called_less_and_not_cut_off() -> None:
    one = throttle()
    for _ in range(40):
        call(one, CallEnd.TOO_MUCH)
        call(one, CallEnd.WELL)

    assert one.breaker is Breaker.CLOSED
    assert one.limit < 3


def test_a_target_that_is_down_gets_single_probes_at_growing_pauses() -> None:
    one, now, pauses = broken(), 0.0, []
    for _ in range(6):
        wait = one.wait(now)
        assert wait is not None
        pauses.append(wait)
        now += wait
        assert one.free(now) == 1
        probe = one.begin(now)
        assert one.free(now) == 0
        assert not one.end(probe, CallEnd.FAILED, now)

    assert pauses == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]


def test_a_probe_that_succeeds_closes_the_breaker_and_the_limit_grows_from_one() -> None:
    one = broken()
    assert call(one, CallEnd.WELL, at=1.0)

    assert (one.breaker, one.free(1.0)) == (Breaker.CLOSED, 1)
    call(one, CallEnd.WELL, at=1.0)
    assert one.free(1.0) == 2


def test_a_call_that_was_cut_short_says_nothing() -> None:
    one = throttle()
    for _ in range(20):
        call(one, CallEnd.UNKNOWN)
    assert (one.breaker, one.free(0.0)) == (Breaker.CLOSED, 10)

    down = broken()
    call(down, CallEnd.UNKNOWN, at=1.0)
    assert (down.breaker, down.free(1.5), down.free(2.0)) == (Breaker.OPEN, 0, 1)


def test_a_success_of_a_call_that_began_before_the_breaker_opened_closes_it() -> None:
    one = throttle()
    early = one.begin(0.0)
    for _ in range(5):
        call(one, CallEnd.FAILED)

    assert one.end(early, CallEnd.WELL, 0.5)
    assert one.breaker is Breaker.CLOSED


@given(st.lists(st.tuples(st.sampled_from(CallEnd), st.floats(0, 20), st.integers(0, 5))))
def test_whatever_happens_the_limit_stays_between_one_and_the_cap_and_the_target_is_called_again(
    history: list[tuple[CallEnd, float, int]],
) -> None:
    one, now, under_way = throttle(8), 0.0, []
    for ended, wait, begin in history:
        now += wait
        under_way += [one.begin(now) for _ in range(min(begin, one.free(now)))]
        if under_way:
            one.end(under_way.pop(0), ended, now)
        assert 1.0 <= one.limit <= 8.0
        assert one.under_way == len(under_way)
    for begun in under_way:
        one.end(begun, CallEnd.UNKNOWN, now)

    assert one.free(now + 11.0) >= 1
