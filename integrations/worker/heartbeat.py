"""The heartbeat of workers: each reports every second; the leases of a worker that stopped reporting end at once."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from django.db import connection, transaction

from integrations import outbox
from integrations.models import RuleThrottle, WorkerProcess
from integrations.monitoring.live_state import SILENT_SECONDS
from integrations.worker.bulkhead import Bulkhead
from integrations.worker.clock import Clock
from integrations.worker.stuck_results import StuckResults
from integrations.worker.throttle import Breaker
from rooms import faults
from rooms.database.threads import SingleThread
from rooms.faults import POSTGRES_AWAY

logger = logging.getLogger(__name__)

BEAT_SECONDS: Final = 1.0
DATABASE_SECONDS: Final = 10.0
MOST_WORKERS: Final = 1_000  # rows read in one beat
BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, kw_only=True)
class ThrottleReport:
    """The throttle of one rule, as a worker reports it."""

    rule_id: int
    breaker: str
    limit: float
    calls: int
    opened_at: datetime | None
    probe_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class Census:
    """The result of a beat: the number of living workers, this one included, and the names of dead ones.

    `ahead`: by how much Postgres' clock is ahead of this host's.
    """

    living: int
    dead: Sequence[str]
    ahead: timedelta


def host() -> str:
    """Return a name of the scope of process ids: this boot of the machine, or the container.

    The host name alone is not enough: machines made from one image may share it, and their namespace numbers too.
    """
    name = socket.gethostname()[:190]
    try:
        return f"{name} {os.readlink('/proc/self/ns/pid')} {BOOT.read_text().strip()[:36]}"
    except OSError:
        return name


class Heartbeat:
    """Reports one worker as alive until cancelled. Call `leave` when the worker ends in order."""

    def __init__(
        self, name: str, bulkhead: Bulkhead, clock: Clock, *, stuck: StuckResults, reclaimed: Callable[[], None]
    ) -> None:
        self.living = 1  # workers
        self._clock = clock
        self._beating_since: float | None = None
        self._name = name
        self._bulkhead = bulkhead
        self._stuck = stuck
        self._reclaimed = reclaimed
        self._thread = SingleThread("heart")  # its own: a busy pool must not make a worker look dead

    async def run(self) -> None:
        """Beat every BEAT_SECONDS, and release the leases of dead workers."""
        while True:
            try:
                async with asyncio.timeout(DATABASE_SECONDS):
                    pulse = await self._thread.run(
                        beat,
                        self._name,
                        calls=self._bulkhead.under_way,
                        stuck=len(self._stuck),
                        dropped=self._stuck.dropped,
                        told=throttle_reports(self._bulkhead),
                        sees_silence=self._sees_silence(),
                    )
                    self.living, dead = pulse.living, pulse.dead
                    self._clock.set(pulse.ahead)
                    buried = await self._thread.run(remove_dead, dead, now=self._clock.now()) if dead else []
                if buried:
                    logger.warning("Workers died; their calls are repeated: %s", ", ".join(buried))
                    self._reclaimed()
            except (*POSTGRES_AWAY, TimeoutError) as error:
                logger.warning("The heartbeat failed (%s).", type(error).__name__)
                self._beating_since = None
            except Exception:
                faults.record("heartbeat")
                self._beating_since = None
            await asyncio.sleep(BEAT_SECONDS)

    def _sees_silence(self) -> bool:
        """Return whether silence means death: right after an outage of Postgres, living workers are silent too."""
        now = time.monotonic()
        if self._beating_since is None:
            self._beating_since = now
        return now - self._beating_since >= SILENT_SECONDS

    async def leave(self) -> None:
        """Delete this worker's row: it has ended in order."""
        try:
            async with asyncio.timeout(DATABASE_SECONDS):
                await self._thread.run(leave, self._name)
        except (*POSTGRES_AWAY, TimeoutError) as error:
            logger.warning("The end of this worker was not noted (%s).", type(error).__name__)
        except Exception:
            faults.record("end of a worker")
        self._thread.close()


def throttle_reports(bulkhead: Bulkhead) -> list[ThrottleReport]:
    """Return the throttles worth reporting: of rules with calls under way, a lowered limit, or an open breaker."""
    clock, now = time.monotonic(), datetime.now(UTC)
    return [
        ThrottleReport(
            rule_id=rule_id,
            breaker=throttle.breaker.value,
            limit=throttle.limit,
            calls=throttle.under_way,
            opened_at=now + timedelta(seconds=throttle.opened_at - clock) if is_open else None,
            probe_at=now + timedelta(seconds=throttle.probe_at - clock) if is_open else None,
        )
        for rule_id, throttle in bulkhead.throttles
        if (is_open := throttle.breaker is not Breaker.CLOSED) or throttle.under_way or throttle.limit < throttle.cap
    ]


BEAT: Final = """
INSERT INTO integrations_workerprocess (name, host, pid, started_at, seen_at, calls, stuck_results, dropped_results)
VALUES (%(name)s, %(host)s, %(pid)s, now(), now(), %(calls)s, %(stuck)s, %(dropped)s)
ON CONFLICT (name) DO UPDATE SET seen_at = now(), calls = excluded.calls,
    stuck_results = excluded.stuck_results, dropped_results = excluded.dropped_results
RETURNING id, clock_timestamp()
"""
FIND_OTHERS: Final = """
SELECT name, host, pid, seen_at < now() - %(silent)s * interval '1 s' FROM integrations_workerprocess
WHERE name <> %(name)s ORDER BY id LIMIT %(most)s
"""
LOCK_DEAD: Final = """
SELECT id, name, host, pid, seen_at < now() - %(silent)s * interval '1 s' FROM integrations_workerprocess
WHERE name = ANY(%(names)s) ORDER BY id FOR UPDATE SKIP LOCKED
"""


def beat(
    name: str,
    *,
    calls: int,
    told: Sequence[ThrottleReport],
    stuck: int = 0,
    dropped: int = 0,
    sees_silence: bool = True,
) -> Census:
    """Write this worker's row and throttles, and find dead workers.

    `stuck` results wait for locked rooms, and `dropped` were too many for that.
    `sees_silence`: a worker that has not reported for SILENT_SECONDS counts as dead, on whatever host it runs.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('synchronous_commit', 'off', true)")
        asked_at = datetime.now(UTC)
        row: dict[str, str | int] = {
            "name": name,
            "host": host(),
            "pid": os.getpid(),
            "calls": calls,
            "stuck": stuck,
            "dropped": dropped,
        }
        cursor.execute(BEAT, row)
        worker_id, at = cursor.fetchone()
        ahead = at - (asked_at + (datetime.now(UTC) - asked_at) / 2)
        _write_throttles(worker_id, told)
        cursor.execute(FIND_OTHERS, {"name": name, "silent": SILENT_SECONDS, "most": MOST_WORKERS})
        others = cursor.fetchall()
    here = host()
    # On this host, a dead process shows at once.
    dead = [
        other
        for other, of, pid, is_silent in others
        if (is_silent and sees_silence) or (of == here and not is_running(pid))
    ]
    return Census(living=1 + len(others) - len(dead), dead=dead, ahead=ahead)


def _write_throttles(worker_id: int, told: Sequence[ThrottleReport]) -> None:
    RuleThrottle.objects.filter(worker_id=worker_id).exclude(rule_id__in=[one.rule_id for one in told]).delete()
    RuleThrottle.objects.bulk_create(
        [
            RuleThrottle(
                worker_id=worker_id,
                rule_id=one.rule_id,
                breaker=one.breaker,
                limit=one.limit,
                calls=one.calls,
                opened_at=one.opened_at,
                probe_at=one.probe_at,
            )
            for one in told
        ],
        update_conflicts=True,
        unique_fields=["worker", "rule"],
        update_fields=["breaker", "limit", "calls", "opened_at", "probe_at"],
    )


def remove_dead(names: Sequence[str], *, now: datetime) -> list[str]:
    """Delete dead workers and make due what they had under lease. Return their names; other workers may do the same."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(LOCK_DEAD, {"names": list(names), "silent": SILENT_SECONDS})
        # A worker that was only slow has reported meanwhile.
        dead = [
            (id_, name)
            for id_, name, of, pid, is_silent in cursor.fetchall()
            if is_silent or (of == host() and not is_running(pid))
        ]
        if dead:
            RuleThrottle.objects.filter(worker_id__in=[id_ for id_, _ in dead]).delete()
            WorkerProcess.objects.filter(pk__in=[id_ for id_, _ in dead]).delete()
            outbox.reclaim([name for _, name in dead], now=now)
    return [name for _, name in dead]


def leave(name: str) -> None:
    """Delete the rows of a worker that ended in order."""
    with transaction.atomic():
        RuleThrottle.objects.filter(worker__name=name).delete()
        WorkerProcess.objects.filter(name=name).delete()


def is_running(pid: int) -> bool:
    """Return whether a process of this host runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        # pid (name) state ...: the name may hold anything.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] not in ("Z", "X")
    except OSError:
        return True
