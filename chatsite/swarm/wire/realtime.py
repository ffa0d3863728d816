"""This project's realtime protocol, as far as a swarm speaks it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from chatsite.swarm.plan import Plan
from chatsite.swarm.results.tally import Place, Token
from chatsite.swarm.wire.frames import Opcode, frame
from chatsite.swarm.wire.messages import MARK, Arrival, Content, Incoming, Item, Reader, mark_of, read_data, write_data
from rooms.protocol import serials
from rooms.protocol.wire import Action, Format


def path_of(plan: Plan, *, client_id: str | None = None) -> str:
    """Return path and query of a WebSocket."""
    query = {"key": plan.key, "format": plan.format.value, "v": "3"}
    if client_id is not None:
        query["clientId"] = client_id
    return "/?" + urlencode(query, quote_via=quote)


class Decoder:
    """Reads frames of the rooms of a plan."""

    def __init__(self, plan: Plan) -> None:
        self._mark = mark_of(plan.run)
        self._rooms = {plan.room_name(room): room for room in range(plan.rooms)}
        decoder = msgspec.msgpack.Decoder if plan.format is Format.MSGPACK else msgspec.json.Decoder
        self._decode: Callable[[bytes], Incoming] = decoder(Incoming).decode

    def __call__(self, payload: bytes, reader: Reader) -> list[Item]:
        """Return the messages in a frame. Raises ValueError for messages that the swarm cannot check."""
        message = self._decode(payload)
        if message.action != Action.MESSAGE:
            return [message]
        room = self._rooms.get(message.channel or "")
        if room is None:
            raise ValueError("The server sent a message of a room that nobody asked for.")
        serial = position_of(message.channel_serial)
        return [self._arrival(room, serial, content, reader) for content in message.messages]

    def _arrival(self, room: int, serial: int, content: Content, reader: Reader) -> Arrival:
        if not isinstance(content.data, str) or not content.data.startswith(self._mark):
            return Arrival(room, serial, None)
        token, sent_at = read_data(content.data)
        return Arrival(room, serial, reader.note(Place(room, serial, token), sent_at, content.timestamp))


class Writer:
    """Encodes what members and publishers send, as frames."""

    def __init__(self, run: str, wire_format: Format) -> None:
        self._run = run
        self._opcode = Opcode.BINARY if wire_format is Format.MSGPACK else Opcode.TEXT
        self._encode = (msgspec.msgpack.Encoder() if wire_format is Format.MSGPACK else msgspec.json.Encoder()).encode

    def attach(self, room: str, *, after: str | None = None) -> bytes:
        """Return an ATTACH, after a channelSerial if the member was there before."""
        message: dict[str, Any] = {"action": Action.ATTACH, "channel": room}
        return self._frame(message | ({"channelSerial": after} if after else {}))

    def publish(self, room: str, msg_serial: int, tokens: Sequence[Token], *, sent_at: float, size: int) -> bytes:
        """Return a MESSAGE of messages of `size` bytes of data. Their ids make publishing them again harmless."""
        contents = [
            {
                "id": f"{self._run}-{token.publisher}-{token.number}",
                "name": MARK,
                "data": write_data(self._run, token, sent_at=sent_at, size=size),
            }
            for token in tokens
        ]
        return self._frame({"action": Action.MESSAGE, "msgSerial": msg_serial, "channel": room, "messages": contents})

    def _frame(self, message: dict[str, Any]) -> bytes:
        return frame(self._opcode, self._encode(message))


def position_of(channel_serial: str | None) -> int:
    """Return the position that a channelSerial shows. Raises ValueError for one that is none of ours."""
    decoded = serials.decode(channel_serial or "")
    if decoded is None:
        raise ValueError("The server sent a message without a serial of the form that the swarm checks.")
    return decoded[1]
