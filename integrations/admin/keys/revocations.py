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
from django.utils.html import format_html
from django.utils.safestring import SafeString

from integrations.access import revocations
from integrations.access.revocations import RevocationTarget
from integrations.models import ApiKey, Revocation
from rooms.admin.journey import Tone
from rooms.admin.tables import LargeTableAdmin, actor, badge, moment_of, said
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

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        key = self.fields["key"]
        assert isinstance(key, forms.ModelChoiceField)
        key.required = False
        key.empty_label = "Every key"
        key.queryset = ApiKey.objects.filter(revoked_at__isnull=True)

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

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the user may revoke tokens."""
        return admin.ModelAdmin.has_add_permission(self, request)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the fields of the form, or all fields of an existing revocation."""
        return ("subject", "value", "key") if obj is None else self.fields

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form of a new revocation."""
        if obj is None:
            kwargs["form"] = RevocationForm
        return super().get_form(request, obj, change=change, **kwargs)

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

    @admin.display(description="whose tokens")
    def who(self, revocation: Revocation) -> SafeString:
        """The value that names the tokens: a client id, token id, revocation key or room."""
        return said(revocation.value[:80])

    @admin.display(description="kind")
    def kind(self, revocation: Revocation) -> SafeString:
        """The kind of the value as a badge."""
        return badge(revocation.subject, Tone.PLAIN)

    @admin.display(description="kept until")
    def ends(self, revocation: Revocation) -> SafeString:
        """When the last token that the revocation can end expires."""
        return format_html("{}", moment_of("expires_at", "")(revocation))

    @admin.display(description="by")
    def by(self, revocation: Revocation) -> str:
        """Who revoked the tokens."""
        return revocation.created_by or "the API"
