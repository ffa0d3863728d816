"""The texts of a message that a reader may see: its text, or every string inside its JSON. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from rooms.log.content import Content

JSON = "json"
NO_JSON = object()


def texts_of(content: Content) -> list[str]:
    """Return the texts of a content that a reader may see: not binary or encrypted data, and not the keys of JSON."""
    if content.text is None:
        return []
    if not content.encoding:
        return [content.text]
    if content.encoding != JSON:
        return []
    document = _decode(content.text)
    return [content.text] if document is NO_JSON else list(_walk(document))


def replace_texts(content: Content, change: Callable[[str], str]) -> Content:
    """Return the content with `change` applied to each of its texts."""
    if content.text is None or content.encoding not in (None, "", JSON):
        return content
    document = _decode(content.text) if content.encoding else NO_JSON
    if document is NO_JSON:
        return replace(content, text=change(content.text))
    return replace(content, text=msgspec.json.encode(_map(document, change)).decode())


def _decode(text: str) -> Any:
    """Return decoded JSON; NO_JSON if a client labelled other text as JSON."""
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return NO_JSON


def _map(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {key: _map(inner, change) for key, inner in value.items()}
    if isinstance(value, list):
        return [_map(inner, change) for inner in value]
    return value


def _walk(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _walk(inner)
