"""Creates, finds, rotates and revokes API keys. Only this module changes them."""

from __future__ import annotations

import logging
import re
import secrets
import string
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cached_property
from hmac import compare_digest

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from integrations.database.advisory_locks import AdvisoryLock, lock
from integrations.models import ApiKey, KeyPurpose
from integrations.secrets.sealing import SealBroken, seal, unseal
from rooms.access.capabilities import Capability
from rooms.access.grants import Source
from rooms.errors import ChatError, Code

logger = logging.getLogger(__name__)

ALPHABET = string.ascii_letters + string.digits
MAX_LABEL_CHARACTERS = 120
ID_CHARACTERS = 8
SECRET_BYTES = 32
NAME = re.compile(r"([A-Za-z0-9_-]{1,32})\.([A-Za-z0-9_-]{1,32})", re.ASCII)
EVERYTHING = Capability({"[*]*": frozenset({"*"})})


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """An API key with its secret, to sign and verify with. Its repr has no secret.

    `version` counts the key's secrets. The former secret is valid until `former_until`, in seconds since the epoch.
    """

    id: int
    name: str
    secret: str = field(repr=False)
    capability: Capability = field(repr=False)
    is_revoked: bool
    version: int = 1
    former_secret: str | None = field(default=None, repr=False)
    former_until: float = 0.0

    @cached_property
    def capability_text(self) -> str:
        """The canonical text of the capability."""
        return self.capability.as_text()

    @cached_property
    def former(self) -> SigningKey | None:
        """The key with its former secret, whether or not that is still valid; None without one."""
        if self.former_secret is None:
            return None
        return replace(self, secret=self.former_secret, version=self.version - 1, former_secret=None)

    def usable(self, now: float) -> list[SigningKey]:
        """Return the key with each of its valid secrets, the current one first."""
        former = self.former if now < self.former_until else None
        return [self] if former is None else [self, former]


@dataclass(frozen=True, kw_only=True)
class NewKey:
    """A new or rotated key. Only `text` holds the whole key, which cannot be shown again."""

    row: ApiKey
    text: str = field(repr=False)


# --- State changes ----------------------------------------------------------------------------------------


@transaction.atomic
def create(capability: Capability, *, label: str = "", purpose: KeyPurpose = KeyPurpose.GENERAL) -> NewKey:
    """Create a key of this instance's app. The first key determines the app's id."""
    _lock_creation()
    secret = secrets.token_urlsafe(SECRET_BYTES)
    row = ApiKey.objects.create(
        app_id=_app_id(),
        key_id=_draw_id(),
        sealed_secret=seal(secret),
        capability=capability.as_dict(),
        label=label,
        purpose=purpose,
    )
    return NewKey(row=row, text=f"{row.name}:{secret}")


def revoke(name: str, now: datetime) -> ApiKey:
    """Revoke a key and with it all its tokens, everywhere within a second. Raises ChatError 40400."""
    ApiKey.objects.filter(pk=row_of(name).pk, revoked_at__isnull=True).update(revoked_at=now)
    return row_of(name)


@transaction.atomic
def rotate(name: str, now: datetime, *, overlap: timedelta | None = None) -> NewKey:
    """Give a key a new secret. The former secret, and the tokens that it signed, stay valid for the overlap.

    `overlap`: None means API_KEY_OVERLAP_SECONDS; with zero, what former secrets signed ends within a second.
    Raises ChatError 40400, 40131, and 40900 if the overlap of an earlier rotation has not ended.
    """
    length = timedelta(seconds=settings.API_KEY_OVERLAP_SECONDS) if overlap is None else overlap
    row = ApiKey.objects.select_for_update(no_key=True).get(pk=row_of(name).pk)
    if row.revoked_at is not None:
        raise ChatError(Code.KEY_REVOKED, "This key is revoked. Make another one.")
    if length and row.has_former_secret(now):
        raise ChatError(
            Code.CONFLICT,
            f"The key's former secret is good until {row.former_secret_until:%Y-%m-%d %H:%M:%S} UTC. Wait, or rotate "
            "with an overlap of 0, which ends both former secrets at once.",
        )
    secret = secrets.token_urlsafe(SECRET_BYTES)
    row.sealed_former_secret = row.sealed_secret if length else None
    row.former_secret_until = now + length if length else None
    row.sealed_secret = seal(secret)
    row.secret_version += 1
    row.save(update_fields=["sealed_former_secret", "former_secret_until", "sealed_secret", "secret_version"])
    return NewKey(row=row, text=f"{row.name}:{secret}")


def page_key() -> SigningKey:
    """Return the key that signs the page's tokens. Creates it if there is none, once even for concurrent calls."""
    return _find_page_key() or _make_page_key()


@transaction.atomic
def _make_page_key() -> SigningKey:
    _lock_creation()
    if found := _find_page_key():
        return found
    # A page key that cannot be decrypted (SECRET_KEY was changed) is revoked, or nobody could sign in on the page.
    ApiKey.objects.filter(purpose=KeyPurpose.PAGE, revoked_at__isnull=True).update(revoked_at=timezone.now())
    new = create(EVERYTHING, label="page", purpose=KeyPurpose.PAGE)
    return SigningKey(
        id=new.row.pk, name=new.row.name, secret=split_key(new.text)[1], capability=EVERYTHING, is_revoked=False
    )


# --- Reading ----------------------------------------------------------------------------------------------


def find(names: Iterable[str]) -> dict[str, SigningKey]:
    """Return the existing keys of these names, revoked ones too, with one query."""
    wanted = {parts[1] for name in names if (parts := split_name(name))}
    opened = (_open(row) for row in ApiKey.objects.filter(key_id__in=wanted))
    return {key.name: key for key in opened if key is not None}


def list_ended(sources: Collection[Source], now: datetime) -> set[Source]:
    """Return the sources whose key is revoked or gone, or whose secret is no longer valid."""
    wanted = {parts[1] for name, _ in sources if (parts := split_name(name))}
    alive = ApiKey.objects.filter(key_id__in=wanted, revoked_at__isnull=True)
    oldest: dict[str, int] = {}
    for row in alive.only("app_id", "key_id", "secret_version", "former_secret_until"):
        oldest[row.name] = row.secret_version - row.has_former_secret(now)
    return {(name, version) for name, version in sources if name not in oldest or version < oldest[name]}


def row_of(name: str) -> ApiKey:
    """Return the row of a key. Raises ChatError 40400."""
    app_id, key_id = split_name(name) or ("", "")
    row = ApiKey.objects.filter(app_id=app_id, key_id=key_id).first()
    if row is None:
        raise ChatError(Code.NOT_FOUND, f"There is no key {name!r}. `manage.py apikey list` shows all of them.")
    return row


def check_secret(name: str, found: SigningKey | None, secret: str, now: float) -> SigningKey:
    """Return the key with the given secret, if that is one of its own. Raises ChatError 40130, 40101 or 40131."""
    # An unknown key is compared too, so that it takes as long as a wrong secret.
    candidates = found.usable(now) if found else []
    matches = [compare_digest(key.secret.encode(), secret.encode()) for key in candidates]
    if found is None:
        compare_digest(name.encode(), secret.encode())
    require_known(found)
    if not any(matches):
        raise ChatError(Code.INVALID_CREDENTIALS, "The secret does not belong to this key.")
    return require_valid(candidates[matches.index(True)])


def require_known(found: SigningKey | None) -> SigningKey:
    """Return the key. Raises ChatError 40130 if there is none."""
    if found is None:
        raise ChatError(Code.KEY_UNKNOWN, "This server has no such key. `manage.py apikey create` makes one.")
    return found


def require_valid(key: SigningKey) -> SigningKey:
    """Return the key. Raises ChatError 40131 if it is revoked."""
    if key.is_revoked:
        raise ChatError(Code.KEY_REVOKED, "This key is revoked. Use another one.")
    return key


def split_key(text: str) -> tuple[str, str]:
    """Return name and secret of `appId.keyId:secret`. Raises ChatError 40101."""
    name, colon, secret = text.partition(":")
    if not colon or not secret or not secret.isascii() or split_name(name) is None:
        raise ChatError(Code.INVALID_CREDENTIALS, "A key has the form appId.keyId:secret.")
    return name, secret


def split_name(name: str) -> tuple[str, str] | None:
    """Return app id and key id of `appId.keyId`, None for any other text."""
    match = NAME.fullmatch(name)
    return (match[1], match[2]) if match else None


def _open(row: ApiKey) -> SigningKey | None:
    try:
        secret = unseal(row.sealed_secret)
        former = None if row.sealed_former_secret is None else unseal(row.sealed_former_secret)
    except SealBroken as error:
        # The other keys of the query are good.
        logger.error("Key %s: %s", row.name, error)
        return None
    return SigningKey(
        id=row.pk,
        name=row.name,
        secret=secret,
        capability=Capability.parse(row.capability),
        is_revoked=row.revoked_at is not None,
        version=row.secret_version,
        former_secret=former,
        former_until=row.former_secret_until.timestamp() if row.former_secret_until else 0.0,
    )


def _find_page_key() -> SigningKey | None:
    row = ApiKey.objects.filter(purpose=KeyPurpose.PAGE, revoked_at__isnull=True).first()
    return _open(row) if row else None


def _app_id() -> str:
    known = ApiKey.objects.order_by("id").values_list("app_id", flat=True).first()
    return known or _draw_id()


def _draw_id() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(ID_CHARACTERS))


def _lock_creation() -> None:
    """Let one transaction at a time create a key, so that app id and page key are determined once."""
    lock(AdvisoryLock.MAKING_KEYS)
