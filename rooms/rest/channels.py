"""Answers REST requests for the occupancy of one room, and for the list of active rooms, as the public API does.

A request for a room's status does not make the room.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse

from rooms.access.authentication import authenticate
from rooms.access.grants import Grant
from rooms.database import threads
from rooms.errors import ChatError, Code
from rooms.gateway import gateway
from rooms.log.directory import require_name
from rooms.occupancy import store
from rooms.occupancy.counts import CAPABILITY, Metrics
from rooms.rest.history_query import HIDDEN_PARAMETERS
from rooms.rest.requests import answer, credentials_of, rest, whole_number

LIMIT_DEFAULT, LIMIT_MAX = 100, 1000
# Resources of the public API that are not offered here; otherwise they would be read as names with slashes.
RESOURCES = re.compile(r".+/(?:presence(?:/history)?|messages/.+|object(?:/.*)?)", re.DOTALL)


@rest("GET")
async def status(request: HttpRequest, name: str) -> HttpResponse:
    """Answer GET /channels/{name} with the room's occupancy."""
    grant = await authenticate(credentials_of(request))
    if RESOURCES.fullmatch(name):
        raise ChatError(Code.NOT_FOUND, "This server does not offer that resource of a channel.")
    grant.require(require_name(name), CAPABILITY)
    occupancy = await gateway.current().occupancy.status(name)
    return answer(request, details_of(name, occupancy.metrics))


@rest("GET")
async def listing(request: HttpRequest) -> HttpResponse:
    """Answer GET /channels with a page of the active rooms, by name, and links to the first and the next page.

    Rooms that the capability does not cover are left out of a page: '*' excludes those of other spaces ("[...").
    """
    grant = await authenticate(credentials_of(request))
    require_all_rooms(grant)
    by = request.GET.get("by", "value")
    if by not in ("id", "value"):
        raise ChatError(Code.INVALID_PARAMETER, "The parameter by is 'id' or 'value'.")
    limit = whole_number(request, "limit", LIMIT_DEFAULT)
    if not 1 <= limit <= LIMIT_MAX:
        raise ChatError(Code.INVALID_PARAMETER, f"The parameter limit is 1 to {LIMIT_MAX}.")
    prefix, after = _text(request, "prefix"), _text(request, "cursor")
    page, last = await threads.run(read_page, grant, prefix=prefix, after=after, limit=limit)
    response = answer(request, [name if by == "id" else details_of(name, metrics) for name, metrics in page])
    response["Link"] = ", ".join(_links(request, last))
    return response


def read_page(grant: Grant, *, prefix: str, after: str, limit: int) -> tuple[list[tuple[str, Metrics]], str | None]:
    """Return a page's active rooms that the grant covers, and the name after which the next page begins."""
    active = store.read_active(prefix=prefix, after=after, limit=limit + 1)
    last = active[limit - 1][0] if len(active) > limit else None
    return [room for room in active[:limit] if grant.capability.allows(room[0], CAPABILITY)], last


def details_of(name: str, metrics: Metrics) -> dict[str, Any]:
    """Return a room's occupancy as the public ChannelDetails."""
    status = {"isActive": metrics.connections > 0, "occupancy": {"metrics": metrics.shape}}
    return {"channelId": name, "name": name, "status": status}


def require_all_rooms(grant: Grant) -> None:
    """Raise ChatError 40160 unless the grant covers all rooms: a partial list would look complete."""
    if not grant.capability.allows_everywhere(CAPABILITY):
        raise ChatError(
            Code.OPERATION_NOT_PERMITTED,
            f"The capability of this key or token does not allow {CAPABILITY!r} on all rooms ('*').",
        )


def _text(request: HttpRequest, name: str) -> str:
    value = request.GET.get(name, "")
    if "\0" in value:
        raise ChatError(Code.INVALID_PARAMETER, f"The parameter {name} holds a NUL character.")
    return value


def _links(request: HttpRequest, last: str | None) -> list[str]:
    """Return the Link header's parts; `last` is the name after which the next page begins."""
    parameters = {key: value for key, value in request.GET.items() if key not in HIDDEN_PARAMETERS}
    first = {key: value for key, value in parameters.items() if key != "cursor"}
    links = [f'<./channels?{urlencode(first)}>; rel="first"', f'<./channels?{urlencode(parameters)}>; rel="current"']
    if last is not None:
        links.append(f'<./channels?{urlencode({**first, "cursor": last})}>; rel="next"')
    return links
