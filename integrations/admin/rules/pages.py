"""The views of one rule: overview, form, test event, replay, and the comparison of a shadow with its main rule."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest
from django.http.response import HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path
from django.utils import timezone

from integrations.admin.rules.comparison import comparison_context
from integrations.admin.rules.overview import context_of
from integrations.admin.rules.replay import MOST, ReplayForm, replay
from integrations.admin.rules.trials import TestEventForm, send
from integrations.models import IntegrationRule
from rooms.admin.cells import plural
from rooms.admin.tables import LargeTableAdmin
from rooms.errors import ChatError


class RulePages(LargeTableAdmin):
    """The pages of one rule, as a base class of the rules' admin."""

    # --- Permissions ---

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Return whether the request may edit: only on the form's page; Django's "change" page shows the overview."""
        return self.is_edited(request) and self.has_act_permission(request)

    def is_edited(self, request: HttpRequest) -> bool:
        """Return whether the request is for the form."""
        match = request.resolver_match
        return match is not None and match.url_name == f"{self.opts.app_label}_{self.opts.model_name}_edit"

    # --- Showing ---

    def get_urls(self) -> Any:
        """Add the URLs of a rule's pages."""
        pages = {
            "edit": self.edit_view, "test": self.test_view, "replay": self.replay_view, "compare": self.compare_view,
        }  # fmt: skip
        name = f"{self.opts.app_label}_{self.opts.model_name}"
        own = [
            path(f"<path:object_id>/{word}/", self.admin_site.admin_view(view), name=f"{name}_{word}")
            for word, view in pages.items()
        ]
        return own + super().get_urls()

    def page_context(self, request: HttpRequest, row: IntegrationRule) -> dict[str, Any]:
        """Return what the overview of a rule shows; its form shows nothing else."""
        if self.is_edited(request):
            return {}
        hours = 24 if request.GET.get("hours") == "24" else 1
        may_look = request.user.has_perm("integrations.view_delivery")
        context = context_of(row, now=timezone.now(), hours=hours, with_deliveries=may_look)
        return context | {"title": row.name, "subtitle": None, "may_change": self.has_act_permission(request)}

    def changeform_view(
        self,
        request: HttpRequest,
        object_id: str | None = None,
        form_url: str = "",
        extra_context: dict[str, Any] | None = None,
    ) -> HttpResponse:
        """Show or accept a form. If a change became invalid since the check, show the error and change nothing."""
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except ChatError as error:
            messages.error(request, error.message)
            return redirect(request.path)

    def edit_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show and accept the form of a rule."""
        if not self.has_act_permission(request):
            raise PermissionDenied
        context = {"title": "Edit rule", "show_save_and_continue": False, "show_save_and_add_another": False}
        response = self.changeform_view(request, object_id, "", context)
        if isinstance(response, TemplateResponse):
            response.template_name = "admin/rule_form.html"
        return response

    def test_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Call the target with a test event, and show the answer."""
        rule = self._rule_to_change(request, object_id)
        form = TestEventForm(rule, request.POST or None)
        trial = None
        if request.method == "POST" and form.is_valid():
            trial = send(rule, form.cleaned_data, now=timezone.now(), may_call=True)
            self.log_change(request, rule, "Test event sent.")
        return self._page(request, "admin/rule_test.html", rule, title="Send a test event", form=form, trial=trial)

    def replay_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Resend the deliveries of a query."""
        rule = self._rule_to_change(request, object_id)
        if not request.user.has_perm("integrations.change_delivery"):
            raise PermissionDenied
        form = ReplayForm(rule, request.POST or None)
        if request.method == "POST" and form.is_valid():
            replayed = replay(rule, form.cleaned_data, now=timezone.now())
            self.log_change(request, rule, f"Replayed {replayed:,} deliveries.")
            messages.success(request, f"{plural(replayed, 'delivery')} on the way again, in their old order.")
            if replayed >= MOST:
                messages.warning(request, f"These were the oldest {MOST:,}. Do it again for the next ones.")
            return redirect("admin:integrations_integrationrule_change", rule.pk)
        return self._page(request, "admin/rule_replay.html", rule, title="Replay", form=form)

    def compare_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the comparison of a shadow rule with its main rule."""
        rule = self.get_object(request, object_id)
        if rule is None or not rule.is_shadow:
            raise Http404("There is no such shadow rule.")
        if not self.has_view_permission(request, rule) or not request.user.has_perm("rooms.view_message"):
            raise PermissionDenied
        return self._page(
            request, "admin/rule_compare.html", rule, title="Shadow and main rule", **comparison_context(rule)
        )

    def _rule_to_change(self, request: HttpRequest, object_id: str) -> IntegrationRule:
        rule = self.get_object(request, object_id)
        if rule is None:
            raise Http404("There is no such rule.")
        if not self.has_act_permission(request):
            raise PermissionDenied
        assert isinstance(rule, IntegrationRule)
        return rule

    def _page(self, request: HttpRequest, template: str, rule: IntegrationRule, **context: Any) -> HttpResponse:
        shared = {**self.admin_site.each_context(request), "opts": self.opts, "rule": rule}
        # The page may show messages and signatures.
        return TemplateResponse(request, template, {**shared, **context}, headers={"Cache-Control": "no-store"})
