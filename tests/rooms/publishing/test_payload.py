"""What clients send: one form in the log, and the same value back in either format."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rooms.errors import ChatError
from rooms.protocol import wire
from rooms.protocol.wire import Format, Message, ProtocolMessage
from rooms.publishing.payload import read_content

texts = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=50)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def read(message: Message, limit: int = 65_536) -> Any:
    return read_content(message, max_bytes=limit)


@given(texts)
def test_text_stays_text(text: str) -> None:
    assert read(Message(data=text)).text == text


@given(st.binary(max_size=100))
def test_bytes_come_back_from_either_format(data: bytes) -> None:
    from_json = read(Message(data=base64.b64encode(data).decode(), encoding="base64"))
    from_msgpack = read(Message(data=data))

    assert from_json == from_msgpack
    shown = wire.for_format(Message(data=from_json.binary), Format.JSON)
    assert base64.b64decode(shown.data) == data and shown.encoding == "base64"


@given(json_values.filter(lambda value: value is not None and not isinstance(value, str)))
def test_json_is_kept_as_its_text(value: Any) -> None:
    content = read(Message(data=value))

    assert content.encoding == "json" and content.text is not None
    assert msgspec.json.decode(content.text) == value


@given(st.text(max_size=30).map(str.encode))
def test_utf8_below_base64_is_text_again(data: bytes) -> None:
    if b"\0" not in data:
        content = read(Message(data=base64.b64encode(data).decode(), encoding="utf-8/base64"))
        assert content.text == data.decode() and content.encoding is None


def test_a_clients_encryption_is_kept_as_it_is() -> None:
    content = read(Message(data="AAEC", encoding="json/utf-8/cipher+aes-128-cbc/base64"))

    assert (content.binary, content.encoding) == (b"\0\1\2", "json/utf-8/cipher+aes-128-cbc")


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (Message(data="x" * 70_000), 40009),
        (Message(data="x" * 40_000, extras={"a": "y" * 40_000}), 40009),
        (Message(data=b"x" * 65_537), 40009),
        (Message(data="a\0b"), 40013),
        (Message(data="not base64!", encoding="base64"), 40013),
        (Message(data={"a": 1}, encoding="utf-8"), 40013),
        (Message(data="x", name="n" * 256), 40009),
        (Message(data="x", extras="text"), 40032),
        (Message(data="x", extras={"a": {"b": "\0"}}), 40032),
        (Message(data="x", extras={"a": float("nan")}), 40032),
        (Message(data="x", extras={"a": [2**64]}), 40032),
    ],
)
def test_what_cannot_be_kept_is_refused_with_its_code(message: Message, code: int) -> None:
    with pytest.raises(ChatError) as caught:
        read(message)
    assert caught.value.code == code


def test_extras_nested_without_end_are_refused() -> None:
    extras: dict[str, Any] = {}
    for _ in range(200):
        extras = {"a": extras}
    with pytest.raises(ChatError):
        read(Message(data="x", extras=extras))


@given(st.binary(max_size=200))
def test_noise_is_an_error_and_nothing_else(noise: bytes) -> None:
    for wire_format in Format:
        try:
            assert isinstance(wire.decode(noise, wire_format), ProtocolMessage)
        except ChatError as error:
            assert error.code == 40000


def test_brackets_without_end_are_noise() -> None:
    with pytest.raises(ChatError):
        wire.decode('{"action":15,"messages":[{"data":' + "[" * 100_000, Format.JSON)
