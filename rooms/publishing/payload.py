"""Checks the payload of a client's message and turns it into the content that the log keeps. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from rooms.errors import ChatError, Code
from rooms.log.content import Content, bytes_of, size_of
from rooms.protocol.wire import Message, decode_base64

NAME_MAX_CHARACTERS = 255
ID_MAX_CHARACTERS = 255
CLIENT_ID_MAX_CHARACTERS = 255
ENCODING_MAX_CHARACTERS = 255
EXTRAS_MAX_DEPTH = 16
INTEGERS = range(-(2**63), 2**64)  # those that MessagePack can encode


def read_content(message: Message, *, max_bytes: int) -> Content:
    """Return the content of a client's message. Raises ChatError 40009, 40013 or 40032.

    Text stays text, JSON becomes its text with encoding "json", base64 becomes bytes; other encodings (a
    client's encryption) are kept as they are.
    """
    for label, value, limit in (
        ("name", message.name, NAME_MAX_CHARACTERS),
        ("encoding", message.encoding, ENCODING_MAX_CHARACTERS),
    ):
        if value is not None:
            require_text(label, value, limit)
    text, binary, encoding = _read_data(message.data, message.encoding)
    if text is not None:
        require_text("data", text, max_bytes)
    extras = _read_extras(message.extras)
    content = Content(name=message.name, text=text, binary=binary, encoding=encoding, extras=extras)
    if size_of(content) + bytes_of(message.client_id) > max_bytes:
        raise ChatError(Code.MESSAGE_TOO_LARGE, f"A message may have {max_bytes} bytes; this one has more.")
    return content


def require_text(label: str, value: str, max_characters: int) -> None:
    """Raise ChatError 40009 for a text that is too long, 40013 for one with a NUL character."""
    if len(value) > max_characters:
        raise ChatError(Code.MESSAGE_TOO_LARGE, f"The {label} is longer than {max_characters} characters.")
    if "\0" in value:
        raise ChatError(Code.INVALID_DATA, f"The {label} holds a NUL character; send it as binary data.")


def _read_data(data: Any, encoding: str | None) -> tuple[str | None, bytes | None, str | None]:
    if isinstance(data, memoryview | bytearray):
        data = bytes(data)
    if isinstance(data, bytes):
        return None, data, encoding or None
    if data is None or isinstance(data, str):
        steps = encoding.split("/") if encoding else []
        if isinstance(data, str) and steps and steps[-1] == "base64":
            return _from_bytes(decode_base64(data), steps[:-1])
        if steps and steps[-1] in ("utf8", "utf-8"):
            steps = steps[:-1]
        return data, None, "/".join(steps) or None
    if encoding not in (None, "", "json"):
        raise ChatError(Code.INVALID_DATA, f"Data of a JSON type cannot have the encoding {encoding[:50]!r}.")
    try:
        return msgspec.json.encode(data).decode(), None, "json"
    except (TypeError, ValueError, OverflowError, RecursionError):  # MessagePack has values that JSON has not
        raise ChatError(Code.INVALID_DATA, "The data holds a value that JSON has no form for.") from None


def _from_bytes(data: bytes, steps: list[str]) -> tuple[str | None, bytes | None, str | None]:
    """Undo a text encoding below base64, so that equal texts are stored equally."""
    if steps and steps[-1] in ("utf8", "utf-8"):
        try:
            return data.decode(), None, "/".join(steps[:-1]) or None
        except UnicodeDecodeError:
            raise ChatError(Code.INVALID_DATA, "The data is not the UTF-8 that its encoding names.") from None
    return None, data, "/".join(steps) or None


def _read_extras(extras: Any) -> dict[str, Any] | None:
    if extras is None:
        return None
    if not isinstance(extras, dict):
        raise ChatError(Code.INVALID_EXTRAS, "The extras are a JSON object.")
    _check_extras(extras, EXTRAS_MAX_DEPTH)
    return extras or None


def _check_extras(value: Any, depth: int) -> None:
    if depth == 0:
        raise ChatError(Code.INVALID_EXTRAS, f"The extras are nested deeper than {EXTRAS_MAX_DEPTH} levels.")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise ChatError(Code.INVALID_EXTRAS, "The keys of the extras are texts.")
            _check_extras(key, depth)
            _check_extras(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            _check_extras(inner, depth - 1)
    elif isinstance(value, str):
        if "\0" in value:
            raise ChatError(Code.INVALID_EXTRAS, "The extras hold a NUL character.")
    elif not isinstance(value, bool | int | float | None):
        raise ChatError(Code.INVALID_EXTRAS, "The extras hold a value that JSON has no form for.")
    elif (isinstance(value, float) and value != value) or value in (float("inf"), float("-inf")):
        raise ChatError(Code.INVALID_EXTRAS, "The extras hold a number that JSON has no form for.")
    elif isinstance(value, int) and value not in INTEGERS:
        raise ChatError(Code.INVALID_EXTRAS, "The extras hold an integer of more than 64 bits; send it as text.")
