"""Shows the content of messages in the admin: escaped and cut; lists read only the start of each text."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.db.models import F, Func
from django.db.models.functions import Coalesce, Left
from django.utils.safestring import SafeString

from rooms.admin.cells import badge, quiet, said, size
from rooms.admin.journey import Tone
from rooms.models import Message

PREVIEW_CHARACTERS = 160
SHOWN_CHARACTERS = 4000


class Octets(Func):
    """The size of a text or binary value, which Postgres knows without reading it."""

    function = "octet_length"
    output_field = models.IntegerField()


def with_previews(rows: models.QuerySet[Any]) -> models.QuerySet[Any]:
    """Add the start of the text, and the sizes of text and binary data, to messages or versions."""
    annotated: models.QuerySet[Any] = rows.annotate(
        start=Left("text", PREVIEW_CHARACTERS),
        text_bytes=Coalesce(Octets(F("text")), 0),
        binary_bytes=Coalesce(Octets(F("binary")), 0),
    )
    return annotated


def preview_of(row: Any) -> SafeString:
    """Return the start of the content of a row from with_previews, on one line."""
    if row.binary_bytes:
        return badge(f"binary, {size(row.binary_bytes)}", Tone.PLAIN)
    if row.start is None:
        return quiet(f"no data ({row.name})" if row.name else "no data")
    text = " ".join(row.start.split()) or "(nothing visible)"
    is_cut = row.text_bytes > len(row.start.encode())
    return said(text + ("…" if is_cut else ""), size(row.text_bytes) if is_cut else "")


def content_of(message: Message) -> dict[str, Any]:
    """Return a message's content for its own page, cut where it is long."""
    text = message.text or ""
    return {
        "text": text[:SHOWN_CHARACTERS],
        "is_cut": len(text) > SHOWN_CHARACTERS,
        "has_text": message.text is not None,
        "size": size(len(text.encode()) if message.binary is None else len(message.binary)),
        "is_binary": message.binary is not None,
        "is_json": message.encoding == "json",
        "encoding": message.encoding,
    }
