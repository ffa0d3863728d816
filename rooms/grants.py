"""Who a peer is and what it may do, as every operation is checked against it."""

from __future__ import annotations

from dataclasses import dataclass, field

from rooms.capabilities import Capability
from rooms.errors import ChatError, Code

ANY_CLIENT = "*"


@dataclass(frozen=True, kw_only=True, slots=True)
class Credentials:
    """What a peer showed: a key (`app.id:secret`) or a token, and the client id that it asked for."""

    key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    client_id: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Grant:
    """What the credentials allow. `client_id` None: anonymous; "*": any. `expires_at`: seconds since the epoch."""

    client_id: str | None
    capability: Capability
    key_name: str
    token_id: str | None = None
    expires_at: float | None = None

    def require(self, room: str, operation: str) -> None:
        """Raise ChatError 40160 unless the operation is allowed on the room."""
        if not self.capability.allows(room, operation):
            raise ChatError(
                Code.OPERATION_NOT_PERMITTED,
                f"The capability of this key or token does not allow {operation!r} on room {room!r}.",
            )

    def author_for(self, claimed: str | None) -> str | None:
        """Return the client id that a message gets. Raises ChatError 40012 where the claim is not covered."""
        if claimed is None:
            return None if self.client_id == ANY_CLIENT else self.client_id
        if claimed in ("", ANY_CLIENT) or self.client_id not in (claimed, ANY_CLIENT):
            raise ChatError(
                Code.INVALID_CLIENT_ID, "The message names a client id that its key or token does not cover."
            )
        return claimed
