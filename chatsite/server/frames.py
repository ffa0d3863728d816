"""Reads plain frames of clients (RFC 6455, section 5.2): whole messages and pongs. Pure. Autobahn reads all others."""

from __future__ import annotations

TEXT, BINARY, PONG = 0x81, 0x82, 0x8A  # final, nothing reserved
MASKED = 0x80
SMALL_BYTES = 125  # what the first length byte can say, and the most that a pong may hold
LENGTH_FOLLOWS = MASKED + 126  # in two bytes
HEAD_BYTES = 6  # of a small frame, with its mask

Plain = tuple[int, bytes, int]  # first byte, payload, and where the next frame begins


def read_plain(data: bytes, start: int, *, max_bytes: int) -> Plain | None:
    """Return the frame that begins at `start`, None if it is incomplete or not a plain one."""
    if len(data) < start + HEAD_BYTES:
        return None
    first, size, head = data[start], data[start + 1] - MASKED, start + 2
    if first not in (TEXT, BINARY, PONG) or size < 0:
        return None
    if size > SMALL_BYTES:
        if data[start + 1] != LENGTH_FOLLOWS or first == PONG:
            return None
        size, head = data[head] << 8 | data[head + 1], head + 2
        if not SMALL_BYTES < size <= max_bytes:
            return None
    end = head + 4 + size
    if len(data) < end:
        return None
    return first, unmask(data[head + 4 : end], data[head : head + 4]), end


def unmask(payload: bytes, mask: bytes) -> bytes:
    """Return a payload without its mask (section 5.3)."""
    size = len(payload)
    if not size or not any(mask):
        return payload
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(key, "little")).to_bytes(size, "little")
