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
    """Rooms can be made and described here; their logs are written by publishing."""

    list_display = ("name", "title", "is_listed", "connections_now", "messages_link", moment_of("created_at", "made"))
    list_filter = ("listed",)
    search_fields = ("name__startswith",)
    search_help_text = "The beginning of a room's name."
    fields = ("name", "title", "description", "listed", "head", "epoch", "created_at")
    allowed_lookups = ("listed__exact",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the rooms; on the list each with its connections, by an index scan a row of the page."""
        counted = RoomOccupancy.objects.filter(store.is_alive("gateway__"), room_id=OuterRef("pk"))
        total = counted.order_by().values("room_id").annotate(total=Sum("connections")).values("total")
        rooms: QuerySet[Any] = super().get_queryset(request).annotate(connected=Subquery(total))
        return rooms

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever has the permission may make a room; using one for the first time makes it too."""
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Title, description and listing are nobody's state."""
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Return the log's own fields, and the name, under which clients know the room."""
        return ("head", "epoch", "created_at") if obj is None else ("name", "head", "epoch", "created_at")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return what there is to say of a room that does not exist yet, or all."""
        return self.fields[:4] if obj is None else self.fields

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return a form that refuses names which no client could use."""
        return super().get_form(request, obj, change=change, form=RoomForm, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Write what the form changed, and not `head`, which moves while the form is open."""
        if not change:
            obj.save()
        elif form.changed_data:
            obj.save(update_fields=form.changed_data)

    @admin.display(description="listed", boolean=True)
    def is_listed(self, room: Room) -> bool:
        """Whether the page shows it."""
        return room.listed

    @admin.display(description="connections now")
    def connections_now(self, room: Any) -> str | SafeString:
        """How many are attached to it, in all gateways together."""
        return f"{room.connected:,}" if room.connected else quiet("-")

    @admin.display(description="log")
    def messages_link(self, room: Room) -> SafeString:
        """How far the log reaches, and a link to it."""
        address = reverse("admin:rooms_message_changelist", query={"room": room.name})
        return format_html('<a href="{}">{} entries</a>', address, f"{room.head:,}")


class RoomForm(ModelForm[Room]):
    """A room as an administrator describes it."""

    def clean_name(self) -> str:
        """Return the name. Refuse one that the wire would refuse."""
        name = str(self.cleaned_data["name"])
        try:
            return directory.require_name(name)
        except ChatError as error:
            raise ValidationError(error.message) from None
