"""The admin page of authors' trust, on which a rule's policy for the deadline may depend."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from integrations.models import AuthorTrust, Trust
from integrations.review import author_trust
from rooms.admin.cells import badge, column, isolated, moment_of
from rooms.admin.journey import Tone
from rooms.admin.tables import LargeTableAdmin

TRUST_TONES = {Trust.NEW: Tone.WAITING, Trust.KNOWN: Tone.PLAIN, Trust.TRUSTED: Tone.GOOD}


@admin.register(AuthorTrust)
class AuthorTrustAdmin(LargeTableAdmin):
    """The admin of trust set by moderators. The trust of other authors follows from their published messages."""

    list_display = ("who", "trust_badge", "note", moment_of("changed_at", "since"))
    list_filter = ("trust",)
    allowed_lookups = ("trust__exact",)
    search_fields = ("client_id__startswith",)
    search_help_text = "The beginning of a client id."
    by_form = ("add", "change", "delete")
    fields = ("client_id", "trust", "note")
    fixed_fields = ("client_id",)
    who = column("client id", lambda author: isolated(author.client_id[:80]))
    trust_badge = column("trust", lambda author: badge(author.get_trust_display(), TRUST_TONES[Trust(author.trust)]))

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Store the trust of an author."""
        author_trust.set_trust(obj.client_id, Trust(obj.trust), note=obj.note, now=timezone.now())
        obj.pk = AuthorTrust.objects.values_list("pk", flat=True).get(client_id=obj.client_id)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Delete the trust of an author."""
        author_trust.set_trust(obj.client_id, None, now=timezone.now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Delete the trust of several authors."""
        for author in list(queryset):
            self.delete_model(request, author)
