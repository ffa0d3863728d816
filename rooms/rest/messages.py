"""Answers REST requests to publish, for history and for the time, as the public API does.

Views are asynchronous: a publish waits for its verdict without holding a thread.
"""

from __future__ import annotations

import secrets
import time

from django.http import HttpRequest, HttpResponse

from rooms.access.authentication import authenticate
from rooms.access.grants import Grant
from rooms.database import threads
from rooms.gateway import gateway
from rooms.log import reading, rows
from rooms.log.directory import RoomRef, require_name
from rooms.protocol.wire import for_format
from rooms.publishing.drafts import drafts_of, first_refusal
from rooms.rest.history_query import HistoryQuery
from rooms.rest.requests import answer, credentials_of, format_of, read_messages, rest


@rest("GET")
async def server_time(request: HttpRequest) -> HttpResponse:
    """Answer GET /time with milliseconds since the epoch."""
    return answer(request, [int(time.time() * 1000)])


@rest("GET", "POST")
async def messages(request: HttpRequest, name: str) -> HttpResponse:
    """Answer GET (history) and POST (publish) of /channels/{name}/messages."""
    grant = await authenticate(credentials_of(request))
    publishes = request.method == "POST"
    # Before the room is made: only a client that may use it makes it.
    grant.require(require_name(name), "publish" if publishes else "history")
    rooms = gateway.current().directory
    if publishes:
        return await publish(request, await rooms.get(name), grant)
    # To ask for the history of a room makes none: one that is not there has an empty log.
    return await history(request, await rooms.find(name) or RoomRef(0, name, ""))


async def publish(request: HttpRequest, room: RoomRef, grant: Grant) -> HttpResponse:
    """Accept one message or a list, wait for the verdict, and answer 201 with the serials."""
    body = read_messages(request)
    here = gateway.current()
    base_id = secrets.token_urlsafe(12)
    drafts = drafts_of(body, room, grant, base_id=base_id, connection_id=None, origin=here.channel)
    outcomes = await here.acceptor.submit(drafts)
    refusal = first_refusal(outcomes)
    if refusal is not None:
        raise refusal
    shape = {
        "channel": room.name,
        "messageId": drafts[0].message_id.rpartition(":")[0] or drafts[0].message_id,
        "serials": [outcome.serial for outcome in outcomes],
    }
    return answer(request, shape, status=201)


async def history(request: HttpRequest, room: RoomRef) -> HttpResponse:
    """Answer with a page of published messages, and links to the first and the next page."""
    query = HistoryQuery.parse(request, room)
    page, more = await threads.run(
        reading.read_history,
        room,
        start=query.start,
        end=query.end,
        after=query.after,
        before=query.before,
        forwards=query.forwards,
        limit=query.limit,
    )
    wire_format = format_of(request)
    response = answer(request, [for_format(rows.wire_of(row, room.epoch), wire_format) for row in page])
    last = page[-1].created_serial if more else None
    response["Link"] = ", ".join(query.links(request, last))
    return response
