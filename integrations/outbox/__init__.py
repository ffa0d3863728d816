"""The outbox: what is owed to rules. The only package that changes the state of a delivery or of a lane.

    owe  --->  pending  --claim-->  delivering  --record-->  delivered | pending again | dead
                  ^                      | lease over            |
                  +----------------------+      resend <---------+          cancelled: nobody needs it any more

Each function is one transaction, or part of the caller's. A claim is a lease: a worker that dies with it is
replaced when it ends, and one that comes back late is told apart by the number of its attempt, or the lane's fence.
"""

from __future__ import annotations

from integrations.outbox.claims import NO_REPORT, Claim, Claimed, Places, claim_lanes, claim_singles, release
from integrations.outbox.new_deliveries import CHANNEL, Debt, Reach, owe, wake
from integrations.outbox.records import Recorded, note_answer, overrule, read_answer, record_lanes, record_singles
from integrations.outbox.recovery import OVERDUE_STEP, Replay, cancel_overdue, forget, hasten, reclaim, replay, resend

__all__ = [
    "CHANNEL",
    "NO_REPORT",
    "OVERDUE_STEP",
    "Claim",
    "Claimed",
    "Debt",
    "Places",
    "Reach",
    "Recorded",
    "Replay",
    "cancel_overdue",
    "claim_lanes",
    "claim_singles",
    "forget",
    "hasten",
    "note_answer",
    "overrule",
    "owe",
    "read_answer",
    "reclaim",
    "record_lanes",
    "record_singles",
    "release",
    "replay",
    "resend",
    "wake",
]
