"""Integration rules and what they owe: a delivery for each event, an attempt for each call."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from rooms.models import Message, Room


class EventKind(models.TextChoices):
    """What a rule listens to; the values are the public `source`."""

    MESSAGE = "channel.message", "a message"


class When(models.TextChoices):
    """Whether a rule decides about a message or only hears of it."""

    BEFORE = "before", "before publish: its verdict decides"
    AFTER = "after", "after publish: it is told"


class AtDeadline(models.TextChoices):
    """What becomes of a message whose verdict does not come. The values are those of rooms.review.Action."""

    REJECT = "reject", "refuse it: nothing unchecked is ever shown"
    HOLD = "hold", "keep it for a moderator"
    PUBLISH = "publish", "publish it unchecked"


class IntegrationRule(models.Model):
    """Which events of which rooms go to which address. Only integrations.rules changes one."""

    name = models.CharField(max_length=80, unique=True)
    event = models.CharField(max_length=32, choices=EventKind, default=EventKind.MESSAGE)
    room_filter = models.CharField(
        max_length=500, blank=True, help_text="RE2 pattern, searched in the room's name; empty: every room."
    )
    when = models.CharField(max_length=6, choices=When, default=When.AFTER)
    order = models.PositiveSmallIntegerField(
        default=0, help_text="Rules before publish are asked one after the other, the smallest first."
    )
    url = models.CharField(max_length=2000, verbose_name="URL")
    enveloped = models.BooleanField(default=True, help_text="With room and sender in the body, not only in headers.")
    batched = models.BooleanField(default=False, help_text="What gathers while a call is under way goes in one call.")
    headers = models.JSONField(default=dict, blank=True, help_text="Further headers of each call, as a JSON object.")
    sealed_secret = models.BinaryField(editable=False)
    budget_seconds = models.FloatField(
        null=True, blank=True, help_text="Before publish: longest wait for a verdict; empty: REVIEW_DEADLINE_SECONDS."
    )
    # Refusing is the default: a broken Lambda must never let pass what nobody has checked.
    at_deadline = models.CharField(max_length=7, choices=AtDeadline, default=AtDeadline.REJECT)
    enabled = models.BooleanField(default=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    changed_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        ordering = ("order", "id")
        constraints = (
            models.CheckConstraint(condition=Q(when__in=When.values), name="rule_when_known"),
            models.CheckConstraint(condition=Q(at_deadline__in=AtDeadline.values), name="rule_at_deadline_known"),
            models.CheckConstraint(
                condition=Q(budget_seconds__isnull=True) | Q(budget_seconds__gt=0), name="rule_budget_positive"
            ),
        )

    def __str__(self) -> str:
        return self.name


class Lane(models.Model):
    """The deliveries of one room to one rule after publish: taken in order, by one worker at a time.

    `due_at` is when a worker may take the lane: now, at the head's next retry, or when the lease of the worker that
    has it ends. Null: nothing is owed. Whoever adds a delivery locks the lane until it commits, whoever empties it
    looks under the same lock: none is forgotten. Only integrations.outbox changes one.
    """

    rule = models.ForeignKey(IntegrationRule, on_delete=models.CASCADE, related_name="lanes", db_index=False)
    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="+")
    due_at = models.DateTimeField(null=True)
    fence = models.BigIntegerField(default=0, help_text="Grows with each claim: a late worker is recognised by it.")
    owner = models.CharField(max_length=80, blank=True)
    narrow = models.IntegerField(default=0, help_text="So many go one by one, to find the one that a batch fails on.")

    class Meta:
        constraints = (models.UniqueConstraint(fields=["rule", "room"], name="lane_once"),)
        indexes = (models.Index(fields=["rule", "due_at"], condition=Q(due_at__isnull=False), name="lane_due"),)

    def __str__(self) -> str:
        return f"room {self.room_id} to rule {self.rule_id}"


class DeliveryState(models.TextChoices):
    """Where a delivery stands. Only integrations.outbox changes it."""

    PENDING = "pending", "waiting for its (next) call"
    DELIVERING = "delivering", "being called"
    DELIVERED = "delivered", "answered with 2xx"
    DEAD = "dead", "dead letter: given up"
    CANCELLED = "cancelled", "no longer needed"


UNFINISHED = (DeliveryState.PENDING, DeliveryState.DELIVERING)


class Delivery(models.Model):
    """One event owed to one rule, written in the transaction of the event.

    `payload` is the public message as JSON text, as it was at the event: the bytes that are sent are made from it
    without parsing it again. `serial` is the event's place in the room's log; 0 before publish.
    """

    id = models.BigAutoField(primary_key=True)
    rule = models.ForeignKey(IntegrationRule, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    # The message's room, here for the order of a lane; it goes when its message goes, so nothing looks for it by room.
    room = models.ForeignKey(Room, on_delete=models.DO_NOTHING, related_name="+", db_index=False, db_constraint=False)
    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    serial = models.BigIntegerField(default=0)
    webhook_id = models.CharField(max_length=40, help_text="The same in every attempt: receivers drop repeats by it.")
    payload = models.TextField()
    state = models.CharField(max_length=10, choices=DeliveryState, default=DeliveryState.PENDING)
    attempts = models.PositiveIntegerField(
        default=0, help_text="Calls begun. A worker without its lease is told by it."
    )
    forgiven = models.PositiveIntegerField(default=0, help_text="Calls that no longer count, since a resend.")
    due_at = models.DateTimeField(help_text="Before publish: when a worker may take it; a lease pushes it forward.")
    deadline = models.DateTimeField(null=True, blank=True, help_text="Before publish: when the rule's policy decides.")
    owner = models.CharField(max_length=80, blank=True, help_text="The worker that has it.")
    last_status = models.PositiveSmallIntegerField(null=True, blank=True)
    last_error = models.CharField(max_length=500, blank=True)
    answer = models.TextField(blank=True, help_text="The verdict that counted, as JSON.")
    created_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-id",)
        verbose_name_plural = "deliveries"
        constraints = (
            models.UniqueConstraint(fields=["message", "rule", "serial"], name="delivery_once"),
            models.CheckConstraint(condition=Q(state__in=DeliveryState.values), name="delivery_state_known"),
            models.CheckConstraint(
                condition=Q(state__in=UNFINISHED, finished_at__isnull=True)
                | (~Q(state__in=UNFINISHED) & Q(finished_at__isnull=False)),
                name="delivery_finished_iff_ended",
            ),
            models.CheckConstraint(
                condition=Q(serial__gt=0) | Q(serial=0, deadline__isnull=False), name="delivery_before_has_deadline"
            ),
        )
        indexes = (
            models.Index(
                fields=["rule", "due_at"], condition=Q(finished_at__isnull=True, serial=0), name="delivery_before_due"
            ),
            models.Index(
                fields=["rule", "room", "serial"],
                condition=Q(finished_at__isnull=True, serial__gt=0),
                name="delivery_lane_head",
            ),
            models.Index(fields=["rule", "-id"], name="delivery_by_rule"),
            models.Index(fields=["-id"], condition=Q(state="dead"), name="delivery_dead"),
        )

    def __str__(self) -> str:
        return self.webhook_id

    @property
    def is_before(self) -> bool:
        """Tell whether the message waits for this delivery's verdict."""
        return self.serial == 0


class Attempt(models.Model):
    """One HTTP call for a delivery and what came of it."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="tries", db_index=False)
    number = models.PositiveIntegerField()
    worker = models.CharField(max_length=80, blank=True)
    started_at = models.DateTimeField()
    duration_ms = models.FloatField()
    status = models.PositiveSmallIntegerField(null=True, blank=True, help_text="HTTP status; empty: no answer came.")
    error = models.CharField(max_length=500, blank=True)
    response = models.TextField(blank=True, help_text="The first 4 KiB of the answer.")

    class Meta:
        ordering = ("-id",)
        constraints = (models.UniqueConstraint(fields=["delivery", "number"], name="attempt_once"),)

    def __str__(self) -> str:
        return f"attempt {self.number} of delivery {self.delivery_id}"
