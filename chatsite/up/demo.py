"""Makes the demo for newcomers: a room whose messages a Lambda checks first, an administrator and an API key."""

from __future__ import annotations

import secrets
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from chatsite.up.instance import read_json, write_json
from integrations.access import keys
from integrations.models import IntegrationRule, When
from integrations.rules import rules
from rooms.errors import ChatError
from rooms.models import Room

ROOM = "lobby"
RULE = "demo word filter"
ADMIN = "admin"
EXAMPLE = "I don't like how cabbage tastes"
PASSWORD_BYTES = 12


def make_demo(data: Path, *, lambda_url: str) -> dict[str, Any]:
    """Make the demo once, and return its room, administrator and key. An operator's changes to it stay.

    1. The password goes to DATA first: after a crash it still fits the administrator that the database has.
    2. All rows are made in one transaction.
    3. The key goes to DATA, which marks the demo as made. A crash before leaves one key more than needed.
    """
    path = data / "demo.json"
    kept = read_json(path)
    if "password" not in kept:
        kept["password"] = secrets.token_urlsafe(PASSWORD_BYTES)
        write_json(path, kept)
    if "key" not in kept:
        kept["key"] = _make_rows(kept["password"], lambda_url)
        kept["encoded"] = _encoded_if_generated(kept["password"])
        write_json(path, kept)
    _follow_lambda(lambda_url)
    return {
        "room": ROOM,
        "try": EXAMPLE,
        "admin": {"name": ADMIN, "password": _current_password(kept)},
        "key": _current_key(kept["key"]),
    }


@transaction.atomic
def _make_rows(password: str, lambda_url: str) -> str:
    Room.objects.get_or_create(
        name=ROOM,
        defaults={
            "title": "Lobby",
            "description": "Everybody is here. A Lambda reads each message first.",
            "listed": True,
        },
    )
    if not IntegrationRule.objects.filter(name=RULE).exists():
        _add_rule(lambda_url)
    users = get_user_model()
    if not users.objects.filter(username=ADMIN).exists():
        users.objects.create_superuser(ADMIN, password=password)
    return keys.create(keys.EVERYTHING, label="demo").text


def _add_rule(lambda_url: str) -> None:
    spec = rules.RuleSpec(name=RULE, url=lambda_url, room_filter=f"^{ROOM}$", when=When.BEFORE)
    rules.add(spec, now=timezone.now())


def _follow_lambda(lambda_url: str) -> None:
    """Point the demo's rule at the local Lambda again, should that have moved to another port."""
    moved = IntegrationRule.objects.filter(name=RULE, url__startswith="http://127.0.0.1:").exclude(url=lambda_url)
    if (rule := moved.first()) is not None:
        rules.edit(RULE, replace(rules.spec_of(rule), url=lambda_url), now=timezone.now())


def _encoded_if_generated(password: str) -> str | None:
    """Return the stored form of the administrator's password, None if somebody else made that account."""
    user = get_user_model().objects.filter(username=ADMIN).first()
    return user.password if user is not None and user.check_password(password) else None


def _current_password(kept: dict[str, Any]) -> str | None:
    """Return the generated password while it is still the administrator's."""
    # The stored forms are compared: checking the password itself would cost a third of a second at every start.
    stored = get_user_model().objects.filter(username=ADMIN).values_list("password", flat=True).first()
    return kept["password"] if stored is not None and stored == kept["encoded"] else None


def _current_key(text: str) -> str | None:
    """Return the demo's key while it is still good."""
    name, secret = keys.split_key(text)
    try:
        keys.check_secret(name, keys.find([name]).get(name), secret, time.time())
    except ChatError:
        return None
    return text
