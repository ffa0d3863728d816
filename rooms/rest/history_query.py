"""Reads the parameters of a history request. Pure but for the request object."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlencode

import msgspec
from django.http import HttpRequest

from rooms.errors import ChatError, Code
from rooms.log.directory import RoomRef
from rooms.protocol import serials
from rooms.rest.requests import whole_number

HISTORY_DEFAULT = 100
HISTORY_MAX = 1000


class HistoryQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a history request (RSL2b) and of its further pages."""

    start: datetime | None
    end: datetime | None
    forwards: bool
    limit: int
    after: int | None
    before: int | None

    @classmethod
    def parse(cls, request: HttpRequest, room: RoomRef) -> HistoryQuery:
        """Read the parameters of a request. Raises ChatError 40003, which names the wrong one."""
        direction = request.GET.get("direction", "backwards")
        if direction not in ("backwards", "forwards"):
            raise ChatError(Code.INVALID_PARAMETER, "The parameter direction is 'backwards' or 'forwards'.")
        limit = whole_number(request, "limit", HISTORY_DEFAULT)
        if not 1 <= limit <= HISTORY_MAX:
            raise ChatError(Code.INVALID_PARAMETER, f"The parameter limit is 1 to {HISTORY_MAX}.")
        forwards = direction == "forwards"
        cursor = _serial(request, "cursor", room)
        attached = _serial(request, "from_serial", room) or _serial(request, "fromSerial", room)
        if attached is not None and forwards:
            raise ChatError(Code.INVALID_PARAMETER, "fromSerial goes with the direction 'backwards'.")
        before = cursor if cursor is not None and not forwards else None
        if attached is not None and before is None:
            before = attached + 1
        return cls(
            start=_moment(request, "start"),
            end=_moment(request, "end"),
            forwards=forwards,
            limit=limit,
            after=cursor if forwards else None,
            before=before,
        )

    def links(self, request: HttpRequest, last: int | None) -> list[str]:
        """Return the Link header's parts; `last` is the serial after which the next page begins."""
        parameters = {key: value for key, value in request.GET.items() if key not in HIDDEN_PARAMETERS}
        first = {key: value for key, value in parameters.items() if key != "cursor"}
        links = [
            f'<./messages?{urlencode(first)}>; rel="first"',
            f'<./messages?{urlencode(parameters)}>; rel="current"',
        ]
        if last is not None:
            links.append(f'<./messages?{urlencode({**first, "cursor": last})}>; rel="next"')
        return links


# Credentials in a query must not come back in a header that proxies log.
HIDDEN_PARAMETERS = frozenset({"key", "access_token", "accessToken"})


def _moment(request: HttpRequest, name: str) -> datetime | None:
    milliseconds = whole_number(request, name, 0)
    try:
        return datetime.fromtimestamp(milliseconds / 1000, tz=UTC) if milliseconds else None
    except (ValueError, OverflowError, OSError):
        raise ChatError(Code.INVALID_PARAMETER, f"The parameter {name} is milliseconds since the epoch.") from None


def _serial(request: HttpRequest, name: str, room: RoomRef) -> int | None:
    value = request.GET.get(name)
    if not value:
        return None
    if value.isascii() and value.isdigit() and len(value) <= 18:
        return int(value)
    decoded = serials.decode(value)
    if decoded is None or decoded[0] != room.epoch:
        raise ChatError(Code.INVALID_PARAMETER, f"The parameter {name} is not a serial of this room.")
    return decoded[1]
