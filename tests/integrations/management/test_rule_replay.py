"""`manage.py rule replay`: dead letters on their way again, from the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from integrations.management.rule_replay import read_moment
from integrations.models import Delivery, DeliveryState
from rooms.errors import ChatError
from tests.integrations.world import add_room, add_rule, claim, now, publish, texts_of

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def run(*arguments: str) -> dict[str, int]:
    printed = StringIO()
    call_command("rule", "replay", *arguments, "--json", stdout=printed)
    shape: dict[str, int] = json.loads(printed.getvalue())
    return shape


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("webhooks_only")
def test_dead_letters_go_out_again_in_the_order_of_the_room_and_nothing_else_does() -> None:
    rule = add_rule(batched=True)
    room = add_room()
    publish(room, "a", "b", "c", "d")
    claim()
    dead, finished = DeliveryState.DEAD, DeliveryState.DELIVERED
    for text, state in (("a", dead), ("b", finished), ("c", dead), ("d", dead)):
        Delivery.objects.filter(message__text=text).update(state=state, finished_at=now())
    Delivery.objects.filter(message__text="d").update(created_at=now() - timedelta(hours=3))

    assert run(rule.name, "--since", "2h") == {"replayed": 2}
    assert texts_of(claim(at=now() + timedelta(hours=1))) == [["a", "c"]]
    assert run(rule.name, "--until", "1h", "--delivered") == {"replayed": 1}  # d; b is younger than an hour


def test_a_moment_is_an_age_or_a_time_and_anything_else_is_refused() -> None:
    assert read_moment("90m", now=NOON) == NOON - timedelta(minutes=90)
    assert read_moment("2026-11-23T10:30", now=NOON) == datetime(2026, 11, 23, 10, 30, tzinfo=UTC)
    assert read_moment("2026-11-23T10:30+02:00", now=NOON) == datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
    assert read_moment("", now=NOON) is None
    with pytest.raises(ChatError, match="no moment"):
        read_moment("yesterday", now=NOON)


@pytest.mark.django_db
def test_a_rule_that_does_not_exist_is_named() -> None:
    with pytest.raises(CommandError, match="no rule 'nobody'"):
        call_command("rule", "replay", "nobody")
