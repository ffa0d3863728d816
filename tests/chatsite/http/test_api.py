"""The REST API has a handler of its own; every other address is Django's."""

from __future__ import annotations

import pytest

from chatsite.http.api import is_api


@pytest.mark.parametrize("path", ["/time", "/time/", "/channels", "/channels/", "/channels/lobby/messages"])
def test_the_api_and_what_lies_below_it_is_its_handler_s(path: str) -> None:
    assert is_api({"path": path})


@pytest.mark.parametrize(
    "path", ["/timezone", "/channelsfoo", "/channels.txt", "/", "", "/rooms/channels", "/Channels"]
)
def test_an_address_that_only_begins_alike_is_not(path: str) -> None:
    assert not is_api({"path": path})
