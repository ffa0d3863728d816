"""The state of workers and rules: living workers, throttles, figures by the minute, notices for administrators."""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Now
from django.utils import timezone

from integrations.models.rules import IntegrationRule


class WorkerProcess(models.Model):
    """A worker that reports each second that it is alive. An unlogged table; times are those of Postgres' clock.

    Only integrations.worker.heartbeat writes it. When a worker falls silent, others take over its leases at once.
    """

    name = models.CharField(max_length=80, unique=True, help_text="As deliveries and attempts name it.")
    host = models.CharField(max_length=253)
    pid = models.IntegerField("process id")
    started_at = models.DateTimeField(db_default=Now())
    seen_at = models.DateTimeField(db_default=Now())
    calls = models.IntegerField("calls under way", default=0)
    stuck_results = models.IntegerField("results for locked rooms", default=0, db_default=0)
    dropped_results = models.BigIntegerField("of them dropped", default=0, db_default=0)  # since it started

    class Meta:
        ordering = ("host", "pid")
        verbose_name = "worker"

    def __str__(self) -> str:
        return f"{self.host} · {self.pid}"


class BreakerState(models.TextChoices):
    """The state of the circuit breaker of a rule's target."""

    CLOSED = "closed", "calls go out"
    OPEN = "open", "the target is down: nothing is called until the next probe"
    HALF_OPEN = "half-open", "one call probes whether the target is back"


class RuleThrottle(models.Model):
    """The throttle of one rule in one worker, as last reported. Only integrations.worker.heartbeat writes it."""

    worker = models.ForeignKey(WorkerProcess, on_delete=models.CASCADE, related_name="throttles", db_constraint=False)
    rule = models.ForeignKey(
        IntegrationRule, on_delete=models.CASCADE, related_name="throttles", db_constraint=False, db_index=False
    )
    breaker = models.CharField(max_length=9, choices=BreakerState, default=BreakerState.CLOSED)
    limit = models.FloatField(help_text="Calls that may be under way at once, as the target takes them.")
    calls = models.IntegerField("calls under way", default=0)
    opened_at = models.DateTimeField(null=True)
    probe_at = models.DateTimeField(null=True)

    class Meta:
        constraints = (models.UniqueConstraint(fields=["worker", "rule"], name="throttle_once"),)

    def __str__(self) -> str:
        return f"rule {self.rule_id}: {self.breaker}"


class RuleMinute(models.Model):
    """The sums of one rule's calls in one minute, over all workers. Only integrations.monitoring.traffic writes it.

    `buckets[i]` counts calls that took up to BOUNDS_MS[i] of integrations.monitoring.latency, the last all longer ones.
    The row of a rule at 1970 holds all its minutes since it was made, and is never deleted.
    """

    rule = models.ForeignKey(IntegrationRule, on_delete=models.CASCADE, related_name="minutes", db_index=False)
    minute = models.DateTimeField()
    calls = models.BigIntegerField(default=0)
    failed = models.BigIntegerField("failed calls", default=0)
    events = models.BigIntegerField("events delivered", default=0)
    dead = models.BigIntegerField("dead letters", default=0)
    shared = models.BigIntegerField(default=0, help_text="Verdicts that were taken from a call about the same text.")
    verdicts = models.JSONField(default=dict, help_text="Action to number.")
    buckets = ArrayField(models.BigIntegerField(), default=list)

    class Meta:
        ordering = ("-minute",)
        constraints = (models.UniqueConstraint(fields=["rule", "minute"], name="rule_minute_once"),)
        indexes = (models.Index(fields=["minute"], name="rule_minute_by_time"),)

    def __str__(self) -> str:
        return f"rule {self.rule_id} at {self.minute:%H:%M}"


class RuleHealth(models.Model):
    """Since when every call of a rule has failed. Only integrations.monitoring.health writes it."""

    rule = models.OneToOneField(IntegrationRule, on_delete=models.CASCADE, primary_key=True, related_name="health")
    failing_since = models.DateTimeField(null=True)
    warned_at = models.DateTimeField(null=True)
    last_error = models.CharField(max_length=500, blank=True)

    def __str__(self) -> str:
        return f"rule {self.rule_id}"


class NoticeLevel(models.TextChoices):
    """The urgency of a notice."""

    INFO = "info", "good to know"
    WARNING = "warning", "look at it soon"
    ERROR = "error", "something is off"


class Notice(models.Model):
    """A notice for administrators: on the first page of the admin until somebody dismisses it, and sent by mail."""

    level = models.CharField(max_length=7, choices=NoticeLevel)
    title = models.CharField(max_length=200)
    text = models.TextField(blank=True)
    rule = models.ForeignKey(IntegrationRule, on_delete=models.SET_NULL, null=True, blank=True, related_name="notices")
    created_at = models.DateTimeField(default=timezone.now)
    dismissed_at = models.DateTimeField(null=True, blank=True)
    dismissed_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ("-id",)
        indexes = (models.Index(fields=["-id"], condition=Q(dismissed_at__isnull=True), name="notice_open"),)
        constraints = (
            models.CheckConstraint(
                condition=Q(dismissed_at__isnull=True) | Q(dismissed_at__gte=F("created_at")),
                name="notice_dismissed_later",
            ),
        )

    def __str__(self) -> str:
        return self.title
