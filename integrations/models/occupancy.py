"""The counts of rooms that rules were told last."""

from __future__ import annotations

from django.db import models


class RoomTold(models.Model):
    """The counts of an open room that rules were told last. Only integrations.events.occupancy_events writes it.

    A room without a row was told as closed. The row of room 0 stands for no room: its `told_at` is the time of the last
    comparison. No foreign key: a room may be deleted while it is open.
    """

    room_id = models.BigIntegerField(primary_key=True)
    connections = models.IntegerField(default=0)
    publishers = models.IntegerField(default=0)
    subscribers = models.IntegerField(default=0)
    presence_connections = models.IntegerField(default=0)
    presence_subscribers = models.IntegerField(default=0)
    told_at = models.DateTimeField()
    empty_since = models.DateTimeField(null=True, help_text="Nobody is there, but it may be a moment's interruption.")

    def __str__(self) -> str:
        return f"{self.connections} in room {self.room_id}"
