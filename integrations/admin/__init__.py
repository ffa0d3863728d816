"""The admin pages of keys, rules and deliveries. Every change is made by the function that owns it."""

from __future__ import annotations

from integrations.admin import journey_steps
from integrations.admin.deliveries import AttemptAdmin, DeliveryAdmin, LaneAdmin
from integrations.admin.keys import ApiKeyAdmin, UsedNonceAdmin
from integrations.admin.rules import IntegrationRuleAdmin

__all__ = [
    "ApiKeyAdmin",
    "AttemptAdmin",
    "DeliveryAdmin",
    "IntegrationRuleAdmin",
    "LaneAdmin",
    "UsedNonceAdmin",
    "journey_steps",
]
