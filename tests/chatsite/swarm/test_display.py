from __future__ import annotations

import io
from collections import Counter

import pytest

from chatsite.swarm.conductor import Status
from chatsite.swarm.display import Display
from chatsite.swarm.orders import Progress
from tests.chatsite.swarm.results.test_report import histogram
from tests.chatsite.swarm.test_plan import plan


@pytest.mark.parametrize("width", [None, 60])
def test_the_display_says_where_a_run_stands(width: int | None) -> None:
    output = io.StringIO()
    display = Display(plan(), output, width=width)
    members = Progress(ready=6, delivered=120, recent=histogram(7), problems=Counter({"it is full": 3}))
    display.show(Status(phase="publishing", at=0.5, members=members, publishers=Progress(published=20)))
    shown = output.getvalue()
    for expected in ("publishing", "6 of 6 members", "20 published", "120 delivered", "p99 7.1 ms", "3 x it is full"):
        assert expected in shown
    display.clear()
    assert ("\x1b[" in output.getvalue()) is (width is not None)
    assert all(len(line) < 60 for line in shown.splitlines()) or width is None
