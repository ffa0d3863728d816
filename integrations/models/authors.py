"""The trust that moderators set for authors."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Trust(models.TextChoices):
    """How far an author is trusted. A rule can have another policy for the deadline for each."""

    NEW = "new", "new here"
    KNOWN = "known", "has published before"
    TRUSTED = "trusted", "trusted by a moderator"


class AuthorTrust(models.Model):
    """The trust set by a moderator. An author without a row is known after TRUST_KNOWN_MESSAGES, and new before."""

    client_id = models.CharField(max_length=255, unique=True)
    trust = models.CharField(max_length=7, choices=Trust)
    note = models.CharField(max_length=200, blank=True)
    changed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("client_id",)
        verbose_name = "author's trust"
        verbose_name_plural = "authors' trust"

    def __str__(self) -> str:
        return self.client_id
