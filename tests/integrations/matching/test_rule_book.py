"""The rule book: what was changed counts at once, and what was not costs one query."""

from __future__ import annotations

from typing import Any

import pytest
from django.utils import timezone

from integrations.matching import rule_book
from integrations.models import EventKind
from integrations.rules import rules

pytestmark = pytest.mark.django_db


def add(settings: Any, name: str, **wanted: Any) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = ["127.0.0.0/8"]
    rules.add(rules.RuleSpec(name=name, url="http://127.0.0.1:9/", **wanted), now=timezone.now())


def test_every_change_of_a_rule_counts_for_the_next_batch(settings: Any) -> None:
    assert rule_book.read().before == ()
    add(settings, "second", when="before", order=2)
    add(settings, "first", when="before", order=1)
    add(settings, "after")
    assert [rule.name for rule in rule_book.read().before] == ["first", "second"]
    assert [rule.name for rule in rule_book.read().receivers_of(EventKind.MESSAGE)] == ["after"]

    rules.switch("after", enabled=False, now=timezone.now())
    assert rule_book.read().receivers_of(EventKind.MESSAGE) == ()
    rules.remove("first", now=timezone.now())
    assert [rule.name for rule in rule_book.read().before] == ["second"]


def test_rules_that_did_not_change_are_read_once(settings: Any, django_assert_num_queries: Any) -> None:
    add(settings, "one")
    rule_book.read()
    with django_assert_num_queries(1):
        rule_book.read()
