"""The figures at the top of the admin's first page: a Card each, counted by index, however large the tables are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from django import template
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.db.models import Count, Sum
from django.urls import reverse
from django.utils import timezone

from integrations.models import ApiKey, Delivery, IntegrationRule
from integrations.monitoring import figures
from moderation.models import HeldMessage, WordRule
from rooms.database import large_tables
from rooms.models import GatewayProcess, Message, Room, Status
from rooms.occupancy import store

register = template.Library()


@dataclass(frozen=True, kw_only=True)
class Card:
    """A figure on the first page: its number, what the number counts, and the list that its link opens."""

    value: str
    label: str
    note: str
    url: str
    tone: str = "plain"


@register.simple_tag
def dashboard_cards(user: AbstractBaseUser | AnonymousUser) -> list[Card]:
    """Return the cards whose lists the user has the permission to open."""
    if not isinstance(user, PermissionsMixin):
        return []
    return [card() for permission, card in CARDS if user.has_perm(permission)]


def _connected() -> Card:
    alive = GatewayProcess.objects.filter(store.is_alive())
    found = alive.aggregate(connections=Sum("connections", default=0), gateways=Count("pk"))
    return Card(
        value=f"{found['connections']:,}",
        label="connected now",
        note=f"{found['gateways']} gateway{'' if found['gateways'] == 1 else 's'}",
        url=reverse("admin:rooms_gatewayprocess_changelist"),
        tone="plain" if found["gateways"] else "bad",
    )


def _workers() -> Card:
    found = figures.workers()
    alive = [one for one in found if one.is_alive]
    calls = sum(one.calls for one in alive)
    silent = len(found) - len(alive)
    return Card(
        value=str(len(alive)),
        label="workers alive" if len(alive) != 1 else "worker alive",
        note=f"{calls:,} calls under way" if alive else f"{silent} silent: nothing is delivered",
        url=reverse("admin:integrations_workerprocess_changelist"),
        tone="plain" if alive else "bad",
    )


def _last_hour() -> Card:
    now = timezone.now()
    recent = large_tables.between(Message.objects.order_by("-pk"), "accepted_at", now - timedelta(hours=1), None)
    return Card(
        value=str(large_tables.count_up_to(recent)),
        label="messages in the last hour",
        note=f"about {large_tables.estimate(Message):,} in all",
        url=reverse("admin:rooms_message_changelist", query={"at": "hour"}),
    )


def _waiting() -> Card:
    waiting = Message.objects.filter(status__in=[Status.ACCEPTED, Status.APPROVED]).order_by("-pk")
    return Card(
        value=str(large_tables.count_up_to(waiting)),
        label="waiting for a verdict",
        note="a Lambda answers, or the deadline does",
        url=reverse("admin:rooms_message_changelist", query={"status": "waiting"}),
    )


def _held() -> Card:
    held = large_tables.count_up_to(HeldMessage.objects.filter(status=Status.HELD).order_by("-pk"))
    return Card(
        value=str(held),
        label="held for a moderator",
        note="publish or reject them" if held.number else "nothing to decide",
        url=reverse("admin:moderation_heldmessage_changelist"),
        tone="waiting" if held.number else "good",
    )


def _dead() -> Card:
    dead = large_tables.count_up_to(Delivery.objects.filter(state="dead").order_by("-pk"))
    return Card(
        value=str(dead),
        label="dead letters",
        note="events that no call delivered" if dead.number else "every event was delivered",
        url=reverse("admin:integrations_delivery_changelist", query={"state": "dead"}),
        tone="bad" if dead.number else "good",
    )


def _integration_rules() -> Card:
    on = IntegrationRule.objects.filter(enabled=True).count()
    off = IntegrationRule.objects.filter(enabled=False).count()
    return Card(
        value=str(on),
        label="integration rules on",
        note=f"{off} off",
        url=reverse("admin:integrations_integrationrule_changelist"),
    )


def _word_rules() -> Card:
    on = WordRule.objects.filter(enabled=True).count()
    off = WordRule.objects.filter(enabled=False).count()
    return Card(
        value=str(on), label="word rules on", note=f"{off} off", url=reverse("admin:moderation_wordrule_changelist")
    )


def _rooms() -> Card:
    listed = Room.objects.filter(listed=True).order_by("name")
    return Card(
        value=str(large_tables.count_up_to(Room.objects.order_by("name"))),
        label="rooms",
        note=f"{large_tables.count_up_to(listed)} listed",
        url=reverse("admin:rooms_room_changelist"),
    )


def _keys() -> Card:
    return Card(
        value=str(large_tables.count_up_to(ApiKey.objects.filter(revoked_at__isnull=True).order_by("-pk"))),
        label="API keys in use",
        note="",
        url=reverse("admin:integrations_apikey_changelist"),
    )


CARDS: tuple[tuple[str, Callable[[], Card]], ...] = (
    ("moderation.view_heldmessage", _held),
    ("integrations.view_delivery", _dead),
    ("rooms.view_gatewayprocess", _connected),
    ("integrations.view_workerprocess", _workers),
    ("rooms.view_message", _last_hour),
    ("rooms.view_message", _waiting),
    ("rooms.view_room", _rooms),
    ("integrations.view_integrationrule", _integration_rules),
    ("moderation.view_wordrule", _word_rules),
    ("integrations.view_apikey", _keys),
)
