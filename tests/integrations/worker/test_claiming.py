"""When a worker looks for more deliveries. No database, no network."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from integrations.egress.outgoing import Outgoing
from integrations.models import IntegrationRule
from integrations.outbox import Capacity, Claim, Claimed
from integrations.worker.worker import Worker

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CONCURRENCY = 12


@pytest.fixture
def worker(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A worker whose claims find as many deliveries as it may call, and whose calls are only counted."""
    settings.DELIVERY_CONCURRENCY = CONCURRENCY
    worker = Worker(cast(Outgoing, None))
    rules = {pk: IntegrationRule(pk=pk, when="before", enabled=True, changed_at=NOW) for pk in range(1, 5)}
    worker._bulkhead.learn(rules)

    async def claim(function: Any, capacities: Sequence[Capacity], *, free: int, **rest: Any) -> Claimed:
        if worker._bulkhead.under_way:
            worker._bulkhead.under_way -= 1  # a call ends while Postgres looks
        chosen = [rules[number % 4 + 1] for number in range(free)]
        return Claimed(rules=rules, claims=[Claim(rule=rule, deliveries=[]) for rule in chosen], given_up={})

    def begin(claim: Claim) -> None:
        worker._bulkhead.under_way += 1

    monkeypatch.setattr(worker._thread, "run", claim)
    monkeypatch.setattr(worker._caller, "begin", begin)
    return worker


@pytest.mark.parametrize("under_way", [0, 1, 5])
async def test_a_worker_that_found_all_that_it_may_call_looks_again_when_a_call_ends(
    worker: Worker, under_way: int
) -> None:
    worker._bulkhead.under_way = under_way
    capacities = [Capacity(rule_id=pk, calls=CONCURRENCY, lease=60.0) for pk in range(1, 5)]
    has_more = await worker._claim_with(cast(Any, None), capacities, lanes=False)
    worker._wake.clear()
    worker._freed()

    assert has_more or worker._wake.is_set()
