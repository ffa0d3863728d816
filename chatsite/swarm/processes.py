"""What runs in the processes of a swarm, and what they tell the conductor through their pipe."""

from __future__ import annotations

import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe

from chatsite.swarm.crowd import Crowd
from chatsite.swarm.plan import Plan
from chatsite.swarm.publishers import Publishers

PROGRESS_SECONDS = 0.1
GRACE_SECONDS = 0.2  # what should not arrive any more (a second copy of the last message) gets this long to


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Where a process stands."""

    ready: int  # attached members, or connected publishers
    delivered: int = 0
    published: int = 0
    acknowledged: int = 0
    hopeless: str | None = None


@dataclass(frozen=True, kw_only=True)
class Start:
    """Order to the publishers: begin at this monotonic time."""

    at: float


@dataclass(frozen=True, kw_only=True)
class Finish:
    """Order to members: wait until the log was received up to its head, at most so long, then report."""

    head: int
    seconds: float


def run_crowd(plan: Plan, members: int, source: str | None, pipe: Pipe) -> None:
    """Be some of the members until the conductor says Finish, and send a Tally."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the conductor, which ends its processes
    crowd = Crowd(plan, members, source=source)
    try:
        finish = None
        while finish is None:
            _step_until(crowd, time.monotonic() + PROGRESS_SECONDS)
            pipe.send(Progress(ready=crowd.attached_count, delivered=crowd.delivered, hopeless=crowd.hopeless))
            finish = pipe.recv() if pipe.poll() else None
        deadline = time.monotonic() + finish.seconds
        while not crowd.has_reached(finish.head) and time.monotonic() < deadline:
            _step_until(crowd, time.monotonic() + PROGRESS_SECONDS)
        _step_until(crowd, time.monotonic() + GRACE_SECONDS)
        pipe.send(crowd.tally(finish.head))
    except (BrokenPipeError, EOFError):  # the conductor is gone
        pass
    finally:
        crowd.poller.close()


def run_publishers(plan: Plan, pipe: Pipe) -> None:
    """Be all publishers: connect, publish from Start on, wait for the answers, and send what became of it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    publishers = Publishers(plan)
    try:
        start = None
        while start is None:
            publishers.step(PROGRESS_SECONDS)
            pipe.send(_progress(publishers))
            start = pipe.recv() if pipe.poll() else None
        _publish(publishers, start.at, pipe)
        pipe.send(publishers.result)
    except (BrokenPipeError, EOFError):
        pass
    finally:
        publishers.poller.close()


def _step_until(crowd: Crowd, moment: float) -> None:
    while (left := moment - time.monotonic()) > 0:
        crowd.step(left)


def _publish(publishers: Publishers, started: float, pipe: Pipe) -> None:
    told = 0.0
    while time.monotonic() < started:
        publishers.step(started - time.monotonic())
    while (pause := publishers.publish_due(started)) is not None:
        publishers.step(min(pause, PROGRESS_SECONDS))
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            pipe.send(_progress(publishers))
    deadline = time.monotonic() + publishers.plan.settle_seconds
    while publishers.waiting and time.monotonic() < deadline:
        publishers.step(PROGRESS_SECONDS)


def _progress(publishers: Publishers) -> Progress:
    result = publishers.result
    return Progress(ready=publishers.connected, published=result.published, acknowledged=len(result.acknowledged))
