"""Which rooms a list of all rooms shows."""

from __future__ import annotations

import pytest

from rooms.access.capabilities import Capability
from rooms.access.grants import Grant
from rooms.models import Room
from rooms.occupancy import store
from rooms.occupancy.counts import Metrics
from rooms.rest.channels import read_page

ONE = Metrics(1, 1, 1, 1, 1)
NAMES = ["[meta]log", "[meta]stats", "hall", "lobby"]


@pytest.fixture
def busy(db: None) -> None:
    gateway = store.register("near", connections_max=10)
    store.beat(gateway, 4, [(Room.objects.create(name=name).pk, ONE) for name in NAMES])


def pages(patterns: dict[str, list[str]], limit: int) -> list[list[str]]:
    """Return the names that a client sees that follows the links."""
    grant = Grant(client_id=None, capability=Capability.parse(patterns), key_name="key")
    seen: list[list[str]] = []
    after: str | None = ""
    while after is not None:
        page, after = read_page(grant, prefix="", after=after, limit=limit)
        seen.append([name for name, _ in page])
    return seen


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        ({"*": ["*"]}, NAMES[2:]),
        ({"*": ["channel-metadata"], "[meta]log": ["subscribe"]}, NAMES[2:]),
        ({"*": ["*"], "[meta]log": ["channel-metadata"]}, [NAMES[0], *NAMES[2:]]),
        ({"[*]*": ["channel-metadata"]}, NAMES),
    ],
)
def test_a_list_shows_what_the_capability_covers_whole_over_all_pages(
    busy: None, patterns: dict[str, list[str]], names: list[str]
) -> None:
    for limit in (1, 2, 3, 9):
        seen = pages(patterns, limit)
        assert sorted(name for page in seen for name in page) == names
        assert all(len(page) <= limit for page in seen)
