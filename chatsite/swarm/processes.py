"""The processes of a swarm: each serves members or publishers, and reports to the conductor through its pipe."""

from __future__ import annotations

import gc
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection as Pipe
from typing import Any, TypeVar

from chatsite.swarm.members.crowd import Crowd
from chatsite.swarm.plan import Plan
from chatsite.swarm.publishers import Publishers
from chatsite.swarm.wire.group import Group

PROGRESS_SECONDS = 0.1
GRACE_SECONDS = 0.2  # what should not arrive any more (a second copy of the last message) gets this long to

Served = TypeVar("Served", Crowd, Publishers)


def run_crowd(plan: Plan, place: int, members: range, pipe: Pipe) -> None:
    """Serve some of the members until the conductor sends Finish, and send a Tally."""
    with _serving(lambda: Crowd(plan, place, members)) as crowd:
        crowd.start(_wait_for_order(crowd, pipe).at)
        used = time.process_time()
        finish = _wait_for_order(crowd, pipe)
        crowd.hurry()
        deadline = time.monotonic() + finish.seconds
        while not crowd.has_reached(finish) and time.monotonic() < deadline:
            _serve(crowd, PROGRESS_SECONDS)
            pipe.send(crowd.progress())
        _serve(crowd, GRACE_SECONDS)
        tally = crowd.tally(finish)
        tally.cpu_seconds = time.process_time() - used
        pipe.send(tally)


def run_publishers(plan: Plan, places: range, pipe: Pipe) -> None:
    """Serve some of the publishers: let them publish from Start on, wait for the answers, and send a Published."""
    with _serving(lambda: Publishers(plan, places)) as publishers:
        publishers.started = _wait_for_order(publishers, pipe).at
        used, reported = time.process_time(), 0.0
        while (pause := publishers.publish_due()) is not None:
            publishers.step(min(pause, PROGRESS_SECONDS))
            if time.monotonic() - reported > PROGRESS_SECONDS:
                reported = time.monotonic()
                pipe.send(publishers.progress())
        deadline = time.monotonic() + plan.settle_seconds
        while publishers.waiting and time.monotonic() < deadline:
            publishers.step(PROGRESS_SECONDS)
            pipe.send(publishers.progress())
        result = publishers.result
        result.problems, result.cpu_seconds = publishers.problems, time.process_time() - used
        pipe.send(result)


@contextmanager
def _serving(make: Callable[[], Served]) -> Iterator[Served]:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the conductor, which ends its processes
    gc.disable()  # nothing here makes cycles, and looking for them in 15,000 members takes longer than serving them
    group = make()
    try:
        yield group
    except (BrokenPipeError, EOFError):
        pass  # the conductor is gone
    finally:
        group.poller.close()


def _wait_for_order(group: Group[Any], pipe: Pipe) -> Any:
    """Serve the group until the conductor sends an order, and return that."""
    while not pipe.poll():
        _serve(group, PROGRESS_SECONDS)
        pipe.send(group.progress())
    return pipe.recv()


def _serve(group: Group[Any], seconds: float) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        group.step(left)
