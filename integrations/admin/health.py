"""The admin pages of workers and notices."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest
from django.http.response import HttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from integrations.admin.tones import NOTICE_TONES
from integrations.models import Notice, WorkerProcess
from integrations.monitoring import figures, notices
from rooms.admin.journey import Tone
from rooms.admin.tables import LargeTableAdmin, actor, badge, first, moment_of, plural, quiet, said


@admin.register(WorkerProcess)
class WorkerAdmin(LargeTableAdmin):
    """The admin of workers, which report each second that they are alive."""

    list_display = (
        "process",
        "state",
        "calls",
        "breakers",
        moment_of("started_at", "since"),
        moment_of("seen_at", "seen"),
    )
    list_display_links = None
    ordering = ("host", "pid")

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """Return the list of workers, each with whether it is alive by Postgres' clock."""
        found = super().get_changelist_instance(request)
        by_name = {one.name: one for one in figures.workers()}
        rows = list(found.result_list)
        for worker in rows:
            worker.figures = by_name.get(worker.name)
        found.result_list = rows
        return found

    @admin.display(description="worker")
    def process(self, worker: WorkerProcess) -> SafeString:
        """The worker's host and process, and its name in attempts."""
        machine = worker.host.partition(" ")[0]  # after it: the number of the container
        return format_html("<bdi>{}</bdi>, process {} <small>{}</small>", machine, worker.pid, worker.name)

    @admin.display(description="state")
    def state(self, worker: Any) -> SafeString:
        """Whether the worker is alive, as a badge."""
        found = worker.figures
        if found is None or not found.is_alive:
            silent = f"silent for {found.silent_seconds:,.0f} s" if found else "gone"
            return badge(silent, Tone.BAD)
        return badge("alive", Tone.GOOD)

    @admin.display(description="open breakers")
    def breakers(self, worker: Any) -> SafeString:
        """The number of rules whose breaker is open in this worker."""
        count = worker.figures.open_breakers if worker.figures else 0
        return badge(str(count), Tone.BAD) if count else quiet("-")


class OpenFilter(admin.SimpleListFilter):
    """Filters notices by whether they were dismissed; a small index serves the open ones."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the choices."""
        return [("open", "Not dismissed")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Return the notices of the choice."""
        return queryset.filter(dismissed_at__isnull=True) if self.value() == "open" else queryset


@admin.register(Notice)
class NoticeAdmin(LargeTableAdmin):
    """The admin of notices, which stay on the first page until somebody dismisses them."""

    list_display = ("level_badge", "what", "rule_link", moment_of("created_at", "when"), "dismissal")
    list_display_links = ("what",)
    list_filter = (OpenFilter,)
    list_select_related = ("rule",)
    actions = ("dismiss",)
    fields = ("level", "title", "text", "rule", "created_at", "dismissed_at", "dismissed_by")

    @admin.display(description="level")
    def level_badge(self, notice: Notice) -> SafeString:
        """The level as a badge."""
        return badge(notice.level, NOTICE_TONES[notice.level])

    @admin.display(description="notice")
    def what(self, notice: Notice) -> SafeString:
        """The title and text of the notice."""
        return said(notice.title, notice.text[:200])

    @admin.display(description="rule")
    def rule_link(self, notice: Notice) -> SafeString:
        """A link to the notice's rule."""
        if notice.rule is None:
            return quiet("-")
        address = reverse("admin:integrations_integrationrule_change", args=[notice.rule_id])
        return format_html('<a href="{}"><bdi>{}</bdi></a>', address, notice.rule.name)

    @admin.display(description="dismissed")
    def dismissal(self, notice: Notice) -> str | SafeString:
        """Who dismissed the notice, and when."""
        return f"by {notice.dismissed_by}" if notice.dismissed_at else quiet("not yet")

    def has_dismiss_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may dismiss notices."""
        return request.user.has_perm("integrations.change_notice")

    @admin.action(description="Dismiss the selected notices", permissions=["dismiss"])
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
        if not self.has_dismiss_permission(request):
            raise PermissionDenied
        notices.dismiss([notice_id], by=actor(request), now=timezone.now())
        return redirect("admin:index")
