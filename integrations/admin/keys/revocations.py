"""The admin page of revocations, with a form that revokes tokens."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.http.response import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone

from integrations.access import revocations
from integrations.access.revocations import RevocationTarget
from integrations.models import ApiKey, Revocation
from rooms.admin.cells import badge, column, moment, moment_of, said
from rooms.admin.journey import Tone
from rooms.admin.tables import LargeTableAdmin, actor
from rooms.errors import ChatError


class RevocationForm(forms.ModelForm[Revocation]):
    """The form of a revocation: which tokens to revoke."""

    class Meta:
        model = Revocation
        fields = ("subject", "value", "key")
        labels = {"subject": "End", "value": "Named", "key": "Signed by"}
        help_texts = {
            "value": "The client id, token id, revocation key or room.",
            "key": "The key whose tokens these are. Empty: of every key that is in use.",
        }

    def clean(self) -> dict[str, Any]:
        """Refuse invalid targets."""
        cleaned = super().clean() or {}
        if not self.errors:
            try:
                cleaned["target"] = RevocationTarget.parse(f"{cleaned['subject']}:{cleaned['value']}")
            except ChatError as error:
                raise ValidationError(error.message) from None
        return cleaned

    def _post_clean(self) -> None:
        """Do nothing: revocations.revoke creates the rows, and the form may have no key."""


@admin.register(Revocation)
class RevocationAdmin(LargeTableAdmin):
    """The admin of revocations. The command and the REST API write them too; they cannot be undone."""

    list_display = ("who", "kind", "key", moment_of("issued_before", "issued before"), "ends", "by")
    list_display_links = ("who",)
    list_select_related = ("key",)
    search_fields = ("key__key_id__exact",)
    search_help_text = "The id of a key (the part after the dot)."
    fields = ("subject", "value", "key", "issued_before", "applies_at", "expires_at", "created_at", "created_by")
    add_fields = ("subject", "value", "key")
    by_form = ("add",)
    who = column("whose tokens", lambda one: said(one.value[:80]))
    kind = column("kind", lambda one: badge(one.subject, Tone.PLAIN))
    ends = column("kept until", lambda one: moment(one.expires_at))
    by = column("by", lambda one: one.created_by or "the API")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form of a new revocation, whose labels are a sentence."""
        form = RevocationForm if obj is None else self.form
        return super().get_form(request, obj, change=change, form=form, **kwargs)

    def formfield_for_foreignkey(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        """Return the field of the key: one that is in use, or none for all of them."""
        kwargs |= {"queryset": ApiKey.objects.filter(revoked_at__isnull=True), "required": False}
        return super().formfield_for_foreignkey(db_field, request, empty_label="Every key", **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Write the revocation, for one key or for all keys."""
        said, now = form.cleaned_data, timezone.now()
        try:
            if said["key"] is None:
                rows = revocations.revoke_everywhere([said["target"]], now=now, by=actor(request))
            else:
                rows = revocations.revoke(said["key"], [said["target"]], now=now, by=actor(request))
        except ChatError as error:
            messages.error(request, error.message)
            return
        if rows:
            obj.__dict__.update(rows[0].__dict__)

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        """Log the addition, unless nothing was revoked."""
        return super().log_addition(request, obj, message) if obj.pk else None

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Show a message about the effect, and go back to the list."""
        if obj.pk:
            messages.success(request, "Revoked. Connections that use such tokens end within a second, everywhere.")
        return redirect("admin:integrations_revocation_changelist")
