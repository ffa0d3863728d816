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

from integrations.models import ApiKey, Delivery, DeliveryState, IntegrationRule
from integrations.monitoring import figures
from moderation.models import HeldMessage, WordRule
from rooms.admin.cells import plural
from rooms.database import large_tables
from rooms.database.large_tables import count_up_to
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


def _card(value: object, label: str, note: str, page: str, *, tone: str = "plain", **query: str) -> Card:
    """Return a card that links to the list `page`, such as "rooms_room"."""
    url = reverse(f"admin:{page}_changelist", query=query or None)
    return Card(value=str(value), label=label, note=note, url=url, tone=tone)


def _connected() -> Card:
    alive = GatewayProcess.objects.filter(store.is_alive())
    found = alive.aggregate(connections=Sum("connections", default=0), gateways=Count("pk"))
    tone = "plain" if found["gateways"] else "bad"
    gateways = plural(found["gateways"], "gateway")
    return _card(f"{found['connections']:,}", "connected now", gateways, "rooms_gatewayprocess", tone=tone)


def _workers() -> Card:
    found = figures.workers()
    alive = [one for one in found if one.is_alive]
    label = "workers alive" if len(alive) != 1 else "worker alive"
    if not alive:
        note = f"{len(found)} silent: nothing is delivered"
        return _card(0, label, note, "integrations_workerprocess", tone="bad")
    calls = sum(one.calls for one in alive)
    return _card(len(alive), label, f"{calls:,} calls under way", "integrations_workerprocess")


def _last_hour() -> Card:
    hour_ago = timezone.now() - timedelta(hours=1)
    recent = large_tables.between(Message.objects.order_by("-pk"), "accepted_at", hour_ago, None)
    note = f"about {large_tables.estimate(Message):,} in all"
    return _card(count_up_to(recent), "messages in the last hour", note, "rooms_message", at="hour")


def _waiting() -> Card:
    waiting = Message.objects.filter(status__in=[Status.ACCEPTED, Status.APPROVED]).order_by("-pk")
    note = "a Lambda answers, or the deadline does"
    return _card(count_up_to(waiting), "waiting for a verdict", note, "rooms_message", status="waiting")


def _held() -> Card:
    held = count_up_to(HeldMessage.objects.filter(status=Status.HELD).order_by("-pk"))
    note, tone = ("publish or reject them", "waiting") if held.number else ("nothing to decide", "good")
    return _card(held, "held for a moderator", note, "moderation_heldmessage", tone=tone)


def _dead() -> Card:
    dead = count_up_to(Delivery.objects.filter(state=DeliveryState.DEAD).order_by("-pk"))
    note, tone = ("events that no call delivered", "bad") if dead.number else ("every event was delivered", "good")
    return _card(dead, "dead letters", note, "integrations_delivery", tone=tone, state="dead")


def _rules(model: type[IntegrationRule | WordRule], label: str) -> Card:
    on = model._default_manager.filter(enabled=True).count()
    off = model._default_manager.filter(enabled=False).count()
    return _card(on, label, f"{off} off", f"{model._meta.app_label}_{model._meta.model_name}")


def _rooms() -> Card:
    listed = count_up_to(Room.objects.filter(listed=True).order_by("name"))
    return _card(count_up_to(Room.objects.order_by("name")), "rooms", f"{listed} listed", "rooms_room")


def _keys() -> Card:
    used = ApiKey.objects.filter(revoked_at__isnull=True).order_by("-pk")
    return _card(count_up_to(used), "API keys in use", "", "integrations_apikey")


CARDS: tuple[tuple[str, Callable[[], Card]], ...] = (
    ("moderation.view_heldmessage", _held),
    ("integrations.view_delivery", _dead),
    ("rooms.view_gatewayprocess", _connected),
    ("integrations.view_workerprocess", _workers),
    ("rooms.view_message", _last_hour),
    ("rooms.view_message", _waiting),
    ("rooms.view_room", _rooms),
    ("integrations.view_integrationrule", lambda: _rules(IntegrationRule, "integration rules on")),
    ("moderation.view_wordrule", lambda: _rules(WordRule, "word rules on")),
    ("integrations.view_apikey", _keys),
)
