from __future__ import annotations

from django.apps import AppConfig


class ModerationConfig(AppConfig):
    """Reviewers that work here, and the people who moderate."""

    name = "moderation"
    verbose_name = "Moderation"
