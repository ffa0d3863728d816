"""The outbox: the deliveries owed to integration rules. Only this package changes the state of a delivery or a lane.

    add  --->  pending  --claim-->  delivering  --record-->  delivered | pending again | dead
                  ^                      | lease over            |
                  +----------------------+      resend <---------+          cancelled: no longer needed

Each function is one transaction, or part of the caller's. A claim is a lease: when it ends, another worker takes the
deliveries. A worker that reports after the end of its lease is recognised by the number of its attempt, or by the
lane's fence, and changes nothing.
"""

from __future__ import annotations

from integrations.outbox.claims import NO_REPORT, Capacity, Claim, Claimed, claim_lanes, claim_singles, release
from integrations.outbox.new_deliveries import CHANNEL, NewDelivery, Reach, add_deliveries, wake
from integrations.outbox.records import (
    Recorded,
    overrule,
    read_verdict,
    record_lanes,
    record_singles,
    store_callback_verdict,
)
from integrations.outbox.recovery import (
    OVERDUE_STEP,
    Replay,
    cancel_overdue,
    delete_deliveries,
    delete_idle_lanes,
    reclaim,
    replay,
    resend,
    retry_now,
)

__all__ = [
    "CHANNEL",
    "NO_REPORT",
    "OVERDUE_STEP",
    "Capacity",
    "Claim",
    "Claimed",
    "NewDelivery",
    "Reach",
    "Recorded",
    "Replay",
    "add_deliveries",
    "cancel_overdue",
    "claim_lanes",
    "claim_singles",
    "delete_deliveries",
    "delete_idle_lanes",
    "overrule",
    "read_verdict",
    "reclaim",
    "record_lanes",
    "record_singles",
    "release",
    "replay",
    "resend",
    "retry_now",
    "store_callback_verdict",
    "wake",
]
