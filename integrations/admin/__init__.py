"""The admin pages of this app. They change nothing themselves, but call the module that owns each table."""

from __future__ import annotations

from integrations.admin import journey_steps
from integrations.admin.authors import AuthorTrustAdmin
from integrations.admin.callback_uses import CallbackUseAdmin
from integrations.admin.deliveries.deliveries import AttemptAdmin, DeliveryAdmin, LaneAdmin
from integrations.admin.health import NoticeAdmin, WorkerAdmin
from integrations.admin.keys.keys import ApiKeyAdmin, UsedNonceAdmin
from integrations.admin.keys.revocations import RevocationAdmin
from integrations.admin.rules.rules import IntegrationRuleAdmin

__all__ = [
    "ApiKeyAdmin",
    "AttemptAdmin",
    "AuthorTrustAdmin",
    "CallbackUseAdmin",
    "DeliveryAdmin",
    "IntegrationRuleAdmin",
    "LaneAdmin",
    "NoticeAdmin",
    "RevocationAdmin",
    "UsedNonceAdmin",
    "WorkerAdmin",
    "journey_steps",
]
