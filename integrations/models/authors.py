"""How far authors are trusted."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class Trust(models.TextChoices):
    """What a rule's policy at the deadline may depend on."""

    NEW = "new", "new here"
    KNOWN = "known", "has published before"
    TRUSTED = "trusted", "trusted by a moderator"


class AuthorTrust(models.Model):
    """What a moderator says of an author. Without a row an author is known after TRUST_KNOWN_MESSAGES, new before."""

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
