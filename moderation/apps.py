from __future__ import annotations

from django.apps import AppConfig


class ModerationConfig(AppConfig):
    """The app of word rules and of the moderators' queue of held messages."""

    name = "moderation"
    verbose_name = "Moderation"
