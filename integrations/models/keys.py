"""API keys, and the nonces of token requests that were used up."""

from __future__ import annotations

from datetime import datetime

from django.db import models
from django.db.models import Q
from django.utils import timezone


class KeyPurpose(models.TextChoices):
    """The purpose of a key."""

    GENERAL = "", "made by a person"
    PAGE = "page", "signs the tokens of this server's own page"


class ApiKey(models.Model):
    """An API key, shown once as `appId.keyId:secret`. Only integrations.access.keys changes it.

    The secret is stored sealed, not hashed: the MAC of token requests and the signature of JWTs are checked with it.
    """

    app_id = models.CharField(max_length=32)
    key_id = models.CharField(max_length=32, unique=True)
    sealed_secret = models.BinaryField(editable=False)
    sealed_former_secret = models.BinaryField(null=True, editable=False)
    former_secret_until = models.DateTimeField(null=True, blank=True, editable=False)
    secret_version = models.PositiveIntegerField(
        default=1, editable=False, help_text="Counts the secrets: the former one has the number before."
    )
    capability = models.JSONField(help_text="Room pattern to operations; no token of this key may do more.")
    label = models.CharField(max_length=120, blank=True, help_text="What it is for, to recognise it later.")
    purpose = models.CharField(max_length=8, choices=KeyPurpose, default=KeyPurpose.GENERAL, blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    revoked_at = models.DateTimeField(null=True, blank=True, editable=False)

    class Meta:
        ordering = ("-id",)
        verbose_name = "API key"
        verbose_name_plural = "API keys"
        constraints = (
            models.UniqueConstraint(
                fields=["purpose"], condition=~Q(purpose="") & Q(revoked_at__isnull=True), name="key_purpose_once"
            ),
            models.CheckConstraint(condition=~Q(app_id="") & ~Q(key_id=""), name="key_has_a_name"),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        """The public part of the key: `appId.keyId`."""
        return f"{self.app_id}.{self.key_id}"

    def has_former_secret(self, now: datetime) -> bool:
        """Return whether the secret before the current one is still valid."""
        return self.former_secret_until is not None and now < self.former_secret_until


class UsedNonce(models.Model):
    """The nonce of a token request that was answered, kept while the request's timestamp is still acceptable."""

    key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="used_nonces", db_index=False)
    nonce = models.CharField(max_length=128)
    expires_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=["key", "nonce"], name="nonce_used_once"),)
        indexes = (models.Index(fields=["expires_at"], name="nonce_by_expiry"),)

    def __str__(self) -> str:
        return f"nonce of {self.key_id} until {self.expires_at:%H:%M:%S}"


class RevocationSubject(models.TextChoices):
    """By what a revocation names tokens. The values are the protocol's target types; `tokenId` is ours."""

    CLIENT = "clientId", "the tokens of a client id"
    TOKEN = "tokenId", "one token"
    REVOCATION_KEY = "revocationKey", "the tokens that carry this x-ably-revocation-key"
    CHANNEL = "channel", "the tokens whose capability names this room"


class Revocation(models.Model):
    """A revocation: the tokens of a key, named by subject and value, that were issued before a moment.

    Only integrations.access.revocations writes it. Rows never change, and become visible in the order of their ids, so
    that a process reads only those after the last that it knows. A row is kept until the last such token has expired.
    """

    key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, related_name="revocations", db_index=False)
    subject = models.CharField(max_length=13, choices=RevocationSubject)
    value = models.CharField(max_length=255)
    issued_before = models.DateTimeField(help_text="Tokens that were issued later are good.")
    applies_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    created_at = models.DateTimeField(default=timezone.now)
    created_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ("-id",)
        indexes = (models.Index(fields=["expires_at"], name="revocation_by_expiry"),)

    def __str__(self) -> str:
        return f"{self.subject}:{self.value}"
