"""The protocol of nchan, nginx's module for publish and subscribe, as a peer to compare with. Pure.

Members open /sub?id=ROOM and receive plain frames; a message is POSTed to /pub?id=ROOM. There are no serials:
each room has one publisher, whose POSTs are pipelined on one connection, so its numbers are the room's order.
"""

from __future__ import annotations

from urllib.parse import quote

from chatsite.swarm.plan import Plan
from chatsite.swarm.results.tally import Place, Token
from chatsite.swarm.wire.messages import Arrival, Item, Reader, mark_of, read_data, write_data


def path_of(plan: Plan, room: int) -> str:
    """Return path and query of a member's WebSocket."""
    return f"/sub?id={quote(plan.room_name(room), safe='')}"


def position_of(plan: Plan, token: Token) -> tuple[int, int]:
    """Return a message's room and its serial there."""
    rooms = plan.rooms_of(token.publisher)
    serial, place = divmod(token.number, len(rooms))
    return rooms[place], serial + 1


class Decoder:
    """Reads frames of the rooms of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._mark = mark_of(plan.run)

    def __call__(self, payload: bytes, reader: Reader) -> list[Item]:
        """Return the message of a frame; nothing for one of an earlier run."""
        data = payload.decode()
        if not data.startswith(self._mark):
            return []
        token, sent_at = read_data(data)
        room, serial = position_of(self._plan, token)
        return [Arrival(room, serial, reader.note(Place(room, serial, token), sent_at, None))]


def post(plan: Plan, token: Token, *, sent_at: float) -> bytes:
    """Return the request that publishes a message."""
    room, _ = position_of(plan, token)
    body = write_data(plan.run, token, sent_at=sent_at, size=plan.size).encode()
    host, port = plan.address
    head = f"POST /pub?id={quote(plan.room_name(room), safe='')} HTTP/1.1\r\nHost: {host}:{port}\r\n"
    return f"{head}Content-Type: text/plain\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
