"""Gateways that are full, sent away, killed, or stopped: whoever is there goes on elsewhere, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, closing, suppress

import psutil
import pytest
from websockets.exceptions import ConnectionClosed

from chatsite.swarm.wire.frames import handshake
from rooms.protocol.wire import Action
from tests.conformance.raw import RawClient
from tests.faults import traffic
from tests.faults.test_hostile_clients import ROOM, DeafMember
from tests.instance import Instance, wait_until
from tests.patience import PATIENCE

MOST_PER_GATEWAY = 40
DRAIN_SECONDS = 1
STORM_MEMBERS = 300


@pytest.fixture(scope="module")
def small() -> Iterator[Instance]:
    """Two gateways that are soon full, and soon empty."""
    with ExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CONNECTION_MAX_PER_GATEWAY", str(MOST_PER_GATEWAY))
            patch.setenv("GATEWAY_DRAIN_SECONDS", str(DRAIN_SECONDS))
            patch.setenv("CONNECTION_SLOW_SECONDS", "2")
            running = stack.enter_context(Instance.temporary(gateways=2))
        running.wait_for_gateways()
        yield running


@pytest.fixture(scope="module")
def small_key(small: Instance) -> str:
    return small.key()


def knock(instance: Instance, key: str) -> tuple[socket.socket, bytes]:
    """Ask for a WebSocket and return the connection and the head of the answer."""
    connection = socket.create_connection(("127.0.0.1", instance.port), timeout=PATIENCE)
    connection.sendall(handshake("127.0.0.1", instance.port, f"/?key={key}&v=3"))
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(4096)
    return connection, answer


def term(instance: Instance, name: str) -> int:
    """Send SIGTERM to one service, wait until `up` has started it again, and return the new process id."""
    old = instance.pids()[name]
    os.kill(old, signal.SIGTERM)
    return wait_until(lambda: instance._successor(name, old), what=f"{name} starts again")


def test_a_full_server_says_when_to_come_back_and_takes_again_who_comes_when_there_is_room(
    small: Instance, small_key: str
) -> None:
    with ExitStack() as stack:
        held = []
        for _ in range(2 * MOST_PER_GATEWAY):
            connection, answer = knock(small, small_key)
            stack.callback(connection.close)
            assert answer.startswith(b"HTTP/1.1 101 ")
            held.append(connection)

        refused, answer = knock(small, small_key)
        stack.callback(refused.close)
        head, _, body = answer.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        assert lines[0] == b"HTTP/1.1 503 Service Unavailable"
        assert any(line.startswith(b"Retry-After: ") and 1 <= int(line[13:]) <= 5 for line in lines)
        while received := refused.recv(4096):
            body += received
        assert json.loads(body)["error"]["code"] == 50004
        assert small.is_healthy()  # pages and REST go on

        held[0].close()

        def gets_in() -> bool:
            connection, answer = knock(small, small_key)
            stack.callback(connection.close)
            return answer.startswith(b"HTTP/1.1 101 ")

        wait_until(gets_in, what="a place is free")


def test_connections_are_spread_evenly_over_the_gateways(small: Instance, small_key: str) -> None:
    def shares() -> list[int]:
        return [
            sum(
                connection.status == psutil.CONN_ESTABLISHED
                for connection in psutil.Process(pid).net_connections("tcp")
            )
            for pid in small.gateways().values()
        ]

    wait_until(lambda: sum(shares()) < 8, what="the test before has left")
    with ExitStack() as stack:
        before = shares()
        for _ in range(60):
            stack.callback(knock(small, small_key)[0].close)
        grown = [after - was for after, was in zip(shares(), before, strict=True)]
        assert max(grown) <= 1.25 * sum(grown) / 2 + 4, grown


def test_who_is_sent_away_by_sigterm_misses_nothing_and_the_gateway_is_started_again(
    small: Instance, small_key: str
) -> None:
    report = traffic.run(small, small_key, after=60, meanwhile=lambda: term(small, "gateway-1"))
    traffic.check(report)
    assert "gateway-1 ended (exit 0)" in small.errors.read_text()
    assert "left over" not in (small.data / "logs" / "gateway-1.log").read_text()


async def test_sigterm_answers_publishes_before_it_tells_clients_to_come_back(small: Instance, small_key: str) -> None:
    small.wait_for_gateways()
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(RawClient.connected(small.url, key=small_key)) for _ in range(20)]
        servers = [(await client.expect(Action.CONNECTED))["connectionDetails"]["serverId"] for client in clients]
        for client in clients:
            await client.send(action=Action.MESSAGE, channel="leave", msgSerial=0, messages=[{"data": "x"}])
        leaving = small.pids()["gateway-2"]
        os.kill(leaving, signal.SIGTERM)
        await asyncio.to_thread(wait_until, lambda: not psutil.pid_exists(leaving), what="it has left")
        farewells = await asyncio.gather(*map(farewell, clients))

    by_server: dict[str, set[object]] = {server: set() for server in servers}
    for server, found in zip(servers, farewells, strict=True):
        by_server[server].add(found)
    assert sorted(by_server.values(), key=str) == [{(80003, 1000)}, {None}]


async def farewell(client: RawClient) -> tuple[int, int | None] | None:
    """Wait for the ACK, then return how the server ended the connection; None if it still answers."""
    await client.expect(Action.ACK)
    with suppress(ConnectionClosed):
        await client.send(action=Action.HEARTBEAT, id="still here?")
    async for text in client.socket:
        told = json.loads(text)
        if told["action"] == Action.HEARTBEAT:
            return None
        if told["action"] == Action.DISCONNECTED:
            return told["error"]["code"], await client.wait_until_closed()
    raise AssertionError("closed without a word")


def test_a_peer_that_takes_nothing_for_too_long_is_dropped_by_the_kernel(small: Instance, small_key: str) -> None:
    with closing(DeafMember(small.port, small_key).socket) as deaf:
        port = deaf.getsockname()[1]

        def is_held() -> bool:
            connections = (psutil.Process(pid).net_connections("tcp") for pid in small.gateways().values())
            return any(each.raddr and each.raddr.port == port for some in connections for each in some)

        assert is_held()
        traffic.check(traffic.run(small, small_key, room=ROOM, members=1, rate=200, seconds=1, size=4600))
        wait_until(lambda: not is_held(), what="it is dropped")


def test_sigint_stops_a_gateway_at_once(small: Instance) -> None:
    log = small.data / "logs" / "gateway-1.log"
    sent_away = log.read_text().count("are sent away")
    old = small.pids()["gateway-1"]
    os.kill(old, signal.SIGINT)
    wait_until(lambda: not psutil.pid_exists(old), what="it is gone")
    assert log.read_text().count("are sent away") == sent_away  # which takes its time, after SIGTERM
    wait_until(lambda: small._successor("gateway-1", old), what="it starts again")


def test_a_storm_of_members_that_come_back_after_a_kill_loses_nothing(victim: Instance, victim_key: str) -> None:
    report = traffic.run(
        victim,
        victim_key,
        members=STORM_MEMBERS,
        after=40,
        rate=40,
        seconds=4,
        connect_seconds=PATIENCE,
        meanwhile=lambda: victim.kill("gateway-2"),
    )
    traffic.check(report)
    assert report.reconnects >= STORM_MEMBERS / 4
