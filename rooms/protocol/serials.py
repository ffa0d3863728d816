"""Positions in a room's log and how the wire shows them. Pure.

On the wire a serial is `epoch-position`, the position in twelve digits, so that serials of a room sort as text.
The epoch is drawn when a room is made: a serial of another life of the room is recognised and never mistaken.
"""

from __future__ import annotations

import re
import secrets
from typing import NewType

Serial = NewType("Serial", int)

EPOCH_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
WIRE = re.compile(r"([0-9a-z]{8})-([0-9]{12,18})")


def draw_epoch() -> str:
    """Return eight random characters: 40 bits, enough to tell the lives of one room apart."""
    return "".join(secrets.choice(EPOCH_ALPHABET) for _ in range(8))


def encode(epoch: str, serial: int) -> str:
    """Return the wire's form of a position."""
    return f"{epoch}-{serial:012d}"


def decode(text: str) -> tuple[str, Serial] | None:
    """Return epoch and position of the wire's form, None for anything else."""
    match = WIRE.fullmatch(text)
    return (match[1], Serial(int(match[2]))) if match else None
