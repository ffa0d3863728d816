"""Sums up the results of a worker's calls by rule and minute, and writes the sums every FLUSH_SECONDS."""

from __future__ import annotations

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from django.db import connection

from integrations.monitoring import health, latency
from integrations.monitoring.figures import TOTALS_AT
from integrations.monitoring.health import Observed
from rooms import faults
from rooms.database import threads
from rooms.faults import POSTGRES_AWAY

logger = logging.getLogger(__name__)

FLUSH_SECONDS: Final = 2.0
FINISH_SECONDS: Final = 2.0
# Sums (one for each rule and minute) that are kept while Postgres is away; beyond it the oldest minutes are dropped.
WAITING_MAX: Final = 10_000


@dataclass(slots=True)
class _Sum:
    calls: int = 0
    failed: int = 0
    events: int = 0
    dead: int = 0
    shared: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    buckets: list[int] = field(default_factory=lambda: [0] * latency.BUCKETS)

    def add(self, other: _Sum) -> None:
        self.calls += other.calls
        self.failed += other.failed
        self.events += other.events
        self.dead += other.dead
        self.shared += other.shared
        self.verdicts.update(other.verdicts)
        self.buckets = latency.add_up((self.buckets, other.buckets))


MinuteSums = dict[tuple[int, int], _Sum]  # by rule and minute since 1970


class Traffic:
    """The sums of one worker. Call `add` and `share` in the event loop's thread; they never wait."""

    def __init__(self) -> None:
        self.forgotten = 0  # dropped sums: Postgres was away for too long, or they could not be stored
        self._sums: MinuteSums = {}
        self._observed: dict[int, Observed] = {}

    def add(
        self,
        rule_id: int,
        *,
        seconds: float,
        failed: bool,
        at: datetime,
        events: int = 0,
        dead: int = 0,
        shared: int = 0,
        verdicts: Mapping[str, int] | None = None,
        error: str = "",
        gone: bool = False,
    ) -> None:
        """Count one call with its duration and result.

        `events` deliveries ended well, `dead` were given up; `gone`: the target answered 410.
        """
        one = self._sum(rule_id, at)
        one.calls += 1
        one.failed += failed
        one.buckets[latency.bucket_of(seconds * 1000)] += 1
        self._note(one, events, dead, shared, verdicts)
        observed = self._observe(rule_id, dead)
        if failed:
            observed.failed(error, at, gone=gone)
        else:
            observed.succeeded = True

    def share(
        self,
        rule_id: int,
        *,
        at: datetime,
        events: int = 0,
        dead: int = 0,
        shared: int = 0,
        verdicts: Mapping[str, int] | None = None,
    ) -> None:
        """Count results without a call: verdicts from the cache, and dead letters whose workers had died."""
        self._note(self._sum(rule_id, at), events, dead, shared, verdicts)
        if dead:
            self._observe(rule_id, dead)

    async def run(self) -> None:
        """Write the sums every FLUSH_SECONDS until cancelled, and then once more."""
        try:
            while True:
                await asyncio.sleep(FLUSH_SECONDS)
                await self.flush()
        finally:
            try:
                async with asyncio.timeout(FINISH_SECONDS):
                    await self.flush()
            except TimeoutError:
                logger.warning("The last figures of this worker were not written.")

    async def flush(self) -> None:
        """Write the sums. While Postgres is away they are kept, up to WAITING_MAX."""
        sums, self._sums = self._sums, {}
        observed, self._observed = self._observed, {}
        if not sums and not observed:
            return
        try:
            await threads.run(store, sums)
        except POSTGRES_AWAY as error:
            logger.warning("Figures wait for Postgres (%s).", type(error).__name__)
            self._restore(sums)
        except Exception:
            # They would fail the same way each time, and keep all later ones from being written.
            self.forgotten += len(sums)
            faults.record("writing figures of rules")
        try:
            await threads.run(health.observe, list(observed.values()), now=datetime.now(UTC))
        except POSTGRES_AWAY as error:
            # The next failing call says the same again.
            logger.warning("The health of rules could not be noted (%s).", type(error).__name__)
        except Exception:
            faults.record("health of rules")

    def _sum(self, rule_id: int, at: datetime) -> _Sum:
        key = (rule_id, int(at.timestamp()) // 60)
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = _Sum()
        return found

    @staticmethod
    def _note(one: _Sum, events: int, dead: int, shared: int, verdicts: Mapping[str, int] | None) -> None:
        one.events += events
        one.dead += dead
        one.shared += shared
        if verdicts:
            one.verdicts.update(verdicts)

    def _observe(self, rule_id: int, dead: int) -> Observed:
        found = self._observed.get(rule_id)
        if found is None:
            found = self._observed[rule_id] = Observed(rule_id)
        found.dead += dead
        return found

    def _restore(self, sums: MinuteSums) -> None:
        for key, one in sums.items():
            if key in self._sums:
                self._sums[key].add(one)
            else:
                self._sums[key] = one
        excess = len(self._sums) - WAITING_MAX
        if excess > 0:
            for key in sorted(self._sums, key=lambda key: key[1])[:excess]:
                del self._sums[key]
            self.forgotten += excess
            logger.warning("Figures of %d minutes of rules were forgotten: Postgres was away for too long.", excess)


def store(sums: MinuteSums) -> None:
    """Add sums to the rows of their minutes and to the totals of their rules. Removed rules are left out."""
    totals: dict[int, _Sum] = {}
    for (rule_id, _), one in sums.items():
        totals.setdefault(rule_id, _Sum()).add(one)
    rows = [(rule_id, datetime.fromtimestamp(minute * 60, UTC), one) for (rule_id, minute), one in sums.items()]
    rows += [(rule_id, TOTALS_AT, one) for rule_id, one in totals.items()]
    if rows:
        with connection.cursor() as cursor:
            cursor.execute(ADD_SUMS, _columns(rows))


def _columns(rows: Iterable[tuple[int, datetime, _Sum]]) -> dict[str, list[Any]]:
    rows = list(rows)
    sums = [one for _, _, one in rows]
    return {
        "rules": [rule_id for rule_id, _, _ in rows],
        "minutes": [minute for _, minute, _ in rows],
        "calls": [one.calls for one in sums],
        "failed": [one.failed for one in sums],
        "events": [one.events for one in sums],
        "dead": [one.dead for one in sums],
        "shared": [one.shared for one in sums],
        "verdicts": [json.dumps(one.verdicts) for one in sums],
        # An array of arrays would be taken apart by unnest().
        "buckets": ["{" + ",".join(map(str, one.buckets)) + "}" for one in sums],
    }


# Rows are locked in one order, so that workers never wait for each other in a circle.
ADD_SUMS: Final = """
INSERT INTO integrations_ruleminute AS kept (rule_id, minute, calls, failed, events, dead, shared, verdicts, buckets)
SELECT told.rule_id, told.minute, told.calls, told.failed, told.events, told.dead, told.shared,
    told.verdicts::jsonb, told.buckets::bigint[]
FROM unnest(%(rules)s::bigint[], %(minutes)s::timestamptz[], %(calls)s::bigint[], %(failed)s::bigint[],
    %(events)s::bigint[], %(dead)s::bigint[], %(shared)s::bigint[], %(verdicts)s::text[], %(buckets)s::text[])
    AS told (rule_id, minute, calls, failed, events, dead, shared, verdicts, buckets)
JOIN integrations_integrationrule AS rule ON rule.id = told.rule_id
ORDER BY told.rule_id, told.minute
FOR KEY SHARE OF rule
ON CONFLICT (rule_id, minute) DO UPDATE
SET calls = kept.calls + excluded.calls, failed = kept.failed + excluded.failed,
    events = kept.events + excluded.events, dead = kept.dead + excluded.dead, shared = kept.shared + excluded.shared,
    verdicts = (
        SELECT coalesce(jsonb_object_agg(word, number), '{}') FROM (
            SELECT word, sum(number::bigint) AS number
            FROM (SELECT * FROM jsonb_each_text(kept.verdicts)
                  UNION ALL SELECT * FROM jsonb_each_text(excluded.verdicts)) AS both_sides (word, number)
            GROUP BY word) AS added),
    buckets = ARRAY(
        SELECT coalesce(mine, 0) + coalesce(theirs, 0)
        FROM unnest(kept.buckets, excluded.buckets) WITH ORDINALITY AS both_sides (mine, theirs, place)
        ORDER BY place)
"""
