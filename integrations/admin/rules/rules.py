"""The admin list of integration rules with their figures, and its actions."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from integrations.admin.deliveries.request_view import address_of
from integrations.admin.rules.form import GROUPS, RuleForm, shown_fields
from integrations.admin.rules.overview import calls_by_minute, overlap_text, owed, rate, share, sparkline, success_tone
from integrations.admin.rules.pages import RulePages
from integrations.admin.secrets import shown_once
from integrations.admin.tones import BREAKER_TONES, kind_of
from integrations.models import IntegrationRule
from integrations.monitoring import figures
from integrations.monitoring.figures import RuleFigures
from integrations.rules import rules
from rooms.admin.cells import badge, column, link, plural, quiet, shortened
from rooms.admin.journey import Tone
from rooms.admin.tables import first, log
from rooms.admin.waterfall import duration
from rooms.errors import ChatError

ADVICE = "Copy it now: the receiver checks our calls with it. If it is lost, make a new one."


def target_of(rule: IntegrationRule) -> SafeString:
    """Return the address of the target without the query string, which may hold a secret, and the rooms."""
    asked = "as its main rule" if rule.is_shadow else rule.room_filter[:40] or "every room"
    address = shortened(address_of(rule), 60)
    return format_html('<span class="url"><bdi>{}</bdi></span><small><bdi>{}</bdi></small>', address, asked)


def success_of(rule: Any) -> SafeString:
    """Return the breaker of a rule if it is not closed, else the share of successful calls."""
    found: RuleFigures = rule.figures
    if found.throttle.is_open:
        return badge(f"breaker {found.throttle.breaker}", BREAKER_TONES[found.throttle.breaker])
    success = found.recent.success
    return quiet("no calls") if success is None else badge(share(success), success_tone(success))


def calls_of(rule: Any) -> SafeString:
    """Return a chart of the calls of the last hour, their rate, and their duration."""
    recent = rule.figures.recent
    slow = "" if recent.p95 is None else f", p95 {duration(recent.p95)}"
    chart = sparkline(rule.figures, rule.calls_by_minute)
    return format_html("{}<small>{} a second{}</small>", chart, rate(recent.calls_per_second), slow)


def backlog_of(rule: Any) -> SafeString:
    """Return the size of the backlog with a link to it, and the number of dead letters."""
    found = rule.figures.backlog
    size = link("integrations_delivery_changelist", owed(found), rule__id__exact=rule.pk)
    return format_html("{} {}", size, badge(f"{found.dead:,} dead", Tone.BAD)) if found.dead else size


@admin.register(IntegrationRule)
class IntegrationRuleAdmin(RulePages):
    """The admin of rules: creates, switches and removes them. A new signing secret is shown once."""

    list_display = ("title", "target_text", "success", "calls", "backlog", "is_enabled")
    list_filter = ("enabled", "when")
    allowed_lookups = ("enabled__exact", "when__exact")
    search_fields = ("name", "url", "function")
    actions = ("enable", "disable", "rotate")
    by_form = ("add", "delete")  # RulePages allows edits too
    change_form_template = "admin/rule.html"
    add_form_template = "admin/rule_form.html"
    title = column("rule", lambda rule: format_html("<bdi>{}</bdi><small>{}</small>", rule.name, kind_of(rule)))
    target_text = column("target", target_of)
    success = column("succeeded", success_of)
    calls = column("calls, last hour", calls_of)
    backlog = column("owed", backlog_of)
    is_enabled = column("on", lambda rule: rule.enabled, boolean=True)

    # --- Making and removing ---

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Return the groups of the form; on the overview folded, and without credentials."""
        if obj is not None and not self.is_edited(request):
            return [
                ("All settings", {"classes": ("collapse",), "fields": (*shown_fields(), "created_at", "changed_at")})
            ]
        absent = {"forget_credentials"} if obj is None else set()
        return [
            (title, {"description": text, "fields": [field for field in names if field not in absent]})
            for title, text, names in GROUPS
        ]

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        """Return the form of a rule; the overview needs none."""
        if obj is None or self.is_edited(request):
            kwargs["form"] = RuleForm
        return super().get_form(request, obj, change=change, **kwargs)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Create or change the rule. The secret of a new one is kept for `response_add`."""
        now = timezone.now()
        if change:
            rules.edit(form.initial["name"], form.spec(), now=now)
        else:
            row, secret = rules.add(form.spec(), now=now)
            obj.pk = row.pk
            obj.secret = secret
        said = form.cleaned_data
        if said.get("forget_credentials"):
            rules.forget_credentials(form.spec().name, now=now)
        elif said.get("secret_access_key"):
            keys = {name: said[name] for name in ("access_key_id", "secret_access_key")}
            rules.store_credentials(form.spec().name, **keys, now=now)
        secret = getattr(obj, "secret", "")
        obj.refresh_from_db()
        obj.secret = secret

    def response_change(self, request: HttpRequest, obj: Any) -> HttpResponse:
        """Go back to the rule's overview."""
        messages.success(request, "Saved. Workers and gateways follow within a second.")
        return redirect("admin:integrations_integrationrule_change", obj.pk)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        """Show the signing secret of the new rule, this once."""
        return shown_once(
            request, self, title="The signing secret of your new rule", advice=ADVICE, secrets=[(obj.name, obj.secret)]
        )

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> Any:
        """Return the objects that a removal deletes, without listing deliveries: there may be a million."""
        names = []
        for rule in objs:
            names.append(f"Rule {rule.name}, with all its deliveries")
            names += [
                f"its shadow {name}, with all its deliveries" for name in rule.shadows.values_list("name", flat=True)
            ]
        needed = set() if self.has_delete_permission(request) else {self.opts.verbose_name}
        return names, {self.opts.verbose_name_plural: len(names)}, needed, []

    def delete_model(self, request: HttpRequest, obj: Any) -> None:
        """Remove one rule."""
        rules.remove(obj.name, now=timezone.now())

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Remove the selected rules."""
        chosen = set(queryset.values_list("pk", flat=True))
        # A shadow is removed with its main rule.
        for rule in list(queryset):
            if rule.shadow_of_id not in chosen:
                rules.remove(rule.name, now=timezone.now())

    # --- Showing ---

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list with the figures of each rule; two more queries for all of them."""
        found = super().get_changelist_instance(request)
        now = timezone.now()
        found.result_list = list(found.result_list)
        of_rule = {one.rule.pk: one for one in figures.of_rules(now=now)}
        minutes = calls_by_minute([rule.pk for rule in found.result_list], now)
        for rule in found.result_list:
            rule.figures, rule.calls_by_minute = of_rule[rule.pk], minutes[rule.pk]
        return found

    # --- Acting ---

    @admin.action(description="Turn the selected rules on", permissions=["act"])
    def enable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Turn rules on."""
        self._switch(request, queryset, enabled=True)

    @admin.action(description="Turn the selected rules off", permissions=["act"])
    def disable(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Turn rules off."""
        self._switch(request, queryset, enabled=False)

    def _switch(self, request: HttpRequest, queryset: QuerySet[Any], *, enabled: bool) -> None:
        chosen = IntegrationRule.objects.filter(pk__in=first(request, queryset))
        names = list(chosen.exclude(enabled=enabled).values_list("name", flat=True))
        for name in names:
            rules.switch(name, enabled=enabled, now=timezone.now())
        word = "on" if enabled else "off"
        log(request, chosen, f"Turned {word}.")
        messages.success(request, f"{plural(len(names), 'rule')} turned {word}.")

    @admin.action(description="Give the selected rules a new signing secret", permissions=["act"])
    def rotate(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        """Rotate the signing secrets of rules, and show the new ones once."""
        secrets: list[tuple[str, str]] = []
        for rule in IntegrationRule.objects.filter(pk__in=first(request, queryset)):
            try:
                secrets.append((rule.name, rules.rotate_secret(rule.name, now=timezone.now())))
            except ChatError as error:  # the new secrets of the other rules must still be shown
                messages.warning(request, error.message)
        log(request, IntegrationRule.objects.filter(name__in=[name for name, _ in secrets]), "New signing secret.")
        if not secrets:
            return None
        both = f"{ADVICE} Calls carry signatures by the former secret too, for {overlap_text()}."
        return shown_once(
            request,
            self,
            title=f"New signing {'secret' if len(secrets) == 1 else 'secrets'}",
            advice=both,
            secrets=secrets,
        )
