"""The admin pages of word rules and of the messages that wait for a moderator."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from moderation import word_rules
from moderation.matcher import MatchEffect
from moderation.models import HeldMessage, WordRule
from rooms.admin import MessageAdmin, message_search
from rooms.admin.cells import badge, code, column, moment_of, plural, quiet, shortened
from rooms.admin.filters import RoomFilter
from rooms.admin.journey import Tone
from rooms.admin.moments import MomentFilter
from rooms.admin.tables import PlainTitleAdmin, actor, first, log
from rooms.errors import Code
from rooms.log.lifecycle import MODERATOR
from rooms.log.outcomes import OutcomeKind
from rooms.models import Message, Status
from rooms.review import decide
from rooms.review.contract import Decision, Verdict, VerdictAction

REASON_MAX_CHARACTERS = 500
EFFECT_TONES = {MatchEffect.MASK: Tone.PLAIN, MatchEffect.HOLD: Tone.WAITING, MatchEffect.REJECT: Tone.BAD}


# --- Word rules -------------------------------------------------------------------------------------------


class WordRuleForm(forms.ModelForm[WordRule]):
    """The form of a word rule. The model's `clean` checks that its pattern can be matched."""

    def clean_enabled(self) -> bool:
        """Refuse to enable more than MAX_ENABLED rules."""
        enabled = bool(self.cleaned_data["enabled"])
        if (
            enabled
            and not (self.instance.pk and self.instance.enabled)
            and word_rules.count_enabled() >= word_rules.MAX_ENABLED
        ):
            raise ValidationError(f"There are {word_rules.MAX_ENABLED} enabled rules, and no more are matched.")
        return enabled


@admin.register(WordRule)
class WordRuleAdmin(PlainTitleAdmin):
    """The admin of word rules. A change counts from the next message on, in every process."""

    form = WordRuleForm
    list_per_page = 100
    list_display = (
        "name", "pattern_text", "action_badge", "rooms", "is_enabled", moment_of("changed_at", "changed"), "changed_by",
    )  # fmt: skip
    list_filter = ("enabled", "action", "kind")
    search_fields = ("name", "pattern")
    fields = ("name", "kind", "pattern", "action", "reason", "room_filter", "enabled", "changed_at", "changed_by")
    readonly_fields = ("changed_at", "changed_by")
    actions = ("enable", "disable")
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    pattern_text = column("pattern", lambda rule: code(shortened(rule.pattern, 80)), ordering="pattern")
    action_badge = column(
        "action", lambda rule: badge(rule.action, EFFECT_TONES[MatchEffect(rule.action)]), ordering="action"
    )
    rooms = column("rooms", lambda rule: code(rule.room_filter[:60]) if rule.room_filter else quiet("every room"))
    is_enabled = column("on", lambda rule: rule.enabled, boolean=True, ordering="enabled")

    def save_model(self, request: HttpRequest, obj: WordRule, form: Any, change: bool) -> None:
        """Store the rule, and who changed it."""
        word_rules.store(obj, by=actor(request), now=timezone.now())

    @admin.action(description="Turn the selected rules on", permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[WordRule]) -> None:
        """Enable rules."""
        chosen = list(queryset.values_list("pk", flat=True))
        if word_rules.count_enabled() + queryset.filter(enabled=False).count() > word_rules.MAX_ENABLED:
            messages.error(request, f"Not changed: at most {word_rules.MAX_ENABLED} rules are matched.")
            return
        self._switch(request, chosen, enabled=True)

    @admin.action(description="Turn the selected rules off", permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[WordRule]) -> None:
        """Disable rules."""
        self._switch(request, list(queryset.values_list("pk", flat=True)), enabled=False)

    def _switch(self, request: HttpRequest, chosen: list[int], *, enabled: bool) -> None:
        changed = word_rules.set_enabled(chosen, enabled=enabled, by=actor(request), now=timezone.now())
        word = "on" if enabled else "off"
        log(request, WordRule.objects.filter(pk__in=chosen), f"Turned {word}.")
        messages.success(request, f"{plural(changed, 'rule')} turned {word}, from the next message on.")


# --- Held messages ----------------------------------------------------------------------------------------


class DecisionForm(ActionForm):
    """The form of an action on held messages, with a reason for the authors of rejected ones."""

    reason = forms.CharField(
        required=False,
        max_length=REASON_MAX_CHARACTERS,
        label="Reason",
        widget=forms.TextInput(attrs={"placeholder": "for the author, if rejected"}),
    )


@admin.register(HeldMessage)
class HeldMessageAdmin(MessageAdmin):
    """The admin of held messages, which a rule, a Lambda or a deadline left to a moderator, the oldest first."""

    list_display = ("preview", "reason_text", "room_link", "client", moment_of("accepted_at", "accepted"))
    list_filter = (RoomFilter, MomentFilter.of("accepted_at"))
    search_help_text = "A message id, client id or primary key; or words."
    actions = ("publish", "reject")
    action_form = DecisionForm
    reason_text = column("why", lambda message: message.reason[:160])

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return the messages that wait for a moderator."""
        return super().get_queryset(request).filter(status=Status.HELD)

    def find(self, request: HttpRequest, rows: QuerySet[Any], term: str) -> QuerySet[Any]:
        """Return the held messages that a term names, or whose text contains it."""
        return message_search.search_among(rows, term)

    def has_decide_permission(self, request: HttpRequest) -> bool:
        """Return whether the user may decide about held messages."""
        return request.user.has_perm("moderation.decide_heldmessage")

    def choices_for(self, request: HttpRequest, message: Message) -> list[dict[str, str]]:
        """Return the decisions that the user may make about a message."""
        if message.status != Status.HELD or not self.has_decide_permission(request):
            return []
        return [
            {"action": "publish", "label": "Publish", "tone": Tone.GOOD, "asks": "Reason for the author, if rejected"},
            {"action": "reject", "label": "Reject", "tone": Tone.BAD},
        ]

    @admin.action(description="Publish the selected messages", permissions=["decide"])
    def publish(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Publish messages."""
        self._decide(request, queryset, Verdict(action=VerdictAction.PUBLISH))

    @admin.action(description="Reject the selected messages", permissions=["decide"])
    def reject(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Reject messages, with a reason for their authors."""
        reason = request.POST.get("reason", "").strip()[:REASON_MAX_CHARACTERS]
        reason = reason or "A moderator refused the message."
        self._decide(
            request, queryset, Verdict(action=VerdictAction.REJECT, code=Code.REJECTED_BY_MODERATION, reason=reason)
        )

    def _decide(self, request: HttpRequest, queryset: QuerySet[Any], verdict: Verdict) -> None:
        chosen = first(request, queryset)
        by = f"moderator {actor(request)}"
        outcomes = decide.decide(
            [Decision(message=key, awaiting=MODERATOR, verdict=verdict, by=by) for key in chosen], now=timezone.now()
        )
        counted = {OutcomeKind.PUBLISHED: "published", OutcomeKind.REJECTED: "rejected"}
        for kind, word in counted.items():
            number = sum(outcome.kind is kind for outcome in outcomes)
            if number:
                messages.success(request, f"{plural(number, 'message')} {word}.")
        late = sum(outcome.kind not in counted for outcome in outcomes)
        if late:
            messages.warning(request, f"{plural(late, 'message')} left as before: somebody else decided first.")
        done = [outcome.message for outcome in outcomes if outcome.kind in counted]
        log(request, Message.objects.filter(pk__in=done), f"Held message: {verdict.action}.")
