"""The admin page of authors' trust: what a rule's policy at the deadline may depend on."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from integrations.models import AuthorTrust, Trust
from integrations.review import author_trust
from rooms.admin.journey import Tone
from rooms.admin.tables import LargeTableAdmin, badge, moment_of

TRUST_TONES = {Trust.NEW: Tone.WAITING, Trust.KNOWN: Tone.PLAIN, Trust.TRUSTED: Tone.GOOD}


@admin.register(AuthorTrust)
class AuthorTrustAdmin(LargeTableAdmin):
    """What a moderator says of authors. Of all others the messages that were published lately decide."""

    list_display = ("who", "trust_badge", "note", moment_of("changed_at", "since"))
    list_filter = ("trust",)
    allowed_lookups = ("trust__exact",)
    search_fields = ("client_id__startswith",)
    search_help_text = "The beginning of a client id."
    fields = ("client_id", "trust", "note")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever has the permission may trust somebody."""
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever has the permission may change their mind."""
        return admin.ModelAdmin.has_change_permission(self, request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever has the permission may let the messages decide again."""
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """Return what cannot change: of whom it is said."""
        return () if obj is None else ("client_id",)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Say it."""
        author_trust.set_trust(obj.client_id, Trust(obj.trust), note=obj.note, now=timezone.now())
        obj.pk = AuthorTrust.objects.values_list("pk", flat=True).get(client_id=obj.client_id)

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Take it back."""
        author_trust.set_trust(obj.client_id, None, now=timezone.now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Take back what was said of several."""
        for author in list(queryset):
            self.delete_model(request, author)

    @admin.display(description="client id")
    def who(self, author: AuthorTrust) -> SafeString:
        """Of whom it is said."""
        return format_html("<bdi>{}</bdi>", author.client_id[:80])

    @admin.display(description="trust")
    def trust_badge(self, author: AuthorTrust) -> SafeString:
        """How far."""
        return badge(author.get_trust_display(), TRUST_TONES[Trust(author.trust)])
