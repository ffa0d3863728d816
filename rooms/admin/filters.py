"""The filters of the pages of messages."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from rooms.admin.tables import TextFilter
from rooms.models import MessageAction, Room, Status


class RoomFilter(TextFilter):
    """Filters messages by their room."""

    title = "room"
    parameter_name = "room"
    placeholder = "exact name"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of the room with the chosen name; none if there is no such room."""
        name = self.value()
        if not name:
            return queryset
        # The room is looked up first, so that the planner knows how busy it is.
        room = Room.objects.filter(name=name).values_list("pk", flat=True).first()
        return queryset.none() if room is None else queryset.filter(room_id=room)


class StatusFilter(admin.SimpleListFilter):
    """Filters messages by status. Each choice has an index, or holds for most messages."""

    title = "status"
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [
            ("waiting", "Waiting for a verdict"),
            ("held", "Held for a moderator"),
            ("published", "Published"),
            ("rejected", "Rejected"),
            ("edited", "Edited"),
            ("hidden", "Hidden"),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the rows of the choice."""
        conditions: dict[str, dict[str, Any]] = {
            "waiting": {"status__in": [Status.ACCEPTED, Status.APPROVED]},
            "held": {"status": Status.HELD},
            "published": {"status": Status.PUBLISHED},
            "rejected": {"status": Status.REJECTED},
            "edited": {"action": MessageAction.UPDATE, "action__gt": 0},
            "hidden": {"action": MessageAction.DELETE, "action__gt": 0},
        }
        return queryset.filter(**conditions.get(self.value() or "", {}))
