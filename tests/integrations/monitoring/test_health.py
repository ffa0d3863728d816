"""Rules that only fail: admins are told once, rules after publish are turned off, those that decide never are."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core import mail

from integrations.models import IntegrationRule, Notice, RuleHealth
from integrations.monitoring import health, notices
from integrations.monitoring.health import Observed
from integrations.rules import rules
from rooms.database.threads import run
from tests.integrations.world import add_rule

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("webhooks_only")]
HOUR = timedelta(hours=1)


def start_of(rule: IntegrationRule) -> datetime:
    return rule.changed_at + timedelta(seconds=1)


def fail(rule: IntegrationRule, at: datetime, error: str = "HTTP 503", **seen: Any) -> None:
    one = Observed(rule.pk, **seen)
    one.failed(error, at, gone=seen.get("gone", False))
    health.observe([one], now=at)


def succeed(rule: IntegrationRule, at: datetime) -> None:
    health.observe([Observed(rule.pk, succeeded=True)], now=at)


def titles() -> list[str]:
    return list(Notice.objects.filter(dismissed_at=None).order_by("id").values_list("title", flat=True))


def is_enabled(rule: IntegrationRule) -> bool:
    return IntegrationRule.objects.get(pk=rule.pk).enabled


def test_a_rule_after_publish_that_only_fails_is_told_of_after_a_day_and_turned_off_after_five() -> None:
    rule = add_rule(name="orders")
    start = start_of(rule)
    for hours in range(24):
        fail(rule, start + HOUR * hours)
    assert titles() == []

    for hours in range(24, 120):
        fail(rule, start + HOUR * hours)
    assert titles() == ["orders: every call fails"]
    assert is_enabled(rule)

    fail(rule, start + HOUR * 120)

    assert not is_enabled(rule)
    assert [title.split(":")[0] for title in titles()] == ["orders was turned off"]
    assert "HTTP 503" in Notice.objects.latest("id").text


def test_one_call_that_succeeds_begins_the_count_anew() -> None:
    rule = add_rule()
    start = start_of(rule)
    for hours in range(0, 240, 2):
        fail(rule, start + HOUR * hours)
        if hours % 20 == 0:
            succeed(rule, start + HOUR * hours + timedelta(minutes=1))

    assert titles() == []
    assert is_enabled(rule)


def test_a_worker_that_saw_both_says_that_the_rule_works() -> None:
    rule = add_rule()
    one = Observed(rule.pk, succeeded=True)
    one.failed("HTTP 500", start_of(rule), gone=False)
    health.observe([one], now=start_of(rule))

    assert not RuleHealth.objects.exists()


def test_a_rule_that_decides_is_told_of_within_minutes_and_never_turned_off() -> None:
    rule = add_rule(name="filter", when="before", at_deadline="hold")
    start = start_of(rule)
    for minutes in (0, 2, 60 * 24, 60 * 24 * 30):
        fail(rule, start + timedelta(minutes=minutes))

    assert is_enabled(rule)
    assert titles() == ["filter: every call fails"]
    assert "keep it for a moderator" in Notice.objects.get().text


def test_a_shadow_rule_decides_nothing_and_may_be_turned_off() -> None:
    main = add_rule(when="before")
    shadow, stand_in = add_rule(when="before"), add_rule(when="before")
    IntegrationRule.objects.filter(pk=shadow.pk).update(shadow_of=main)
    IntegrationRule.objects.filter(pk=stand_in.pk).update(shadow_of=main, stands_in=True)

    decides = {rule.pk: health.decides(rule) for rule in IntegrationRule.objects.all()}

    assert decides == {main.pk: True, shadow.pk: False, stand_in.pk: True}


def test_when_a_rule_answers_again_the_warning_goes_and_its_end_is_told() -> None:
    rule = add_rule(name="filter", when="before")
    start = start_of(rule)
    fail(rule, start)
    fail(rule, start + HOUR)
    succeed(rule, start + HOUR * 2)

    assert titles() == ["filter answers again"]
    assert RuleHealth.objects.get().failing_since is None


def test_short_trouble_leaves_no_notice() -> None:
    rule = add_rule(when="before")
    start = start_of(rule)
    fail(rule, start)
    succeed(rule, start + timedelta(seconds=30))

    assert not Notice.objects.exists()


def test_a_rule_that_is_turned_on_again_has_all_its_time_anew() -> None:
    rule = add_rule()
    start = start_of(rule)
    fail(rule, start)
    fail(rule, start + HOUR * 121)
    assert not is_enabled(rule)

    rules.switch(rule.name, enabled=True, now=start + HOUR * 200)
    fail(rule, start + HOUR * 201)

    assert is_enabled(rule)


def test_a_target_that_is_gone_ends_the_rule_at_once_but_not_one_that_decides() -> None:
    told, asked = add_rule(name="told"), add_rule(name="asked", when="before")
    fail(told, start_of(told), gone=True)
    fail(asked, start_of(asked), gone=True)

    assert not is_enabled(told)
    assert is_enabled(asked)
    assert titles() == ["told was turned off: its target is gone (HTTP 410)", "asked: its target is gone (HTTP 410)"]


def test_dead_letters_are_told_of_once_while_nobody_has_seen_the_notice() -> None:
    rule = add_rule(name="orders")
    for seconds in range(50):
        health.observe([Observed(rule.pk, dead=7)], now=start_of(rule) + timedelta(seconds=seconds))
    assert titles() == ["orders has dead letters"]

    notices.dismiss([Notice.objects.get().pk], by="ann", now=start_of(rule) + HOUR)
    health.observe([Observed(rule.pk, dead=1)], now=start_of(rule) + HOUR * 2)

    assert titles() == ["orders has dead letters"]
    assert Notice.objects.count() == 2


def test_a_rule_that_was_removed_meanwhile_is_passed_over() -> None:
    rule = add_rule()
    IntegrationRule.objects.filter(pk=rule.pk).delete()
    fail(rule, start_of(rule), gone=True, dead=3)

    assert not RuleHealth.objects.exists() and not Notice.objects.exists()


@pytest.mark.django_db(transaction=True)
async def test_however_many_workers_see_it_the_rule_is_turned_off_once_and_told_of_once() -> None:
    rule, other = await run(add_rule, name="orders"), await run(add_rule, name="other")
    start = start_of(rule)
    await run(fail, rule, start)
    seen = [Observed(one.pk, dead=1) for one in (rule, other)]
    for one in seen:
        one.failed("HTTP 503", start + HOUR * 121, gone=one.rule_id == other.pk)
    await asyncio.gather(*(run(health.observe, order, now=start + HOUR * 121) for order in (seen, seen[::-1]) * 4))

    assert not await run(is_enabled, rule) and not await run(is_enabled, other)
    found = [title.split(":")[0] for title in await run(titles)]
    assert sorted(found) == [
        "orders has dead letters", "orders was turned off", "other has dead letters", "other was turned off",
    ]  # fmt: skip


# --- Notices ----------------------------------------------------------------------------------------------


def test_a_notice_stays_until_somebody_dismisses_it() -> None:
    now = datetime.now(UTC)
    first, second = notices.write("First", now=now), notices.write("Second", now=now)
    assert first is not None and second is not None

    assert [one.title for one in notices.open_notices()] == ["Second", "First"]
    assert notices.dismiss([first.pk], by="ann", now=now) == 1
    assert notices.dismiss([first.pk], by="bob", now=now) == 0
    assert [one.title for one in notices.open_notices()] == ["Second"]
    first.refresh_from_db()
    assert first.dismissed_by == "ann"


def test_a_notice_is_mailed_to_the_admins_of_the_settings(settings: Any) -> None:
    settings.ADMINS = [("", "ann@example.com")]
    notice = notices.write("A rule\nfails", text="Since noon.", now=datetime.now(UTC))
    assert notice is not None
    notices.mail(notice)

    (sent,) = mail.outbox
    assert sent.to == ["ann@example.com"]
    assert sent.subject == "[chat] A rule fails"
    assert sent.body.startswith("Since noon.\n\nhttp")


def test_a_mail_server_that_is_away_harms_nothing(settings: Any) -> None:
    settings.ADMINS = [("", "ann@example.com")]
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 9
    notice = notices.write("A rule fails", now=datetime.now(UTC))
    assert notice is not None

    notices.mail(notice)


def test_an_hour_brings_a_bounded_number_of_mails(
    monkeypatch: pytest.MonkeyPatch, django_capture_on_commit_callbacks: Any
) -> None:
    monkeypatch.setattr("integrations.monitoring.notices.NOTICE_MAILS_PER_HOUR", 3)
    mailed: list[str] = []
    monkeypatch.setattr(notices, "_mail_in_background", lambda notice: mailed.append(notice.title))
    now = datetime.now(UTC)
    with django_capture_on_commit_callbacks(execute=True):
        for number in range(10):
            notices.write(f"Notice {number}", now=now)

    assert mailed == ["Notice 0", "Notice 1", "Notice 2"]
    assert len(notices.open_notices()) == 10
