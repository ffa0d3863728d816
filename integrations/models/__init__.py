"""The tables of this app: keys, rules and deliveries."""

from __future__ import annotations

from integrations.models.keys import ApiKey, KeyPurpose, UsedNonce
from integrations.models.rules import (
    AtDeadline,
    Attempt,
    Delivery,
    DeliveryState,
    EventKind,
    IntegrationRule,
    Lane,
    When,
)

__all__ = [
    "ApiKey",
    "AtDeadline",
    "Attempt",
    "Delivery",
    "DeliveryState",
    "EventKind",
    "IntegrationRule",
    "KeyPurpose",
    "Lane",
    "UsedNonce",
    "When",
]
