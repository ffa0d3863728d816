"""Parsers and renderers of REST bodies: JSON and MessagePack."""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, Any

import msgspec
from django.conf import settings
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer

from rooms.errors import ChatError, Code

MSGPACK = "application/x-msgpack"


class MsgPackParser(BaseParser):
    """Reads MessagePack."""

    media_type = MSGPACK

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the decoded body. Raises ParseError, ChatError 40009."""
        return _decode(msgspec.msgpack.Decoder(), stream, "MessagePack")


class JsonParser(BaseParser):
    """Reads JSON, whatever the content type: the protocol's own examples send text/plain, and curl sends a form."""

    media_type = "*/*"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """Return the decoded body. Raises ParseError, ChatError 40009."""
        return _decode(msgspec.json.Decoder(), stream, "JSON")


class JsonRenderer(BaseRenderer):
    """Writes compact JSON."""

    media_type = "application/json"
    format = "json"
    charset = None

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Return the encoded body; structs and times included."""
        return b"" if data is None else msgspec.json.encode(data)


class MsgPackRenderer(BaseRenderer):
    """Writes MessagePack."""

    media_type = MSGPACK
    format = "msgpack"
    charset = None
    render_style = "binary"

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Return the encoded body; structs and times included."""
        return b"" if data is None else msgspec.msgpack.encode(data)


def _decode(decoder: Any, stream: IO[Any], form: str) -> Any:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    body = stream.read(limit + 1)
    if len(body) > limit:
        raise ChatError(Code.MESSAGE_TOO_LARGE, f"The body has more than {limit} bytes.", status=413)
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError):
        raise ParseError(f"The body is not valid {form}.") from None
