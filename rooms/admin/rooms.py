"""The admin pages of rooms."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import OuterRef, QuerySet, Subquery, Sum
from django.forms import ModelForm
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from rooms.admin.tables import LargeTableAdmin, moment_of, quiet
from rooms.errors import ChatError
from rooms.log import directory
from rooms.models import Room, RoomOccupancy
from rooms.occupancy import store


@admin.register(Room)
class RoomAdmin(LargeTableAdmin):
    """The pages that make and describe rooms; only publishing writes their logs."""

    list_display = ("name", "title", "is_listed", "connections_now", "messages_link", moment_of("created_at", "made"))
    list_filter = ("listed",)
    search_fields = ("name__startswith",)
    search_help_text = "The beginning of a room's name."
    fields = ("name", "title", "description", "listed", "head", "epoch", "created_at")
    allowed_lookups = ("listed__exact",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rooms; on the list with their connections, which cost one index scan for each row of the page."""
        counted = RoomOccupancy.objects.filter(store.is_alive("gateway__"), room_id=OuterRef("pk"))
        total = counted.order_by().values("room_id").annotate(total=Sum("connections")).values("total")
        rooms: QuerySet[Any] = super().get_queryset(request).annotate(connected=Subquery(total))
        return rooms

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user has the permission to make rooms."""
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may change title, description and listing, which no other code changes."""
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Return the fields of the log, and the name of a room that exists: clients know it by that."""
        return ("head", "epoch", "created_at") if obj is None else ("name", "head", "epoch", "created_at")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return all fields, or those of a room that does not exist yet."""
        return self.fields[:4] if obj is None else self.fields

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form that refuses invalid names."""
        return super().get_form(request, obj, change=change, form=RoomForm, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Store only the fields that the form changed: `head` moves while the form is open."""
        if not change:
            obj.save()
        elif form.changed_data:
            obj.save(update_fields=form.changed_data)

    @admin.display(description="listed", boolean=True)
    def is_listed(self, room: Room) -> bool:
        """Whether the page lists the room."""
        return room.listed

    @admin.display(description="connections now")
    def connections_now(self, room: Any) -> str | SafeString:
        """The number of connections attached to the room, over all gateways."""
        return f"{room.connected:,}" if room.connected else quiet("-")

    @admin.display(description="log")
    def messages_link(self, room: Room) -> SafeString:
        """The head of the log, as a link to the messages."""
        address = reverse("admin:rooms_message_changelist", query={"room": room.name})
        return format_html('<a href="{}">{} entries</a>', address, f"{room.head:,}")


class RoomForm(ModelForm[Room]):
    """The form of a room's name and description."""

    def clean_name(self) -> str:
        """Return the name. Raises ValidationError for a name that clients could not use."""
        name = str(self.cleaned_data["name"])
        try:
            return directory.require_name(name)
        except ChatError as error:
            raise ValidationError(error.message) from None
