"""What runs in the processes of a swarm, and what they tell the conductor through their pipe."""

from __future__ import annotations

import gc
import signal
import time
from collections import Counter
from multiprocessing.connection import Connection as Pipe

from chatsite.swarm.crowd import Crowd
from chatsite.swarm.orders import Finish, Progress, Start
from chatsite.swarm.plan import Plan, Share
from chatsite.swarm.publishers import Publishers

PROGRESS_SECONDS = 0.1
GRACE_SECONDS = 0.2  # what should not arrive any more (a second copy of the last message) gets this long to
PROBLEMS_TOLD = 3


def run_crowd(plan: Plan, share: Share, pipe: Pipe) -> None:
    """Be some of the members until the conductor says Finish, and send a Tally."""
    _settle_in()
    crowd = Crowd(plan, share)
    try:
        finish, used = None, 0.0
        while finish is None:
            _step_until(crowd, time.monotonic() + PROGRESS_SECONDS)
            _tell(crowd, pipe)
            order = pipe.recv() if pipe.poll() else None
            if isinstance(order, Start):
                crowd.start(order.at)
                used = time.process_time()
            finish = order if isinstance(order, Finish) else None
        crowd.hurry()
        deadline = time.monotonic() + finish.seconds
        while not crowd.has_reached(finish) and time.monotonic() < deadline:
            _step_until(crowd, time.monotonic() + PROGRESS_SECONDS)
            _tell(crowd, pipe)
        _step_until(crowd, time.monotonic() + GRACE_SECONDS)
        tally = crowd.tally(finish)
        tally.cpu_seconds = time.process_time() - used
        pipe.send(tally)
    except (BrokenPipeError, EOFError):  # the conductor is gone
        pass
    finally:
        crowd.poller.close()


def run_publishers(plan: Plan, places: range, pipe: Pipe) -> None:
    """Be some publishers: connect, publish from Start on, wait for the answers, and send what became of it."""
    _settle_in()
    publishers = Publishers(plan, places)
    try:
        start = None
        while start is None:
            publishers.step(PROGRESS_SECONDS)
            pipe.send(_progress(publishers))
            start = pipe.recv() if pipe.poll() else None
        used = time.process_time()
        _publish(publishers, start.at, pipe)
        publishers.result.cpu_seconds = time.process_time() - used
        pipe.send(publishers.result)
    except (BrokenPipeError, EOFError):
        pass
    finally:
        publishers.poller.close()


def _settle_in() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the conductor, which ends its processes
    gc.disable()  # nothing here makes cycles, and looking for them in 15,000 members takes longer than serving them


def _step_until(crowd: Crowd, moment: float) -> None:
    while (left := moment - time.monotonic()) > 0:
        crowd.step(left)


def _tell(crowd: Crowd, pipe: Pipe) -> None:
    crowd.timings.count()
    progress = Progress(
        ready=crowd.attached_count,
        delivered=crowd.timings.delivered,
        recent=crowd.timings.take_recent(),
        problems=Counter(dict(crowd.problems.most_common(PROBLEMS_TOLD))),
        hopeless=crowd.hopeless,
    )
    pipe.send(progress)


def _publish(publishers: Publishers, started: float, pipe: Pipe) -> None:
    told = 0.0
    publishers.started = started
    while time.monotonic() < started:
        publishers.step(started - time.monotonic())
    while (pause := publishers.publish_due()) is not None:
        publishers.step(min(pause, PROGRESS_SECONDS))
        if time.monotonic() - told > PROGRESS_SECONDS:
            told = time.monotonic()
            pipe.send(_progress(publishers))
    deadline = time.monotonic() + publishers.plan.settle_seconds
    while publishers.waiting and time.monotonic() < deadline:
        publishers.step(PROGRESS_SECONDS)
        pipe.send(_progress(publishers))


def _progress(publishers: Publishers) -> Progress:
    result = publishers.result
    return Progress(
        ready=publishers.connected,
        published=result.published,
        acknowledged=len(result.acknowledged),
        problems=Counter(dict(result.problems.most_common(PROBLEMS_TOLD))),
    )
