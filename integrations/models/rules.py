"""Integration rules: the events, rooms and target of each, and what its answers mean."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from rooms.review.late import LatePolicy


class EventKind(models.TextChoices):
    """The events that a rule can receive. integrations.wire.events has the public `source` of each."""

    MESSAGE = "channel.message", "a message is published"
    EDITED = "channel.message.updated", "a published message is edited"
    DELETED = "channel.message.deleted", "a published message is hidden"
    ACCEPTED = "channel.message.accepted", "a message is accepted, not reviewed yet"
    REVIEWED = "channel.message.reviewed", "a review ends: published, rejected, held, retracted or restored"
    OCCUPANCY = "channel.occupancy", "the number of members changes"
    OPENED = "channel.opened", "a room gets its first member"
    CLOSED = "channel.closed", "a room's last member has left"


class TargetKind(models.TextChoices):
    """How a rule's target is called."""

    HTTP = "http", "HTTPS endpoint, or a Function URL with auth NONE"
    FUNCTION_URL = "function-url", "Lambda Function URL with auth AWS_IAM"
    INVOKE = "lambda", "Lambda Invoke API"


class Invocation(models.TextChoices):
    """How the Invoke API calls a function."""

    SYNC = "sync", "RequestResponse: its answer counts"
    EVENT = "event", "Event: queued by Lambda, answers by callback only"


class When(models.TextChoices):
    """Whether a rule decides about messages before publish, or receives events afterwards."""

    BEFORE = "before", "before publish: its verdict decides"
    AFTER = "after", "after publish: it is told"


class AtDeadline(models.TextChoices):
    """What happens to a message without a verdict at its deadline. The values are those of VerdictAction, and retry."""

    REJECT = "reject", "refuse it: nothing unchecked is ever shown"
    HOLD = "hold", "keep it for a moderator"
    PUBLISH = "publish", "publish it unchecked"
    RETRY = "retry", "let it wait, and ask again until an answer comes (for up to REVIEW_WAIT_SECONDS, then hold)"


class Late(models.TextChoices):
    """The effect of a verdict that comes after the deadline has decided: the policies of rooms.review.late."""

    RECORD = LatePolicy.RECORD.value, "it is recorded, nothing else"
    APPLY = (
        LatePolicy.APPLY.value,
        "it is asked for until it comes, and retracts, restores or decides what nobody decided since",
    )


class IntegrationRule(models.Model):
    """A rule: which events of which rooms go to which target. Only integrations.rules.rules changes one."""

    name = models.CharField(max_length=80, unique=True)
    events = ArrayField(models.CharField(max_length=32, choices=EventKind), default=list, help_text="What it hears of.")
    room_filter = models.CharField(
        max_length=500, blank=True, help_text="RE2 pattern, searched in the room's name; empty: every room."
    )
    author_filter = models.CharField(
        max_length=500, blank=True, help_text="RE2 pattern, searched in the author's client id; empty: every author."
    )
    sample_percent = models.FloatField(default=100.0, help_text="So much of what the filters let through.")
    when = models.CharField(max_length=6, choices=When, default=When.AFTER)
    order = models.PositiveSmallIntegerField(
        default=0, help_text="Rules before publish are asked one after the other, the smallest first."
    )

    # Target
    target = models.CharField(max_length=12, choices=TargetKind, default=TargetKind.HTTP)
    url = models.CharField(
        max_length=2000,
        blank=True,
        verbose_name="URL",
        help_text="An endpoint or a Function URL. For the Invoke API: empty, or another endpoint than AWS.",
    )
    function = models.CharField(max_length=200, blank=True, help_text="Invoke API: the function's name or ARN.")
    qualifier = models.CharField(max_length=128, blank=True, help_text="Invoke API: version or alias.")
    invocation = models.CharField(max_length=5, choices=Invocation, default=Invocation.SYNC)
    region = models.CharField(max_length=32, blank=True, help_text="Empty: as URL or ARN say, else AWS_REGION.")
    role = models.CharField(max_length=200, blank=True, help_text="ARN of a role to assume before the call.")
    external_id = models.CharField(max_length=200, blank=True, help_text="What the role asks for, if it does.")
    sealed_credentials = models.BinaryField(null=True, editable=False)  # AWS keys; without: environment or instance

    # Calls
    enveloped = models.BooleanField(default=True, help_text="With room and sender in the body, not only in headers.")
    ordered = models.BooleanField(
        default=True, help_text="After publish: in room order, one call at a time for each room; off: side by side."
    )
    batched = models.BooleanField(default=False, help_text="What gathers while a call is under way goes in one call.")
    batch_events = models.PositiveIntegerField(default=100, help_text="Most events of one call.")
    batch_bytes = models.PositiveIntegerField(default=262_144, help_text="Most bytes of payloads of one call.")
    batch_wait_ms = models.PositiveIntegerField(default=0, help_text="So long (ms) a batch waits for more events.")
    timeout_seconds = models.FloatField(
        null=True, blank=True, help_text="Longest time for one call; empty: DELIVERY_TIMEOUT_SECONDS."
    )
    concurrency = models.PositiveIntegerField(
        null=True, blank=True, help_text="Most calls at once of one worker; empty: DELIVERY_RULE_CONCURRENCY."
    )
    headers = models.JSONField(default=dict, blank=True, help_text="Further headers of each call, as a JSON object.")
    sealed_secret = models.BinaryField(editable=False)
    sealed_former_secret = models.BinaryField(null=True, editable=False)
    former_secret_until = models.DateTimeField(null=True, editable=False)

    # Verdicts
    budget_seconds = models.FloatField(
        null=True, blank=True, help_text="Before publish: longest wait for a verdict; empty: REVIEW_DEADLINE_SECONDS."
    )
    # Reject by default: a broken Lambda must not publish messages that nobody has checked.
    at_deadline = models.CharField(max_length=7, choices=AtDeadline, default=AtDeadline.REJECT)
    at_deadline_new = models.CharField(
        max_length=7, choices=AtDeadline, blank=True, help_text="For authors who are new here; empty: as for all."
    )
    at_deadline_trusted = models.CharField(
        max_length=7, choices=AtDeadline, blank=True, help_text="For authors who are trusted; empty: as for all."
    )
    late = models.CharField(max_length=6, choices=Late, default=Late.RECORD)
    cache_seconds = models.FloatField(
        default=10.0, help_text="So long a verdict serves for messages that say the same; 0: each is asked about."
    )
    cache_after = models.PositiveSmallIntegerField(
        default=3, help_text="From so many calls about the same text within that time on."
    )

    # Shadow of another rule
    shadow_of = models.ForeignKey(
        "self",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="shadows",
        help_text="It is asked what that rule is asked, and decides nothing; the answers are compared.",
    )
    stands_in = models.BooleanField(
        default=False, help_text="It decides in place of the rule that it shadows while that one's target is down."
    )

    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    changed_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("order", "id")
        constraints = (
            models.CheckConstraint(condition=Q(when__in=When.values), name="rule_when_known"),
            models.CheckConstraint(
                condition=Q(at_deadline__in=AtDeadline.values)
                & Q(at_deadline_new__in=["", *AtDeadline.values])
                & Q(at_deadline_trusted__in=["", *AtDeadline.values]),
                name="rule_at_deadline_known",
            ),
            models.CheckConstraint(
                condition=Q(budget_seconds__isnull=True) | Q(budget_seconds__gt=0), name="rule_budget_positive"
            ),
            models.CheckConstraint(condition=Q(events__contained_by=EventKind.values), name="rule_events_known"),
            models.CheckConstraint(condition=Q(target__in=TargetKind.values), name="rule_target_known"),
            models.CheckConstraint(
                condition=Q(sample_percent__gt=0, sample_percent__lte=100), name="rule_sample_in_percent"
            ),
            models.CheckConstraint(
                condition=Q(batch_events__gte=1, batch_bytes__gte=1), name="rule_batch_holds_something"
            ),
            models.CheckConstraint(
                condition=Q(shadow_of__isnull=True) | ~Q(shadow_of=F("id")), name="rule_shadows_another"
            ),
            models.CheckConstraint(
                condition=Q(stands_in=False) | Q(shadow_of__isnull=False), name="rule_stands_in_for_one_it_shadows"
            ),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def is_shadow(self) -> bool:
        """Whether the rule's answers are only compared with those of another rule."""
        return self.shadow_of_id is not None
