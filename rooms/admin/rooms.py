"""The admin pages of rooms."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, QuerySet, Subquery, Sum
from django.forms import ModelForm
from django.http import HttpRequest

from rooms.admin.cells import column, link, moment_of, quiet
from rooms.admin.tables import LargeTableAdmin
from rooms.errors import ChatError
from rooms.log import directory
from rooms.models import Room, RoomOccupancy
from rooms.occupancy import store


class RoomForm(ModelForm[Room]):
    """The form of a room's name and description."""

    def clean_name(self) -> str:
        """Return the name. Raises ValidationError for a name that clients could not use."""
        name = str(self.cleaned_data["name"])
        try:
            return directory.require_name(name)
        except ChatError as error:
            raise ValidationError(error.message) from None


@admin.register(Room)
class RoomAdmin(LargeTableAdmin):
    """The pages that make and describe rooms; only publishing writes their logs."""

    list_display = ("name", "title", "is_listed", "connections_now", "messages_link", moment_of("created_at", "made"))
    list_filter = ("listed",)
    search_fields = ("name__startswith",)
    search_help_text = "The beginning of a room's name."
    form = RoomForm
    by_form = ("add", "change")
    fields = ("name", "title", "description", "listed", "head", "epoch", "created_at")
    add_fields = ("name", "title", "description", "listed")
    readonly_fields = ("head", "epoch", "created_at")  # only publishing writes the log
    fixed_fields = ("name",)  # clients know a room by it
    allowed_lookups = ("listed__exact",)
    is_listed = column("listed", lambda room: room.listed, boolean=True)
    connections_now = column("connections now", lambda room: f"{room.connected:,}" if room.connected else quiet())
    messages_link = column(
        "log", lambda room: link("rooms_message_changelist", f"{room.head:,} entries", room=room.name)
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rooms; on the list with their connections, which cost one index scan for each row of the page."""
        counted = RoomOccupancy.objects.filter(store.is_alive("gateway__"), room_id=OuterRef("pk"))
        total = counted.order_by().values("room_id").annotate(total=Sum("connections")).values("total")
        rooms: QuerySet[Any] = super().get_queryset(request).annotate(connected=Subquery(total))
        return rooms

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Store only the fields that the form changed: `head` moves while the form is open."""
        if not change:
            obj.save()
        elif form.changed_data:
            obj.save(update_fields=form.changed_data)
