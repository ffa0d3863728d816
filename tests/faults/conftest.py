"""What the tests that hurt the server share: one instance to hurt, and clients that are quiet for a long time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.faults.quiet_clients import Dripping, HalfSent, IdleMember, Silent
from tests.instance import Instance


@pytest.fixture
def victim(pair: Instance) -> Instance:
    """The instance with two gateways, both there: its processes may be killed, and `up` starts them again."""
    pair.wait_for_gateways()
    return pair


@pytest.fixture(scope="session")
def victim_key(pair_key: str) -> str:
    """A key for everything on the victim."""
    return pair_key


@pytest.fixture(scope="session")
def key(instance: Instance) -> str:
    """A key for everything on the shared instance, which nobody kills."""
    return instance.key()


@pytest.fixture(scope="session")
def idle_member(instance: Instance, key: str) -> Iterator[IdleMember]:
    """A member that is idle while the other tests of the shared instance run."""
    with IdleMember(instance.url, key) as member:
        yield member


@pytest.fixture(scope="session")
def half_sent(instance: Instance, idle_member: IdleMember) -> Iterator[list[HalfSent]]:
    """200 requests of which the rest never comes, begun before other tests."""
    with ExitStack() as stack:
        yield [stack.enter_context(HalfSent(instance.port, number)) for number in range(200)]


@pytest.fixture(scope="session")
def silent(instance: Instance, key: str, idle_member: IdleMember) -> Iterator[list[Silent]]:
    """A client that asked for heartbeats and one that did not, opened before other tests."""
    with Silent(instance.port, key, heartbeats=True) as one, Silent(instance.port, key, heartbeats=False) as other:
        yield [one, other]


@pytest.fixture(scope="session")
def dripping(instance: Instance, half_sent: list[HalfSent]) -> Iterator[list[Dripping]]:
    """Two clients that send a request byte by byte, begun before other tests."""
    whole = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    with Dripping(instance.port) as one, Dripping(instance.port, first=whole) as other:
        yield [one, other]


@pytest.fixture(scope="session")
def quiet_clients(
    idle_member: IdleMember, half_sent: list[HalfSent], silent: list[Silent], dripping: list[Dripping]
) -> None:
    """All of them. Tests ask for this that run before those of the quiet clients, which have less to wait then."""
