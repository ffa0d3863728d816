"""Capabilities: the public wildcard rules, and a token that never allows more than its key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rooms.access.capabilities import OPERATIONS, Capability, matches
from rooms.errors import ChatError

rooms = st.lists(st.sampled_from(["a", "b", "chat", "*"]), min_size=1, max_size=3).map(":".join)
capabilities = st.dictionaries(
    rooms, st.lists(st.sampled_from([*sorted(OPERATIONS)[:3], "*"]), min_size=1), min_size=1, max_size=4
).map(Capability.parse)
names = st.lists(st.sampled_from(["a", "b", "chat", "x"]), min_size=1, max_size=4).map(":".join)


@pytest.mark.parametrize(
    ("pattern", "room", "expected"),
    [
        ("*", "anything:at:all", True),
        ("chat", "chat", True),
        ("chat", "chat2", False),
        ("chat:*", "chat:from-clients", True),
        ("chat:*", "chat:a:b", True),
        ("chat:*", "chat", False),
        ("chat:*", "chatter:x", False),
        ("*:chat", "room:chat", True),
        ("*:chat", "a:b:chat", False),
        ("a:*:c", "a:b:c", True),
        ("a:*:c", "a:b:d", False),
        ("foo*", "foobar", False),
        ("*", "[meta]log", False),
        ("[*]*", "[meta]log", True),
        ("[*]chat", "[filtered]chat", True),
    ],
)
def test_a_pattern_matches_by_the_public_wildcard_rules(pattern: str, room: str, expected: bool) -> None:
    assert matches(pattern, room) is expected


@given(capabilities, capabilities, names, st.sampled_from(sorted(OPERATIONS)[:3]))
def test_what_two_allow_together_is_never_more_than_each(
    one: Capability, other: Capability, room: str, operation: str
) -> None:
    if one.intersect(other).allows(room, operation):
        assert one.allows(room, operation) and other.allows(room, operation)


@given(capabilities, names, st.sampled_from(sorted(OPERATIONS)[:3]))
def test_the_canonical_text_says_the_same(capability: Capability, room: str, operation: str) -> None:
    assert Capability.parse(capability.as_text()).as_text() == capability.as_text()
    assert Capability.parse(capability.as_text()).allows(room, operation) == capability.allows(room, operation)


@given(capabilities)
def test_a_capability_within_a_full_key_stays_as_it_is(capability: Capability) -> None:
    assert capability.intersect(Capability.parse({"*": ["*"]})) == capability


@pytest.mark.parametrize(
    "source", ["", "nonsense", "[]", "{}", '{"a": []}', '{"a": "publish"}', '{"a": ["fly"]}', '{"": ["*"]}', "[" * 9999]
)
def test_nonsense_is_refused_with_a_sentence(source: str) -> None:
    with pytest.raises(ChatError) as caught:
        Capability.parse(source)
    assert caught.value.code == 40003 and caught.value.message.endswith(".")
