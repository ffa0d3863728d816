"""Metrics of rules and workers: what Prometheus reads is what the admin shows, and never goes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from chatsite.metrics import rules
from integrations.models import IntegrationRule, Notice, RuleHealth, RuleMinute, RuleThrottle, WorkerProcess
from integrations.monitoring import traffic
from integrations.monitoring.figures import TOTALS_AT
from integrations.monitoring.traffic import Traffic

pytestmark = pytest.mark.django_db


def scraped() -> dict[tuple[str, tuple[str, ...]], float]:
    """Each sample's value by its name and the values of its labels, sorted."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(rules.RuleCollector(rules._read(datetime.now(UTC))))
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, tuple(sorted(sample.labels.values()))): sample.value
        for family in families
        for sample in family.samples
    }


def called(rule: IntegrationRule, **brought: Any) -> None:
    mine = Traffic()
    mine.add(rule.pk, **({"seconds": 0.04, "failed": False, "at": datetime.now(UTC)} | brought))
    traffic.store(mine._sums)


def test_counters_of_a_rule_outlive_its_minutes() -> None:
    rule = IntegrationRule.objects.create(name='or"ders', sealed_secret=b"")
    called(rule, events=2, verdicts={"reject": 2})
    called(rule, failed=True, dead=1)
    RuleMinute.objects.exclude(minute=TOTALS_AT).delete()
    found = scraped()

    assert found["chat_rule_calls_total", ('or"ders',)] == 2
    assert found["chat_rule_failed_total", ('or"ders',)] == 1
    assert found["chat_rule_events_total", ('or"ders',)] == 2
    assert found["chat_rule_dead_total", ('or"ders',)] == 1
    assert found["chat_rule_verdicts_total", ('or"ders', "reject")] == 2
    assert found["chat_rule_call_seconds_bucket", ("0.025", 'or"ders')] == 0
    assert found["chat_rule_call_seconds_bucket", ("0.05", 'or"ders')] == 2
    assert found["chat_rule_call_seconds_bucket", ("+Inf", 'or"ders')] == 2


def test_gauges_tell_the_breaker_the_workers_and_what_nobody_has_looked_at() -> None:
    rule = IntegrationRule.objects.create(name="orders", sealed_secret=b"", enabled=False)
    worker = WorkerProcess.objects.create(name="w", host="here", pid=1, calls=3, stuck_results=2, dropped_results=5)
    RuleThrottle.objects.create(worker=worker, rule=rule, breaker="open", limit=1.5)
    Notice.objects.create(level="info", title="t")
    found = scraped()

    assert found["chat_rule_breaker", ("orders",)] == 2
    assert found["chat_rule_limit", ("orders",)] == 1.5
    assert found["chat_rule_enabled", ("orders",)] == 0
    assert found["chat_rule_backlog", ("orders",)] == 0
    assert found["chat_workers", ()] == 1
    assert found["chat_worker_calls_under_way", ("w",)] == 3
    assert found["chat_worker_stuck_results", ("w",)] == 2
    assert found["chat_worker_dropped_results_total", ("w",)] == 5
    assert found["chat_notices_open", ()] == 1


def test_without_rules_there_are_families_and_no_samples_of_them() -> None:
    assert scraped() == {
        ("chat_workers", ()): 0.0,
        ("chat_notices_open", ()): 0.0,
        ("chat_rule_rooms_open", ()): 0.0,
        ("chat_rule_rooms_compared_seconds", ()): 0.0,
    }


def test_how_long_a_rule_has_failed_is_told() -> None:
    rule = IntegrationRule.objects.create(name="orders", sealed_secret=b"")
    RuleHealth.objects.create(rule=rule, failing_since=datetime.now(UTC) - timedelta(hours=1))

    assert 3590 < scraped()["chat_rule_failing_seconds", ("orders",)] < 3700


async def test_a_gateway_without_postgres_still_tells_its_own_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(now: datetime) -> None:
        raise TimeoutError

    monkeypatch.setattr(rules, "_read", away)

    assert await rules.read() is None
