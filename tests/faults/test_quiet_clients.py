"""Clients that were opened before other tests of the shared instance and have said nothing since."""

from __future__ import annotations

import os
import time
import urllib.request

import psutil
import pytest

from tests.faults import traffic
from tests.faults.quiet_clients import ROOM, Dripping, HalfSent, IdleMember, Silent
from tests.instance import Instance, wait_until
from tests.patience import PATIENCE

IDLE_SECONDS = 120 if os.environ.get("SLOW") else 40
MEGABYTE = 1_048_576

pytestmark = pytest.mark.usefixtures("quiet_clients")


def test_requests_of_which_the_rest_never_comes_are_dropped(instance: Instance, half_sent: list[HalfSent]) -> None:
    with urllib.request.urlopen(f"{instance.url}/healthz", timeout=PATIENCE) as response:
        assert response.status == 200
    # After 15 s of silence, and 30 s of who asked to become a WebSocket.
    wait_until(lambda: all(request.is_dropped() for request in half_sent), what="all are dropped")
    (pid,) = instance.gateways().values()
    assert psutil.Process(pid).memory_info().rss < 250 * MEGABYTE
    assert len(psutil.Process(pid).net_connections()) < 50


def test_a_request_that_comes_byte_by_byte_has_a_deadline_too(dripping: list[Dripping]) -> None:
    wait_until(
        lambda: all(client.dropped_after is not None for client in dripping),
        what="both are dropped, though each byte comes in time",
    )


def test_an_idle_member_stays_connected_and_gets_the_next_message(
    instance: Instance, key: str, idle_member: IdleMember
) -> None:
    wait_until(
        lambda: time.monotonic() - idle_member.attached_at > IDLE_SECONDS or not idle_member.is_connected,
        seconds=IDLE_SECONDS + PATIENCE,
    )
    assert idle_member.is_connected
    assert idle_member.messages == []
    traffic.run(instance, key, room=ROOM, members=1, publishers=1, rate=10, seconds=0.1)
    wait_until(lambda: idle_member.messages, what="the next message")


def test_who_says_nothing_hears_something_within_each_idle_interval(silent: list[Silent]) -> None:
    """Heartbeats if it asked for them, else pings; and it need not answer either."""
    for client, sign in zip(silent, ("HEARTBEAT", "PING"), strict=True):
        rounds = (time.monotonic() - client.opened_at) / 15
        greeting, *signs = client.received()
        assert greeting == "CONNECTED"
        assert set(signs) == {sign}
        assert int(rounds) <= len(signs) <= rounds * 2 + 1
