"""The tables of rooms, their messages, and the live counts of gateways.

A room is a log: each message stands at the serial where it became visible or was last changed."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from rooms.protocol.serials import draw_epoch, encode


class Room(models.Model):
    """A log with a name. `head` is the last serial given out; only rooms.log.room_locks stores it."""

    name = models.CharField(max_length=255, unique=True)
    title = models.CharField(max_length=120, blank=True, help_text="Shown to people; the name where empty.")
    description = models.CharField(max_length=500, blank=True)
    listed = models.BooleanField(
        default=False, help_text="On the page, and in the token of everybody who signs in there."
    )
    epoch = models.CharField(max_length=8, default=draw_epoch, editable=False)
    head = models.BigIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Of a room that clients made and that has no message yet: the time after which rooms.occupancy.unused_rooms may
    # remove it, and the client that made it by attaching, if that one may not publish. Null: the room stays.
    unused_after = models.DateTimeField(null=True, editable=False)
    made_by = models.CharField(max_length=300, null=True, editable=False)  # noqa: DJ001 - nobody is not empty

    class Meta:
        ordering = ("name",)
        constraints = (
            models.CheckConstraint(condition=Q(head__gte=0), name="room_head_not_negative"),
            models.CheckConstraint(condition=~Q(name=""), name="room_has_a_name"),
        )
        indexes = (
            models.Index(fields=["name"], condition=Q(listed=True), name="room_listed"),
            models.Index(fields=["unused_after"], condition=Q(unused_after__isnull=False), name="room_unused"),
            models.Index(fields=["made_by"], condition=Q(made_by__isnull=False), name="room_made_by"),
        )

    def __str__(self) -> str:
        return self.title or self.name


class MessageAction(models.IntegerChoices):
    """The last change of a message, with the numbers of the wire (TM5)."""

    CREATE = 0, "created"
    UPDATE = 1, "edited"
    DELETE = 2, "deleted"


class Status(models.TextChoices):
    """The state of a message between acceptance and publication. Only rooms.log.lifecycle changes it."""

    ACCEPTED = "accepted", "waiting for a verdict"
    APPROVED = "approved", "approved, waiting for the author's earlier messages"
    HELD = "held", "held for a moderator"
    PUBLISHED = "published", "published"
    REJECTED = "rejected", "rejected"


class Message(models.Model):
    """One message in its current version. Primary keys grow in the order of acceptance.

    `serial` is its current place in the log, `created_serial` the one at which it was first published (its
    identity on the wire). Data is either `text` (with `encoding` "json" where it is JSON) or `binary`.
    """

    id = models.BigAutoField(primary_key=True)
    room = models.ForeignKey(Room, on_delete=models.CASCADE, related_name="messages", db_index=False)
    message_id = models.CharField(max_length=255, help_text="The public id: publishing it twice is publishing once.")
    author = models.CharField(max_length=300, help_text="Messages of one author are published in order.")
    client_id = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001 - absent is not empty
    connection_id = models.CharField(max_length=64, null=True, blank=True)  # noqa: DJ001 - absent is not empty
    name = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001 - absent is not empty
    text = models.TextField(null=True, blank=True)  # noqa: DJ001 - absent is not empty
    binary = models.BinaryField(null=True, blank=True)
    encoding = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001 - absent is not empty
    extras = models.JSONField(null=True, blank=True)

    status = models.CharField(max_length=9, choices=Status)
    action = models.SmallIntegerField(choices=MessageAction, default=MessageAction.CREATE)
    serial = models.BigIntegerField(null=True, blank=True)
    created_serial = models.BigIntegerField(null=True, blank=True)

    accepted_at = models.DateTimeField()
    published_at = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField(null=True, blank=True)

    awaiting = models.CharField(max_length=120, blank=True, help_text="The review step that owes a verdict.")
    deadline = models.DateTimeField(null=True, blank=True)
    at_deadline = models.CharField(max_length=9, blank=True, help_text="The verdict if none comes in time.")
    error_code = models.IntegerField(null=True, blank=True)
    reason = models.CharField(max_length=500, blank=True)
    detail = models.JSONField(null=True, blank=True)
    origin = models.CharField(max_length=100, blank=True, help_text="The gateway whose author waits for the verdict.")

    class Meta:
        ordering = ("-id",)
        constraints = (
            models.UniqueConstraint(fields=["room", "message_id"], name="message_id_once_in_a_room"),
            # Published messages only: the planner must not use these indexes for anything but look-ups by serial.
            models.UniqueConstraint(
                fields=["room", "serial"], condition=Q(serial__isnull=False), name="message_serial_once"
            ),
            models.UniqueConstraint(
                fields=["room", "created_serial"],
                condition=Q(created_serial__isnull=False),
                name="message_created_serial_once",
            ),
            models.CheckConstraint(
                condition=Q(
                    status="published", serial__isnull=False, created_serial__isnull=False, published_at__isnull=False
                )
                | (~Q(status="published") & Q(serial__isnull=True, created_serial__isnull=True)),
                name="message_has_serial_iff_published",
            ),
            models.CheckConstraint(
                condition=Q(serial__isnull=True) | Q(serial__gte=F("created_serial"), created_serial__gte=1),
                name="message_moves_forward_only",
            ),
            models.CheckConstraint(
                condition=(Q(status="accepted") & ~Q(awaiting="") & Q(deadline__isnull=False) & ~Q(at_deadline=""))
                | ~Q(status="accepted"),
                name="message_awaits_with_a_deadline",
            ),
            models.CheckConstraint(
                condition=Q(text__isnull=True) | Q(binary__isnull=True), name="message_has_one_kind_of_data"
            ),
            models.CheckConstraint(condition=Q(status__in=Status.values), name="message_status_known"),
        )
        indexes = (
            models.Index(fields=["deadline"], condition=Q(status="accepted"), name="message_by_deadline"),
            models.Index(
                fields=["room", "author", "id"],
                condition=Q(status__in=["accepted", "approved"]),
                name="message_undecided",
            ),
            models.Index(fields=["-id"], condition=Q(status="held"), name="message_held"),
            models.Index(fields=["-id"], condition=Q(status="rejected"), name="message_rejected"),
            models.Index(fields=["-id"], condition=Q(action__gt=0), name="message_changed"),
            models.Index(fields=["client_id", "-id"], name="message_by_client"),
        )

    def __str__(self) -> str:
        return self.message_id

    @property
    def wire_serial(self) -> str | None:
        """The message's place in the log as the wire shows it; None before it is published."""
        return None if self.serial is None else encode(self.room.epoch, self.serial)


class MessageVersion(models.Model):
    """The content of a message before it was edited or hidden."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="versions")
    serial = models.BigIntegerField()
    action = models.SmallIntegerField(choices=MessageAction)
    name = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001 - absent is not empty
    text = models.TextField(null=True, blank=True)  # noqa: DJ001 - absent is not empty
    binary = models.BinaryField(null=True, blank=True)
    encoding = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001 - absent is not empty
    extras = models.JSONField(null=True, blank=True)
    replaced_at = models.DateTimeField()
    replaced_by = models.CharField(max_length=255, blank=True, help_text="Who or what made the change.")

    class Meta:
        ordering = ("-serial",)
        constraints = (models.UniqueConstraint(fields=["message", "serial"], name="version_once"),)

    def __str__(self) -> str:
        return f"{self.message_id} at {self.serial}"


class Verdict(models.Model):
    """The verdict of one review step on a message, stored in the transaction that applies it."""

    message = models.ForeignKey(Message, on_delete=models.CASCADE, related_name="verdicts")
    step = models.CharField(max_length=120, help_text="Reviewer and rule, `deadline`, or the moderator.")
    action = models.CharField(max_length=9)
    reason = models.CharField(max_length=500, blank=True)
    decided_at = models.DateTimeField()

    class Meta:
        ordering = ("-id",)

    def __str__(self) -> str:
        return f"{self.step}: {self.action}"


class GatewayProcess(models.Model):
    """A running gateway, which reports here each second that it is alive. Soft state: an unlogged table.

    Only rooms.occupancy.store writes it. Times are by Postgres' clock.
    """

    server_id = models.CharField(max_length=16, help_text="As clients hear it when they connect.")
    host = models.CharField(max_length=253)
    pid = models.IntegerField("process id")
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())
    connections = models.IntegerField(default=0)
    connections_max = models.IntegerField("most connections")

    class Meta:
        ordering = ("host", "pid")
        verbose_name = "gateway"

    def __str__(self) -> str:
        return f"{self.host} · {self.pid}"


class RoomOccupancy(models.Model):
    """The number of a gateway's connections in a room, in all and by their modes. Soft state likewise.

    No foreign keys in the database: they would lock and touch the rows of rooms for counts that last seconds.
    """

    pk = models.CompositePrimaryKey("room_id", "gateway_id")
    room = models.ForeignKey(Room, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+")
    gateway = models.ForeignKey(
        GatewayProcess, on_delete=models.DO_NOTHING, db_constraint=False, db_index=False, related_name="+"
    )
    connections = models.IntegerField()
    publishers = models.IntegerField()
    subscribers = models.IntegerField()
    presence_connections = models.IntegerField()
    presence_subscribers = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.connections} in room {self.room_id}"
