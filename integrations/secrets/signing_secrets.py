"""The signing secrets of a rule: the current one and, for a while after a rotation, the former one."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache

from integrations.models import IntegrationRule
from integrations.secrets.sealing import unseal

MAX_KEPT = 1_000


def signing_secrets(rule: IntegrationRule, now: datetime) -> list[str]:
    """Return the secrets that sign a rule's calls, the current one first. Raises SealBroken.

    A call carries a signature by each, so that a receiver can change its secret at any time of the overlap.
    """
    secrets = [_unsealed(bytes(rule.sealed_secret))]
    former, until = rule.sealed_former_secret, rule.former_secret_until
    if former is not None and until is not None and now < until:
        secrets.append(_unsealed(bytes(former)))
    return secrets


@lru_cache(maxsize=MAX_KEPT)
def _unsealed(sealed: bytes) -> str:
    return unseal(sealed)
