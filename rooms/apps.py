from __future__ import annotations

from django.apps import AppConfig


class RoomsConfig(AppConfig):
    """Rooms, their logs, and the sockets of their members."""

    name = "rooms"
    verbose_name = "Rooms"
