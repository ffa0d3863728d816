"""The admin pages of rooms and messages. They make changes only through the functions of the log and the review."""

from __future__ import annotations

from rooms.admin.gateways import GatewayAdmin
from rooms.admin.history import MessageVersionAdmin, VerdictAdmin
from rooms.admin.messages import MessageAdmin
from rooms.admin.rooms import RoomAdmin

__all__ = ["GatewayAdmin", "MessageAdmin", "MessageVersionAdmin", "RoomAdmin", "VerdictAdmin"]
