"""The tables of this app: API keys, rules, deliveries, and the figures of rules and workers."""

from __future__ import annotations

from integrations.models.authors import AuthorTrust, Trust
from integrations.models.callbacks import CallbackResult, CallbackUse
from integrations.models.deliveries import UNFINISHED, Attempt, Delivery, DeliveryState, Lane
from integrations.models.health import (
    BreakerState,
    Notice,
    NoticeLevel,
    RuleHealth,
    RuleMinute,
    RuleThrottle,
    WorkerProcess,
)
from integrations.models.keys import ApiKey, KeyPurpose, Revocation, RevocationSubject, UsedNonce
from integrations.models.occupancy import RoomTold
from integrations.models.rules import AtDeadline, EventKind, IntegrationRule, Invocation, Late, TargetKind, When

__all__ = [
    "UNFINISHED",
    "ApiKey",
    "AtDeadline",
    "Attempt",
    "AuthorTrust",
    "BreakerState",
    "CallbackResult",
    "CallbackUse",
    "Delivery",
    "DeliveryState",
    "EventKind",
    "IntegrationRule",
    "Invocation",
    "KeyPurpose",
    "Lane",
    "Late",
    "Notice",
    "NoticeLevel",
    "Revocation",
    "RevocationSubject",
    "RoomTold",
    "RuleHealth",
    "RuleMinute",
    "RuleThrottle",
    "TargetKind",
    "Trust",
    "UsedNonce",
    "When",
    "WorkerProcess",
]
