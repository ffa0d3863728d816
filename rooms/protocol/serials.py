"""Encodes and decodes serials: positions in a room's log as the wire shows them. Pure.

On the wire a serial is `epoch-position`, the position in twelve digits, so that serials of a room sort as text.
The epoch is drawn when a room is made: a serial of a deleted room is not mistaken for one of its successor.
"""

from __future__ import annotations

import re
import secrets
from typing import NewType

Serial = NewType("Serial", int)

EPOCH_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
WIRE = re.compile(r"([0-9a-z]{8})-([0-9]{12,18})")


def draw_epoch() -> str:
    """Return eight random characters: 40 bits, enough to tell a room from a deleted one of its name."""
    return "".join(secrets.choice(EPOCH_ALPHABET) for _ in range(8))


def encode(epoch: str, serial: int) -> str:
    """Return a position as the wire shows it."""
    return f"{epoch}-{serial:012d}"


def decode(text: str) -> tuple[str, Serial] | None:
    """Return epoch and position from the wire's form; None for any other text."""
    match = WIRE.fullmatch(text)
    return (match[1], Serial(int(match[2]))) if match else None
