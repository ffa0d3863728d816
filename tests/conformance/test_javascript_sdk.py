"""The official JavaScript SDK as its users run it, in both formats: MessagePack is its default in Node."""

from __future__ import annotations

import pytest

from tests.conformance import node
from tests.instance import Instance


@pytest.mark.parametrize("wire_format", ["msgpack", "json"])
@pytest.mark.parametrize("script", ["crowd", "room", "resume", "auth"])
def test_the_javascript_sdk_finds_what_it_expects(instance: Instance, key: str, script: str, wire_format: str) -> None:
    node.run(f"{script}.test.mjs", key=key, port=instance.port, format=wire_format)


def test_the_javascript_sdk_is_told_how_many_are_in_a_room(instance: Instance, key: str) -> None:
    node.run("occupancy.test.mjs", key=key, port=instance.port, format="msgpack")
