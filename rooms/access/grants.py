"""Grants: a client's identity and capability, which every operation is checked against."""

from __future__ import annotations

from dataclasses import dataclass, field

from rooms.access.capabilities import Capability
from rooms.errors import ChatError, Code

ANY_CLIENT = "*"

Source = tuple[str, int]  # a key's name, and which of its secrets, counted from 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """The key (`app.id:secret`) or token that a client showed, and the client id that it asked for."""

    key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    client_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """A client's identity and capability. `client_id` None: anonymous; "*": any. Times in seconds since the epoch.

    The other fields identify the credentials, so that revocations find the grant: the key and which of its secrets;
    of a token its id, its time of issue, the client id that it was issued to (only where `client_id` is "*") and its
    revocation key.
    """

    client_id: str | None
    capability: Capability
    key_name: str
    secret_version: int = 1
    token_id: str | None = None
    issued_at: float = 0.0
    issued_to: str | None = None
    revocation_key: str | None = None
    expires_at: float | None = None

    @property
    def source(self) -> Source:
        """The key and secret behind the grant: as few distinct values as there are secrets in use."""
        return self.key_name, self.secret_version

    def require(self, room: str, operation: str) -> None:
        """Raise ChatError 40160 unless the operation is allowed on the room."""
        if not self.capability.allows(room, operation):
            raise ChatError(
                Code.OPERATION_NOT_PERMITTED,
                f"The capability of this key or token does not allow {operation!r} on room {room!r}.",
            )

    def author_for(self, claimed: str | None) -> str | None:
        """Return the client id for a message that claims one. Raises ChatError 40012 for a claim outside the grant."""
        if claimed is None:
            return None if self.client_id == ANY_CLIENT else self.client_id
        if claimed in ("", ANY_CLIENT) or self.client_id not in (claimed, ANY_CLIENT):
            raise ChatError(
                Code.INVALID_CLIENT_ID, "The message names a client id that its key or token does not cover."
            )
        return claimed
