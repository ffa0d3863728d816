"""Creates, changes, switches, removes and finds integration rules. Only this module changes them.

integrations.rules.specification checks what a rule may be, and integrations.matching.filters applies its filters.
"""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import IntegrityError, transaction

from integrations import outbox
from integrations.matching.filters import check as check_filter
from integrations.matching.filters import matches
from integrations.models import IntegrationRule, When
from integrations.review.reviewer import awaiting_of
from integrations.rules.specification import RuleSpec, allow_list, check, check_headers, check_url
from integrations.secrets.sealing import seal
from integrations.wire.signing import draw_secret
from rooms.errors import ChatError, Code
from rooms.review import deadlines

__all__ = [
    "RuleSpec",
    "add",
    "allow_list",
    "check",
    "check_beside_others",
    "check_filter",
    "check_headers",
    "check_url",
    "edit",
    "find",
    "forget_credentials",
    "matches",
    "remove",
    "rotate_secret",
    "spec_of",
    "store_credentials",
    "switch",
]

REMOVE_BATCH = 5_000
CREDENTIAL_MAX_CHARACTERS = 4_096  # of each part; a session token has about a thousand


def add(spec: RuleSpec, *, now: datetime) -> tuple[IntegrationRule, str]:
    """Create a rule and return it with its signing secret, which is not shown again. Raises ChatError."""
    check(spec)
    check_beside_others(spec, None)
    secret = draw_secret()
    rule = IntegrationRule(**_columns(spec), sealed_secret=seal(secret), created_at=now, changed_at=now)
    _save(rule, force_insert=True)
    return rule, secret


def edit(name: str, spec: RuleSpec, *, now: datetime) -> IntegrationRule:
    """Change a rule to a specification, and return it. Its secrets and deliveries stay. Raises ChatError.

    Before or after publish cannot be changed: the rule's deliveries were made for the one or the other.
    """
    check(spec)
    with transaction.atomic():
        rule = _lock(name)
        if spec.when != rule.when:
            raise ChatError(
                Code.INVALID_PARAMETER,
                f"A rule stays {rule.when} publish. Make another one, and remove this one when it owes nothing more.",
            )
        check_beside_others(spec, rule)
        did_decide = _decides(rule)
        columns = _columns(spec) | {"changed_at": now}
        for column, value in columns.items():
            setattr(rule, column, value)
        _save(rule, update_fields=list(columns))
        outbox.wake()
    if did_decide and not _decides(rule):
        deadlines.hasten(awaiting_of(rule.pk), now=now)
    return rule


def remove(name: str, *, now: datetime) -> None:
    """Delete a rule with its shadows and its deliveries, finished or not. Raises ChatError 40400.

    First the rule is switched off, then its deliveries are deleted in small transactions, so that no publish waits long
    for a lock, and last the rule.
    """
    rule = switch(name, enabled=False, now=now)
    for shadow in rule.shadows.values_list("name", flat=True):
        remove(shadow, now=now)
    pk = rule.pk
    while outbox.delete_deliveries(pk, limit=REMOVE_BATCH):
        pass
    with transaction.atomic():
        IntegrationRule.objects.select_for_update().filter(pk=rule.pk).first()
        rule.delete()
    if rule.when == When.BEFORE:
        # A transaction that began before the rule was switched off may have let messages wait for it since.
        deadlines.hasten(awaiting_of(pk), now=now)


def switch(name: str, *, enabled: bool, now: datetime) -> IntegrationRule:
    """Turn a rule on or off. Its deliveries stay, and are called when it is on again. Raises ChatError 40400.

    When a rule is turned off, its policy for the deadline decides the waiting messages now.
    """
    with transaction.atomic():
        rule = _lock(name)
        did_decide = _decides(rule)
        rule.enabled, rule.changed_at = enabled, now
        rule.save(update_fields=["enabled", "changed_at"])
        if enabled:
            outbox.wake()
    if did_decide and not enabled:
        deadlines.hasten(awaiting_of(rule.pk), now=now)
    return rule


def rotate_secret(name: str, *, now: datetime, overlap: timedelta | None = None) -> str:
    """Give a rule a new signing secret and return it. Raises ChatError 40400.

    During `overlap` (None: RULE_SECRET_OVERLAP_SECONDS) calls carry a signature by the former secret too. Raises 40900
    if the overlap of an earlier rotation has not ended; an overlap of 0 ends all former secrets.
    """
    secret = draw_secret()
    length = timedelta(seconds=settings.RULE_SECRET_OVERLAP_SECONDS) if overlap is None else overlap
    with transaction.atomic():
        rule = _lock(name)
        until = rule.former_secret_until
        if length and until is not None and now < until:
            raise ChatError(
                Code.CONFLICT,
                f"The former secret of {name!r} signs until {until:%Y-%m-%d %H:%M:%S} UTC: receivers may not know the "
                "current one yet. Wait, or rotate with an overlap of 0, which ends both.",
            )
        rule.sealed_former_secret = rule.sealed_secret if length else None
        rule.former_secret_until = now + length if length else None
        rule.sealed_secret, rule.changed_at = seal(secret), now
        rule.save(update_fields=["sealed_former_secret", "former_secret_until", "sealed_secret", "changed_at"])
    return secret


def store_credentials(
    name: str, *, access_key_id: str, secret_access_key: str, session_token: str = "", now: datetime
) -> None:
    """Store AWS keys, sealed, that sign a rule's calls. Raises ChatError 40003, 40400."""
    parts = {"accessKeyId": access_key_id, "secretAccessKey": secret_access_key, "sessionToken": session_token}
    if not access_key_id or not secret_access_key:
        raise ChatError(Code.INVALID_PARAMETER, "AWS credentials are an access key id and a secret access key.")
    if any(len(part) > CREDENTIAL_MAX_CHARACTERS or not part.isascii() for part in parts.values()):
        raise ChatError(Code.INVALID_PARAMETER, "These are no AWS credentials: they are short and plain ASCII.")
    text = json.dumps({label: part for label, part in parts.items() if part})
    IntegrationRule.objects.filter(pk=find(name).pk).update(sealed_credentials=seal(text), changed_at=now)


def forget_credentials(name: str, *, now: datetime) -> None:
    """Delete a rule's AWS keys: it uses those of the environment or the instance again. Raises ChatError 40400."""
    IntegrationRule.objects.filter(pk=find(name).pk).update(sealed_credentials=None, changed_at=now)


def find(name: str) -> IntegrationRule:
    """Return a rule by name. Raises ChatError 40400."""
    rule = IntegrationRule.objects.filter(name=name).first()
    if rule is None:
        raise _unknown(name)
    return rule


def spec_of(rule: IntegrationRule) -> RuleSpec:
    """Return the specification of an existing rule, to be changed with dataclasses.replace and passed to `edit`."""
    return RuleSpec(**{field.name: getattr(rule, field.name) for field in fields(RuleSpec)})


def _columns(spec: RuleSpec) -> dict[str, Any]:
    tidied = replace(
        spec,
        events=list(dict.fromkeys(spec.events)),
        headers={name.lower(): value for name, value in spec.headers.items()},
    )
    return {field.name: getattr(tidied, field.name) for field in fields(RuleSpec)}


def check_beside_others(spec: RuleSpec, rule: IntegrationRule | None) -> None:
    """Raise ChatError if other rules forbid a specification. `rule`: the one to change, None for a new one."""
    main = spec.shadow_of
    if main is None:
        return
    if rule is not None and main.pk == rule.pk:
        raise ChatError(Code.INVALID_PARAMETER, "A rule cannot be its own shadow.")
    if rule is not None and rule.shadows.exists():
        raise ChatError(Code.INVALID_PARAMETER, f"{rule.name!r} has shadows itself, so it cannot be one.")
    others = main.shadows.filter(stands_in=True).exclude(pk=0 if rule is None else rule.pk)
    if spec.stands_in and (other := others.first()) is not None:
        raise ChatError(Code.CONFLICT, f"{other.name!r} stands in for {main.name!r} already.")


def _decides(rule: IntegrationRule) -> bool:
    """Return whether messages wait for this rule's verdict."""
    return rule.when == When.BEFORE and rule.enabled and not rule.is_shadow


def _lock(name: str) -> IntegrationRule:
    # FOR NO KEY UPDATE: transactions that add deliveries to this rule need not wait.
    rule = IntegrationRule.objects.select_for_update(no_key=True, of=("self",)).filter(name=name).first()
    if rule is None:
        raise _unknown(name)
    return rule


def _save(rule: IntegrationRule, **how: Any) -> None:
    try:
        with transaction.atomic():
            rule.save(**how)
    except IntegrityError:
        raise ChatError(Code.CONFLICT, f"There is a rule named {rule.name!r} already.") from None


def _unknown(name: str) -> ChatError:
    return ChatError(Code.NOT_FOUND, f"There is no rule {name!r}. `manage.py rule list` shows all of them.")
