"""The tables of this app: keys, rules and deliveries."""

from __future__ import annotations

from integrations.models.keys import ApiKey, KeyPurpose, UsedNonce

__all__ = ["ApiKey", "KeyPurpose", "UsedNonce"]
