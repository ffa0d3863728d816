"""The admin pages of API keys and used nonces."""

from __future__ import annotations

import json
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from integrations.access import keys
from integrations.admin.secrets import shown_once
from integrations.models import ApiKey, UsedNonce
from rooms.access.capabilities import Capability
from rooms.admin.cells import badge, code, column, moment_of, plural, shortened
from rooms.admin.filters import condition_filter
from rooms.admin.journey import Tone
from rooms.admin.tables import LargeTableAdmin, first, log
from rooms.admin.waterfall import duration
from rooms.errors import ChatError


class KeyForm(forms.ModelForm[ApiKey]):
    """The form of a new key."""

    capability = forms.CharField(
        initial='{"*": ["publish", "subscribe", "history"]}',
        help_text='Room pattern to operations, as JSON: {"lobby": ["subscribe"], "chat:*": ["*"]}.',
        widget=forms.Textarea(attrs={"rows": 4, "class": "vLargeTextField monospace", "spellcheck": "false"}),
    )

    class Meta:
        model = ApiKey
        fields = ("label",)

    def clean_capability(self) -> Capability:
        """Return the capability. Refuse an invalid one, and one that allows nothing."""
        try:
            capability = Capability.parse(self.cleaned_data["capability"])
        except ChatError as error:
            raise ValidationError(error.message) from None
        if capability.is_empty:
            raise ValidationError("A key without any operation could do nothing.")
        return capability


def state_of(key: ApiKey) -> SafeString:
    """Return the state of a key as a badge."""
    if key.revoked_at is not None:
        return badge("revoked", Tone.BAD)
    if key.former_secret_until is not None and key.former_secret_until > timezone.now():
        return badge("rotating", Tone.WAITING)
    return badge(key.purpose or "in use", Tone.GOOD)


@admin.register(ApiKey)
class ApiKeyAdmin(LargeTableAdmin):
    """The admin of API keys: creates, rotates and revokes them. A new key is shown once."""

    list_display = ("key_name", "label", "capability_text", "state", moment_of("created_at", "made"))
    list_filter = (
        condition_filter(
            "state", good=("In use", Q(revoked_at__isnull=True)), revoked=("Revoked", Q(revoked_at__isnull=False))
        ),
    )
    search_fields = ("key_id__exact", "label__istartswith")
    search_help_text = "The id of a key (the part after the dot), or the beginning of its label."
    fields = ("key_name", "label", "capability_text", "purpose", "created_at", "former_secret_until", "revoked_at")
    add_fields = ("label", "capability")
    form = KeyForm
    exclude = ("capability",)  # from what the form sets in a row: keys.create does
    by_form = ("add",)
    actions = ("rotate", "revoke")
    key_name = column("key", lambda key: format_html("<code>{}</code>", key.name))
    capability_text = column(
        "capability", lambda key: code(shortened(json.dumps(key.capability, ensure_ascii=False), 120))
    )
    state = column("state", state_of)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Create the key, and keep its text for `response_add`."""
        assert not change
        new = keys.create(form.cleaned_data["capability"], label=obj.label)
        obj.pk = new.row.pk
        obj.refresh_from_db()
        obj.text = new.text

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Show the new key, this once."""
        return shown_once(
            request,
            self,
            title="Your new key",
            advice="Copy it now. Nobody, not even this server's database, can show it again as it stands here.",
            secrets=[(obj.label or obj.name, obj.text)],
        )

    @admin.action(description="Give the selected keys a new secret", permissions=["act"])
    def rotate(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Rotate the secrets of keys, and show the new keys once."""
        chosen = list(ApiKey.objects.filter(pk__in=first(request, queryset), revoked_at__isnull=True))
        if not chosen:
            messages.warning(request, "Revoked keys get no new secret.")
            return None
        now = timezone.now()
        texts: list[tuple[str, str]] = []
        for key in chosen:
            try:
                texts.append((key.label or key.name, keys.rotate(key.name, now).text))
            except ChatError as error:  # the new secrets of the other keys must still be shown
                messages.warning(request, f"{key.name}: {error.message}")
                continue
            self.log_change(request, key, "New secret.")
        if not texts:
            return None
        overlap = duration(settings.API_KEY_OVERLAP_SECONDS * 1000)
        advice = f"Copy what is shown now. Former secrets, and tokens that they signed, are good for {overlap} more."
        return shown_once(
            request, self, title=f"New {'secret' if len(texts) == 1 else 'secrets'}", advice=advice, secrets=texts
        )

    @admin.action(description="Revoke the selected keys and all their tokens", permissions=["act"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Revoke keys."""
        chosen = ApiKey.objects.filter(pk__in=first(request, queryset))
        ending = [key for key in chosen if key.revoked_at is None]
        now = timezone.now()
        for key in ending:
            keys.revoke(key.name, now)
        log(request, ApiKey.objects.filter(pk__in=[key.pk for key in ending]), "Revoked.")
        messages.success(
            request, f"{plural(len(ending), 'key')} revoked; connections that use them end within a second."
        )


@admin.register(UsedNonce)
class UsedNonceAdmin(LargeTableAdmin):
    """The admin of the nonces of answered token requests."""

    list_display = ("nonce", "key", moment_of("expires_at", "expires"))
    list_select_related = ("key",)
    ordering = ("-id",)
    fields = ("nonce", "key", "expires_at")
