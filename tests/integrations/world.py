"""What tests of rules and deliveries build: rules, rooms, messages that somebody publishes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any

import psycopg

from integrations import outbox
from integrations.models import IntegrationRule
from integrations.outbox import Capacity, Claim
from integrations.rules import rules
from integrations.worker.wakeups import connect_parameters
from rooms.log.content import Content, Draft
from rooms.log.outcomes import Outcome
from rooms.models import Message, Room
from rooms.publishing.accept import accept

_numbers = count()


def now() -> datetime:
    return datetime.now(UTC)


def add_rule(url: str = "http://127.0.0.1:9/hook", **wanted: Any) -> IntegrationRule:
    """Make a rule whose target need not exist."""
    wanted = {"name": f"rule {next(_numbers)}", "when": "after"} | wanted
    return rules.add(rules.RuleSpec(url=url, **wanted), now=now())[0]


def add_room(name: str = "lobby") -> Room:
    return Room.objects.create(name=name)


@contextmanager
def locked(room: Room) -> Iterator[None]:
    """Hold a room's lock, as a transaction of another process does that hangs."""
    with psycopg.connect(**connect_parameters()) as holder:
        holder.execute("SELECT FROM rooms_room WHERE id = %s FOR NO KEY UPDATE", [room.pk])
        yield
        holder.rollback()


def publish(room: Room, *texts: str, author: str = "alice") -> list[Outcome]:
    """Accept one message for each text, in one transaction."""
    drafts = [
        Draft(
            room_id=room.pk,
            room=room.name,
            message_id=f"id-{next(_numbers)}",
            author=f"client:{author}",
            client_id=author,
            connection_id="c",
            content=Content(name="chat", text=text),
        )
        for text in texts
    ]
    return accept(drafts, now=now())


def claim(
    owner: str = "worker",
    *,
    at: datetime | None = None,
    lease: float = 30.0,
    free: int = 100,
    calls: Mapping[int, int] | None = None,
    max_attempts: int = 12,
) -> list[Claim]:
    """Take all that is due, outside of lanes and in them; `calls`: how many of a rule, else 100."""
    rules = IntegrationRule.objects.values_list("pk", flat=True)
    places = [Capacity(rule_id=rule, calls=(calls or {}).get(rule, 100), lease=lease) for rule in rules]
    moment = at or now()
    options: dict[str, Any] = {"free": free, "max_attempts": max_attempts, "owner": owner, "now": moment}
    return [*outbox.claim_singles(places, **options).claims, *outbox.claim_lanes(places, **options).claims]


def texts_of(claims: Sequence[Claim]) -> list[list[str]]:
    """The texts of each claimed call."""
    ids = [[one.message_id for one in claim.deliveries] for claim in claims]
    texts = dict(Message.objects.values_list("id", "text"))
    return [[texts[message] or "" for message in of_claim] for of_claim in ids]
