"""The demo is made once and then belongs to the operator."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.utils import timezone
from pytest_django.fixtures import Settings

from chatsite.up.demo import make_demo
from integrations.access import keys
from integrations.models import ApiKey, IntegrationRule
from integrations.rules import rules
from rooms.models import Room

LAMBDA = "http://127.0.0.1:4567/"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _private_targets(settings: Settings) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = ["127.0.0.1:4567", "127.0.0.1:4568"]


def test_it_makes_a_room_under_a_rule_an_admin_and_a_key(tmp_path: Path) -> None:
    demo = make_demo(tmp_path, lambda_url=LAMBDA)
    rule = IntegrationRule.objects.get()
    assert Room.objects.get().name == demo["room"] == "lobby"
    assert (rule.url, rule.when, rules.matches(rule.room_filter, "lobby")) == (LAMBDA, "before", True)
    assert authenticate(username="admin", password=demo["admin"]["password"]) is not None
    name, secret = keys.split_key(demo["key"])
    assert keys.find([name])[name].secret == secret


def test_it_does_not_touch_other_rooms(tmp_path: Path) -> None:
    make_demo(tmp_path, lambda_url=LAMBDA)
    assert not rules.matches(IntegrationRule.objects.get().room_filter, "lobby2")


def test_a_second_start_makes_nothing_and_tells_the_same(tmp_path: Path) -> None:
    first = make_demo(tmp_path, lambda_url=LAMBDA)
    assert make_demo(tmp_path, lambda_url=LAMBDA) == first
    assert (ApiKey.objects.count(), IntegrationRule.objects.count()) == (1, 1)


def test_what_the_operator_removed_stays_away(tmp_path: Path) -> None:
    make_demo(tmp_path, lambda_url=LAMBDA)
    IntegrationRule.objects.all().delete()
    Room.objects.all().delete()
    make_demo(tmp_path, lambda_url=LAMBDA)
    assert not IntegrationRule.objects.exists()
    assert not Room.objects.exists()


def test_it_never_shows_a_password_or_key_that_is_no_longer_good(tmp_path: Path) -> None:
    demo = make_demo(tmp_path, lambda_url=LAMBDA)
    admin = get_user_model().objects.get()
    admin.set_password("another one")
    admin.save()
    keys.revoke(keys.split_key(demo["key"])[0], timezone.now())
    later = make_demo(tmp_path, lambda_url=LAMBDA)
    assert (later["admin"]["password"], later["key"]) == (None, None)


def test_an_administrator_who_was_there_before_keeps_the_password(tmp_path: Path) -> None:
    get_user_model().objects.create_superuser("admin", password="chosen before")
    assert make_demo(tmp_path, lambda_url=LAMBDA)["admin"]["password"] is None
    assert authenticate(username="admin", password="chosen before") is not None


def test_the_rule_follows_the_lambda_to_another_port(tmp_path: Path) -> None:
    make_demo(tmp_path, lambda_url=LAMBDA)
    make_demo(tmp_path, lambda_url="http://127.0.0.1:4568/")
    assert IntegrationRule.objects.get().url == "http://127.0.0.1:4568/"


def test_a_rule_that_the_operator_pointed_elsewhere_stays_there(tmp_path: Path) -> None:
    make_demo(tmp_path, lambda_url=LAMBDA)
    IntegrationRule.objects.update(url="https://example.com/hook")
    make_demo(tmp_path, lambda_url="http://127.0.0.1:4568/")
    assert IntegrationRule.objects.get().url == "https://example.com/hook"


def test_what_it_keeps_is_closed_to_other_users(tmp_path: Path) -> None:
    make_demo(tmp_path, lambda_url=LAMBDA)
    assert (tmp_path / "demo.json").stat().st_mode & 0o077 == 0
