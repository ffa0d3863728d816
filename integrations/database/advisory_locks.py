"""The advisory locks of this app, each held until its transaction ends. One list, so that all numbers differ."""

from __future__ import annotations

from enum import IntEnum, unique

from rooms.database.statements import fetch


@unique
class AdvisoryLock(IntEnum):
    """Actions of one transaction at a time. The numbers stay: processes of two versions may run side by side."""

    MAKING_KEYS = 0x6B657973
    REVOKING = 0x7265766F
    COMPARING_ROOMS = 0x6F636375
    WRITING_NOTICES = 7_301_988_402
    CLEANING = 7_301_988_403


def lock(which: AdvisoryLock) -> None:
    """Wait for a lock and hold it until the transaction ends. Call in a transaction."""
    fetch("SELECT pg_advisory_xact_lock(%(lock)s)", lock=which.value)


def try_lock(which: AdvisoryLock) -> bool:
    """Lock unless another transaction holds the lock. Return whether this one holds it now. Call in a transaction."""
    ((is_taken,),) = fetch("SELECT pg_try_advisory_xact_lock(%(lock)s)", lock=which.value)
    return bool(is_taken)
