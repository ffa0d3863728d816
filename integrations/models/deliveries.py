"""The outbox's tables: a delivery for each event and rule, an attempt for each call, a lane for each room and rule."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from integrations.models.rules import EventKind, IntegrationRule
from rooms.models import Message, Room


class Lane(models.Model):
    """The deliveries of one room to one rule after publish: called in order, by one worker at a time.

    `due_at` is when a worker may claim the lane: now, at the head's next retry, or when the lease of the worker that
    has it ends. Null: the lane is empty. Adding a delivery locks the lane until the commit, and a worker that gives the
    lane back looks for deliveries under the same lock, so none is forgotten. Only integrations.outbox changes a lane.
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
    """The state of a delivery. Only integrations.outbox changes it."""

    PENDING = "pending", "waiting for its (next) call"
    DELIVERING = "delivering", "being called"
    DELIVERED = "delivered", "answered with 2xx"
    DEAD = "dead", "dead letter: given up"
    CANCELLED = "cancelled", "no longer needed"


UNFINISHED = (DeliveryState.PENDING, DeliveryState.DELIVERING)


class Delivery(models.Model):
    """One event owed to one rule, written in the transaction of the event.

    `payload` is the event's public JSON text at the time of the event; it is sent without being parsed again. `serial`
    is the event's place in the room's log, 0 without one. A delivery with a `deadline` asks for a verdict. `in_lane`:
    it is called after the rule's earlier deliveries (by id) of the room.
    """

    id = models.BigAutoField(primary_key=True)
    rule = models.ForeignKey(IntegrationRule, on_delete=models.CASCADE, related_name="deliveries", db_index=False)
    # The message's room, for lanes. Without index: a room's deliveries are deleted with its messages.
    room = models.ForeignKey(Room, on_delete=models.DO_NOTHING, related_name="+", db_index=False, db_constraint=False)
    message = models.ForeignKey(
        Message, on_delete=models.CASCADE, null=True, blank=True, related_name="deliveries", db_index=False
    )
    event = models.CharField(max_length=32, choices=EventKind, default=EventKind.MESSAGE)
    serial = models.BigIntegerField(default=0)
    in_lane = models.BooleanField(default=False)
    webhook_id = models.CharField(max_length=40, help_text="The same in every attempt: receivers drop repeats by it.")
    payload = models.TextField()
    state = models.CharField(max_length=10, choices=DeliveryState, default=DeliveryState.PENDING)
    attempts = models.PositiveIntegerField(
        default=0, help_text="Calls begun. A worker without its lease is told by it."
    )
    forgiven = models.PositiveIntegerField(default=0, help_text="Calls that no longer count, since a resend.")
    due_at = models.DateTimeField(help_text="Outside a lane: when a worker may take it; a lease pushes it forward.")
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
            models.UniqueConstraint(fields=["message", "rule", "event", "serial"], name="delivery_once_an_event"),
            models.CheckConstraint(condition=Q(state__in=DeliveryState.values), name="delivery_state_known"),
            models.CheckConstraint(
                condition=Q(state__in=UNFINISHED, finished_at__isnull=True)
                | (~Q(state__in=UNFINISHED) & Q(finished_at__isnull=False)),
                name="delivery_finished_iff_ended",
            ),
            models.CheckConstraint(
                condition=Q(deadline__isnull=True) | Q(in_lane=False, message__isnull=False),
                name="delivery_asks_about_a_message",
            ),
        )
        indexes = (
            models.Index(
                fields=["rule", "due_at"], condition=Q(finished_at__isnull=True, in_lane=False), name="delivery_due"
            ),
            models.Index(
                fields=["rule", "room", "id"],
                condition=Q(finished_at__isnull=True, in_lane=True),
                name="delivery_next_in_lane",
            ),
            models.Index(fields=["rule", "-id"], name="delivery_by_rule"),
            models.Index(fields=["-id"], condition=Q(state="dead"), name="delivery_dead"),
        )

    def __str__(self) -> str:
        return self.webhook_id

    @property
    def is_before(self) -> bool:
        """Whether the delivery asks for a verdict."""
        return self.deadline is not None


class Attempt(models.Model):
    """One HTTP call for a delivery, and its result."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="tries", db_index=False)
    number = models.PositiveIntegerField()
    worker = models.CharField(max_length=80, blank=True)
    started_at = models.DateTimeField()
    duration_ms = models.FloatField()
    status = models.PositiveSmallIntegerField(null=True, blank=True, help_text="HTTP status; empty: no answer came.")
    error = models.CharField(max_length=500, blank=True)
    response = models.TextField(blank=True, help_text="The first 4 KiB of the answer.")
    events = models.PositiveIntegerField(default=1, help_text="How many events the call carried.")
    by_stand_in = models.BooleanField(default=False, help_text="The rule's target was down: its stand-in was called.")

    class Meta:
        ordering = ("-id",)
        constraints = (models.UniqueConstraint(fields=["delivery", "number"], name="attempt_once"),)

    def __str__(self) -> str:
        return f"attempt {self.number} of delivery {self.delivery_id}"
