"""The audit of callback tokens: every use, applied or refused."""

from __future__ import annotations

from django.db import models
from django.utils import timezone


class CallbackResult(models.TextChoices):
    """The result of using a callback token."""

    APPLIED = "applied", "its verdict counted"
    REPEATED = "repeated", "the same request again: answered as before, nothing changed"
    LATE = "late", "after the deadline had decided"
    REFUSED = "refused", "the token or the verdict was not accepted"


class CallbackUse(models.Model):
    """One call of the verdict endpoint. Kept for CALLBACK_KEEP_SECONDS.

    Only integrations.callbacks.callback_uses writes it. For a forged token message and rule are null.
    """

    token_id = models.CharField(max_length=43, blank=True, help_text="What the token says of itself; empty if forged.")
    result = models.CharField(max_length=8, choices=CallbackResult)
    action = models.CharField(max_length=8, blank=True, help_text="The verdict, in the endpoint's words.")
    code = models.IntegerField(null=True, help_text="The error that the caller was told.")
    problem = models.CharField(max_length=200, blank=True)
    message_pk = models.BigIntegerField("message", null=True)
    rule_pk = models.BigIntegerField("rule", null=True)
    body_digest = models.CharField(max_length=64, blank=True, help_text="SHA-256 of the body: tells repeats.")
    address = models.CharField(max_length=64, blank=True, help_text="Where it came from.")
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("-id",)
        indexes = (
            models.Index(
                fields=["message_pk"], condition=models.Q(message_pk__isnull=False), name="callback_by_message"
            ),
            models.Index(fields=["at"], name="callback_by_time"),
        )
        constraints = (
            # A token decides once, however many use it at the same time.
            models.UniqueConstraint(
                fields=["token_id"], condition=models.Q(result__in=["applied", "late"]), name="callback_token_once"
            ),
        )

    def __str__(self) -> str:
        return f"{self.result} at {self.at:%H:%M:%S}"
