"""The admin pages of workers and notices."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponse
from django.shortcuts import redirect
from django.urls import path
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from integrations.admin.tones import NOTICE_TONES
from integrations.models import Notice, WorkerProcess
from integrations.monitoring import figures, notices
from rooms.admin.cells import badge, column, isolated, link, moment_of, plural, quiet, said
from rooms.admin.filters import condition_filter
from rooms.admin.journey import Tone
from rooms.admin.tables import LargeTableAdmin, actor, first


def process_of(worker: WorkerProcess) -> SafeString:
    """Return the worker's host and process, and its name in attempts."""
    machine = worker.host.partition(" ")[0]  # after it: the number of the container
    return format_html("<bdi>{}</bdi>, process {} <small>{}</small>", machine, worker.pid, worker.name)


def state_of(worker: Any) -> SafeString:
    """Return whether a worker is alive, as a badge."""
    found = worker.figures
    if found is not None and found.is_alive:
        return badge("alive", Tone.GOOD)
    return badge(f"silent for {found.silent_seconds:,.0f} s" if found else "gone", Tone.BAD)


def breakers_of(worker: Any) -> SafeString:
    """Return the number of rules whose breaker is open in a worker."""
    count = worker.figures.open_breakers if worker.figures else 0
    return badge(str(count), Tone.BAD) if count else quiet()


@admin.register(WorkerProcess)
class WorkerAdmin(LargeTableAdmin):
    """The admin of workers, which report each second that they are alive."""

    list_display = (
        "process", "state", "calls", "breakers", moment_of("started_at", "since"), moment_of("seen_at", "seen"),
    )  # fmt: skip
    list_display_links = None
    ordering = ("host", "pid")
    process = column("worker", process_of)
    state = column("state", state_of)
    breakers = column("open breakers", breakers_of)

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list of workers, each with whether it is alive by Postgres' clock."""
        found = super().get_changelist_instance(request)
        by_name = {one.name: one for one in figures.workers()}
        found.result_list = list(found.result_list)
        for worker in found.result_list:
            worker.figures = by_name.get(worker.name)
        return found


def rule_of(notice: Notice) -> SafeString:
    """Return a link to the rule of a notice."""
    if notice.rule is None:
        return quiet()
    return link("integrations_integrationrule_change", isolated(notice.rule.name), notice.rule_id)


@admin.register(Notice)
class NoticeAdmin(LargeTableAdmin):
    """The admin of notices, which stay on the first page until somebody dismisses them."""

    list_display = ("level_badge", "what", "rule_link", moment_of("created_at", "when"), "dismissal")
    list_display_links = ("what",)
    list_filter = (condition_filter("state", open=("Not dismissed", Q(dismissed_at__isnull=True))),)
    list_select_related = ("rule",)
    actions = ("dismiss",)
    fields = ("level", "title", "text", "rule", "created_at", "dismissed_at", "dismissed_by")
    level_badge = column("level", lambda notice: badge(notice.level, NOTICE_TONES[notice.level]))
    what = column("notice", lambda notice: said(notice.title, notice.text[:200]))
    rule_link = column("rule", rule_of)
    dismissal = column(
        "dismissed", lambda notice: f"by {notice.dismissed_by}" if notice.dismissed_at else quiet("not yet")
    )

    @admin.action(description="Dismiss the selected notices", permissions=["act"])
    def dismiss(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Dismiss notices."""
        count = notices.dismiss(first(request, queryset), by=actor(request), now=timezone.now())
        messages.success(request, f"{plural(count, 'notice')} dismissed.")

    def get_urls(self) -> Any:
        """Add the URL of the dismiss buttons on the first page."""
        view = self.admin_site.admin_view(require_POST(self.dismiss_view))
        return [path("<int:notice_id>/dismiss/", view, name="integrations_notice_dismiss"), *super().get_urls()]

    def dismiss_view(self, request: HttpRequest, notice_id: int) -> HttpResponse:
        """Dismiss one notice, and redirect to the first page."""
        if not self.has_act_permission(request):
            raise PermissionDenied
        notices.dismiss([notice_id], by=actor(request), now=timezone.now())
        return redirect("admin:index")
