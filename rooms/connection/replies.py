"""What a client is answered, as its socket takes it."""

from __future__ import annotations

from rooms.fanout.sockets import Encoding, Socket
from rooms.protocol.wire import Format, ProtocolMessage, encode


def send_reply(socket: Socket, encoding: Encoding, message: ProtocolMessage) -> None:
    """Send one protocol message to the client, after whatever is unsent."""
    payload = encode(message, encoding.format)
    socket.reply(encoding.piece(payload), binary=encoding.format is Format.MSGPACK)
