"""Issues the tokens of people on this server's own page: for their client id, and the listed rooms."""

from __future__ import annotations

from datetime import datetime

from django.conf import settings

from integrations.access import keys, opaque_tokens
from integrations.access.tokens import TokenDetails
from rooms.access.capabilities import Capability
from rooms.access.grants import ANY_CLIENT
from rooms.errors import ChatError, Code
from rooms.models import Room

OPERATIONS = frozenset(
    {
        "publish", "subscribe", "history", "presence", "channel-metadata",
        "annotation-publish", "annotation-subscribe",
        "message-update-own", "message-delete-own",
    }
)  # fmt: skip
# A token is part of the WebSocket's URL, so the number of rooms is bounded. The page lists them in the same order.
MAX_ROOMS = 200
MAX_NAME_BYTES = 6_000


def issue_for(client_id: str, *, is_staff: bool, now: datetime) -> TokenDetails:
    """Issue the token of a person on the page. Raises ChatError 40012, 40300 if no room is listed yet."""
    if client_id == ANY_CLIENT:
        raise ChatError(Code.INVALID_CLIENT_ID, 'Nobody can be called "*". Pick another name.')
    capability = Capability({"*": OPERATIONS}) if is_staff else listed_rooms()
    if capability.is_empty:
        raise ChatError(Code.FORBIDDEN, "No room is open to you yet. An administrator lists rooms in the admin.")
    return opaque_tokens.issue(
        keys.page_key(),
        capability=capability,
        client_id=client_id,
        issued=int(now.timestamp() * 1000),
        life=min(settings.TOKEN_TTL_SECONDS, settings.TOKEN_MAX_TTL_SECONDS) * 1000,
    )


def listed_rooms() -> Capability:
    """Return the capability to chat in the listed rooms."""
    rooms = Room.objects.filter(listed=True).order_by("title", "name").values_list("name", flat=True)[:MAX_ROOMS]
    patterns: dict[str, frozenset[str]] = {}
    left = MAX_NAME_BYTES
    for name in rooms:
        left -= len(name.encode())
        if left < 0:
            break
        # In a capability such a name would be a pattern for other rooms too.
        if "*" not in name and not name.startswith("["):
            patterns[name] = OPERATIONS
    return Capability(patterns)
