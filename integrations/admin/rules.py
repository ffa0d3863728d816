"""The admin pages of integration rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from integrations import rules
from integrations.admin.secrets import shown_once
from integrations.models import Delivery, DeliveryState, EventKind, IntegrationRule, When
from rooms import large_tables
from rooms.admin.tables import LargeTableAdmin, badge, first, log, plural, quiet
from rooms.errors import ChatError
from rooms.journey import Tone

WANTED = (
    "name", "events", "room_filter", "when", "order", "url", "enveloped", "batched", "headers", "budget_seconds",
    "at_deadline",
)  # fmt: skip
ADVICE = "Copy it now: the receiver checks our calls with it. If it is lost, make a new one."


class RuleForm(forms.ModelForm[IntegrationRule]):
    """A rule as somebody asks for it. integrations.rules judges it."""

    events = forms.MultipleChoiceField(
        choices=EventKind.choices, initial=[EventKind.MESSAGE], widget=forms.CheckboxSelectMultiple
    )

    class Meta:
        model = IntegrationRule
        fields = WANTED
        widgets = {
            "url": forms.TextInput(attrs={"class": "vLargeTextField", "placeholder": "https://"}),
            "headers": forms.Textarea(attrs={"rows": 3, "class": "vLargeTextField monospace"}),
            "room_filter": forms.TextInput(attrs={"class": "vTextField monospace", "placeholder": "^lobby$"}),
        }

    def clean_room_filter(self) -> str:
        """Refuse what is no regular expression."""
        return self._checked("room_filter", rules.check_filter)

    def clean_url(self) -> str:
        """Refuse addresses that must not be called."""
        return self._checked("url", rules.check_url)

    def clean_headers(self) -> dict[str, str]:
        """Refuse headers that cannot be sent."""
        headers = self.cleaned_data["headers"] or {}
        if not isinstance(headers, dict):
            raise ValidationError('The headers are a JSON object: {"x-team": "chat"}.')
        _judge(rules.check_headers, headers)
        return headers

    def clean(self) -> dict[str, Any]:
        """Let the rest be judged, once each field is right by itself."""
        cleaned = super().clean() or {}
        if not self.errors:
            _judge(rules.check, self.wanted())
        return cleaned

    def wanted(self) -> rules.Wanted:
        """Return what was asked for."""
        return rules.Wanted(**{field: self.cleaned_data[field] for field in WANTED})

    def _checked(self, field: str, check: Callable[[str], None]) -> str:
        value = str(self.cleaned_data[field])
        _judge(check, value)
        return value


def _judge(check: Callable[[Any], None], value: Any) -> None:
    try:
        check(value)
    except ChatError as error:
        raise ValidationError(error.message) from None


@admin.register(IntegrationRule)
class IntegrationRuleAdmin(LargeTableAdmin):
    """Rules are made, switched and removed here; a signing secret is shown once, when it is made."""

    list_display = (
        "name",
        "when_badge",
        "rooms",
        "target",
        "deliveries_link",
        "is_enabled",
    )
    list_filter = ("enabled", "when")
    allowed_lookups = ("enabled__exact", "when__exact")
    search_fields = ("name", "url")
    fields = (*WANTED, "enabled", "created_at", "changed_at")
    actions = ("enable", "disable", "rotate")

    # --- Making and removing ---

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever has the permission may make a rule."""
        return admin.ModelAdmin.has_add_permission(self, request)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Whoever has the permission may remove one, and what it owes."""
        return admin.ModelAdmin.has_delete_permission(self, request, obj)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return what is asked for a new rule, or all that there is to see."""
        return WANTED if obj is None else self.fields

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form of a new rule."""
        return super().get_form(request, obj, change=change, **({"form": RuleForm} if obj is None else {}), **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Make the rule, and keep its secret for the one answer."""
        assert not change
        row, secret = rules.add(form.wanted(), now=timezone.now())
        obj.pk = row.pk
        obj.refresh_from_db()
        obj.secret = secret

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Show the signing secret, once."""
        return shown_once(
            request, self, title="The signing secret of your new rule", advice=ADVICE, secrets=[(obj.name, obj.secret)]
        )

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return what is deleted, without reading a million deliveries to list them."""
        names = [f"Rule {rule.name}, with all its deliveries" for rule in objs]
        needed = set() if self.has_delete_permission(request) else {self.opts.verbose_name}
        return names, {self.opts.verbose_name_plural: len(names)}, needed, []

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Remove one rule."""
        rules.remove(obj.name, now=timezone.now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Remove the selected rules."""
        for rule in list(queryset):
            rules.remove(rule.name, now=timezone.now())

    # --- Showing ---

    @admin.display(description="when")
    def when_badge(self, rule: IntegrationRule) -> SafeString:
        """Whether it decides or only hears."""
        return badge(f"{rule.when} publish", Tone.WAITING if rule.when == When.BEFORE else Tone.PLAIN)

    @admin.display(description="rooms")
    def rooms(self, rule: IntegrationRule) -> SafeString:
        """Where it counts."""
        if rule.room_filter:
            return format_html("<code><bdi>{}</bdi></code>", rule.room_filter[:60])
        return quiet("every room")

    @admin.display(description="target")
    def target(self, rule: IntegrationRule) -> SafeString:
        """Where calls go; without the query string, which may hold a secret."""
        address = rule.url.partition("?")[0]
        return format_html('<span class="url"><bdi>{}</bdi></span>', address[:70] + ("…" if len(address) > 70 else ""))

    @admin.display(description="deliveries")
    def deliveries_link(self, rule: IntegrationRule) -> SafeString:
        """A link to what it owes, with the number of dead letters."""
        dead = large_tables.count_up_to(
            Delivery.objects.filter(state=DeliveryState.DEAD, rule=rule).order_by("-pk"), limit=99
        )
        address = reverse("admin:integrations_delivery_changelist", query={"rule__id__exact": rule.pk})
        link = format_html('<a href="{}">deliveries</a>', address)
        return format_html("{} {}", link, badge(f"{dead} dead", Tone.BAD)) if dead.number else link

    @admin.display(description="on", boolean=True)
    def is_enabled(self, rule: IntegrationRule) -> bool:
        """Whether it is asked."""
        return rule.enabled

    # --- Acting ---

    def has_switch_permission(self, request: HttpRequest) -> bool:
        """Whoever may change rules may switch them."""
        return request.user.has_perm("integrations.change_integrationrule")

    @admin.action(description="Turn the selected rules on", permissions=["switch"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Let rules be asked again."""
        self._switch(request, queryset, enabled=True)

    @admin.action(description="Turn the selected rules off", permissions=["switch"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Let rules rest."""
        self._switch(request, queryset, enabled=False)

    def _switch(self, request: HttpRequest, queryset: QuerySet[Any], *, enabled: bool) -> None:
        chosen = IntegrationRule.objects.filter(pk__in=first(request, queryset))
        names = list(chosen.exclude(enabled=enabled).values_list("name", flat=True))
        for name in names:
            rules.switch(name, enabled=enabled, now=timezone.now())
        word = "on" if enabled else "off"
        log(request, chosen, f"Turned {word}.")
        messages.success(request, f"{plural(len(names), 'rule')} turned {word}.")

    @admin.action(description="Give the selected rules a new signing secret", permissions=["switch"])
    def rotate(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse:
        """Replace secrets, and show the new ones once."""
        chosen = IntegrationRule.objects.filter(pk__in=first(request, queryset))
        secrets = [(rule.name, rules.rotate_secret(rule.name, now=timezone.now())) for rule in chosen]
        log(request, chosen, "New signing secret.")
        return shown_once(request, self, title="New signing secrets", advice=ADVICE, secrets=secrets)
