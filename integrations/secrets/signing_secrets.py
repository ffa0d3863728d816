"""The secrets that sign a rule's calls: the current one and, while a rotation lasts, the former one too."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from integrations.models import IntegrationRule
from integrations.secrets.sealing import unseal

MAX_KEPT = 1_000


def signing_secrets(rule: IntegrationRule, now: datetime) -> list[str]:
    """Return the secrets whose signatures a call carries, the current one first. Raises SealBroken.

    A receiver that knows either accepts the call: it changes its secret at any moment of the overlap.
    """
    secrets = [_unsealed(bytes(rule.sealed_secret))]
    former, until = rule.sealed_former_secret, rule.former_secret_until
    if former is not None and until is not None and now < until:
        secrets.append(_unsealed(bytes(former)))
    return secrets


@lru_cache(maxsize=MAX_KEPT)
def _unsealed(sealed: bytes) -> str:
    return unseal(sealed)
