"""The revocations in force, in memory, so that checking a token needs no query. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rooms.access.grants import Grant

# The values of integrations.models.RevocationSubject.
CLIENT, TOKEN, REVOCATION_KEY, CHANNEL = "clientId", "tokenId", "revocationKey", "channel"


@dataclass(frozen=True, kw_only=True, slots=True)
class RevokedTokens:
    """A revocation of a key's tokens. `issued_before` in seconds since the epoch, `starts_at` monotonic.

    A token named by its id ends whenever it was issued, because its issuer's clock may be ahead.
    """

    key_name: str
    subject: str
    value: str
    issued_before: float
    starts_at: float

    def covers(self, grant: Grant) -> bool:
        """Return whether the revocation ends the token of a grant."""
        if grant.token_id is None or grant.key_name != self.key_name:
            return False
        if self.subject == TOKEN:
            return grant.token_id == self.value
        return grant.issued_at < self.issued_before and self.value in _values(grant, self.subject)


@dataclass(kw_only=True, slots=True)
class _OfKey:
    """The revocations of one key: for each subject and value, the latest `issued_before`."""

    tokens: set[str] = field(default_factory=set)
    before: dict[str, dict[str, float]] = field(default_factory=dict)


class RevocationBook:
    """The revocations of all keys. Their number is bounded where they are written (REVOCATIONS_MAX)."""

    def __init__(self) -> None:
        self._keys: dict[str, _OfKey] = {}
        self._pending: list[RevokedTokens] = []

    @property
    def pending(self) -> Sequence[RevokedTokens]:
        """The revocations that are not in force yet."""
        return self._pending

    def __len__(self) -> int:
        """The number of values, including those not in force yet."""
        return len(self._pending) + sum(
            len(mine.tokens) + sum(map(len, mine.before.values())) for mine in self._keys.values()
        )

    def add(self, ended: RevokedTokens, now: float) -> None:
        """Add a revocation, in force from `starts_at` on."""
        if ended.starts_at > now:
            self._pending.append(ended)
            return
        mine = self._keys.setdefault(ended.key_name, _OfKey())
        if ended.subject == TOKEN:
            mine.tokens.add(ended.value)
            return
        before = mine.before.setdefault(ended.subject, {})
        before[ended.value] = max(before.get(ended.value, ended.issued_before), ended.issued_before)

    def advance(self, now: float) -> bool:
        """Put into force the revocations that are due. Return whether there were any."""
        if not self._pending:
            return False
        pending, self._pending = self._pending, []
        for ended in pending:
            self.add(ended, now)
        return len(self._pending) < len(pending)

    def ends(self, grant: Grant) -> bool:
        """Return whether the token of a grant was revoked."""
        mine = self._keys.get(grant.key_name)
        if mine is None or grant.token_id is None:
            return False
        if grant.token_id in mine.tokens:
            return True
        return any(
            _is_named(before, _values(grant, subject), grant.issued_at) for subject, before in mine.before.items()
        )


def _is_named(before: dict[str, float], values: Sequence[str], issued_at: float) -> bool:
    # Iterates over the shorter of the two: a capability may name 1,000 rooms.
    if len(before) < len(values):
        named = set(values)
        return any(issued_at < moment for value, moment in before.items() if value in named)
    return any(issued_at < before.get(value, 0.0) for value in values)


def _values(grant: Grant, subject: str) -> Sequence[str]:
    """Return the values by which a revocation with this subject can name the token."""
    if subject == CLIENT:
        # A token for any client id ends with the client id that the peer uses, too.
        return [name for name in {grant.issued_to, grant.client_id} if name is not None]
    if subject == REVOCATION_KEY:
        return [] if grant.revocation_key is None else [grant.revocation_key]
    return list(grant.capability.patterns)
