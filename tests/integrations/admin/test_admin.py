"""Alice runs the integrations, Vera may only look, Bob is no staff, Charlie is nobody."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client

from integrations.access import keys
from integrations.models import ApiKey, Attempt, Delivery, DeliveryState, IntegrationRule, Lane, UsedNonce
from integrations.outbox import recovery_queries
from rooms.access.capabilities import Capability
from rooms.models import Message
from tests.admin_pages import act, plans_of, sequential_scans, sign_in, told
from tests.integrations.world import add_room, add_rule, now, publish

KEYS = "/admin/integrations/apikey/"
RULES = "/admin/integrations/integrationrule/"
DELIVERIES = "/admin/integrations/delivery/"
MODELS = (
    "apikey", "usednonce", "integrationrule", "delivery", "attempt", "lane", "notice", "workerprocess", "callbackuse",
    "revocation", "authortrust",
)  # fmt: skip
VIEW = (*(f"integrations.view_{model}" for model in MODELS), "rooms.view_message")
RUN = (
    "integrations.add_apikey", "integrations.change_apikey", "integrations.add_integrationrule",
    "integrations.change_integrationrule", "integrations.delete_integrationrule", "integrations.change_delivery",
)  # fmt: skip

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("webhooks_only")]


@pytest.fixture
def alice() -> Client:
    return sign_in("alice", *VIEW, *RUN)


@pytest.fixture
def vera() -> Client:
    return sign_in("vera", *VIEW)


def deliver(state: DeliveryState = DeliveryState.DELIVERED) -> Delivery:
    """Publish a message to a rule, and end what it owes."""
    add_rule()
    publish(add_room(f"room-{Message.objects.count()}"), "<b>hello</b>")
    delivery = Delivery.objects.latest("pk")
    Delivery.objects.filter(pk=delivery.pk).update(
        state=state, finished_at=now(), attempts=1, last_status=200, last_error=""
    )
    Attempt.objects.create(
        delivery=delivery, number=1, started_at=now(), duration_ms=12.5, status=200, response="<i>ok"
    )
    delivery.refresh_from_db()
    return delivery


# --- Who may ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_only_staff_with_permission_sees_the_pages(model: str, alice: Client) -> None:
    url = f"/admin/integrations/{model}/"
    assert alice.get(url).status_code == 200
    assert sign_in("mallory").get(url).status_code == 403
    for client in (sign_in("bob", *VIEW, *RUN, is_staff=False), Client()):
        assert client.get(url).status_code == 302


def test_nobody_makes_a_delivery_by_hand() -> None:
    delivery = deliver()
    root = sign_in("root", *VIEW, *(f"integrations.{verb}_delivery" for verb in ("add", "change", "delete")))
    assert root.get(f"{DELIVERIES}add/").status_code == 403
    assert root.post(f"{DELIVERIES}{delivery.pk}/change/", {"state": "pending"}).status_code == 403
    assert root.post(f"{DELIVERIES}{delivery.pk}/delete/", {"post": "yes"}).status_code == 403


def test_whoever_may_only_look_changes_nothing(vera: Client) -> None:
    key, rule, delivery = keys.create(keys.EVERYTHING).row, add_rule(), deliver(DeliveryState.DEAD)
    act(vera, KEYS, "revoke", key.pk)
    act(vera, RULES, "disable", rule.pk)
    act(vera, DELIVERIES, "resend", delivery.pk)
    assert vera.get(f"{KEYS}add/").status_code == 403
    assert vera.get(f"{RULES}add/").status_code == 403
    key.refresh_from_db()
    rule.refresh_from_db()
    delivery.refresh_from_db()
    assert (key.revoked_at, rule.enabled, delivery.state) == (None, True, DeliveryState.DEAD)


# --- Keys -------------------------------------------------------------------------------------------------


def test_a_new_key_is_shown_once_and_works(alice: Client) -> None:
    page = alice.post(f"{KEYS}add/", {"label": "sign", "capability": '{"lobby": ["subscribe"]}'})
    assert page.status_code == 200
    assert "no-store" in page["Cache-Control"]
    (text,) = re.findall(r'class="secret">([^<]+)<', page.content.decode())
    name, secret = keys.split_key(text)
    found = keys.check_secret(name, keys.find([name])[name], secret, time.time())
    assert found.capability == Capability.parse('{"lobby": ["subscribe"]}')
    row = ApiKey.objects.get(label="sign")
    for url in (KEYS, f"{KEYS}{row.pk}/change/", "/admin/"):
        assert secret.encode() not in alice.get(url).content
    assert not LogEntry.objects.filter(change_message__contains=secret).exists()
    assert secret not in str(alice.cookies) + str(dict(alice.session))


@pytest.mark.parametrize("capability", ["{", "[]", '{"lobby": ["fly"]}', "{}", '{"lobby": []}', ""])
def test_a_capability_that_is_none_is_refused_at_its_field(capability: str, alice: Client) -> None:
    page = alice.post(f"{KEYS}add/", {"label": "sign", "capability": capability})
    assert list(page.context["adminform"].form.errors) == ["capability"]
    assert not ApiKey.objects.exists()


def test_revoking_ends_keys_and_says_how_many(alice: Client) -> None:
    first, second = keys.create(keys.EVERYTHING).row, keys.create(keys.EVERYTHING).row
    keys.revoke(first.name, now())
    page = act(alice, KEYS, "revoke", first.pk, second.pk)
    assert told(page) == ["1 key revoked; connections that use them end within a second."]
    sources = [(first.name, 1), (second.name, 1)]
    assert keys.list_ended(sources, now()) == set(sources)


# --- Rules ------------------------------------------------------------------------------------------------


def wanted(**changed: str) -> dict[str, str]:
    defaults = {
        "name": "filter",
        "events": ["channel.message"],
        "room_filter": "^lobby$",
        "when": "before",
        "order": "0",
    }
    target = {"url": "http://127.0.0.1:9/hook", "enveloped": "on", "headers": "{}", "at_deadline": "reject"}
    return {**defaults, **target, "budget_seconds": "", **changed}


def test_a_new_rule_shows_its_signing_secret_once(alice: Client) -> None:
    page = alice.post(f"{RULES}add/", wanted())
    (secret,) = re.findall(r'class="secret">([^<]+)<', page.content.decode())
    rule = IntegrationRule.objects.get()
    assert (rule.name, rule.when, rule.room_filter, rule.headers) == ("filter", "before", "^lobby$", {})
    for url in (RULES, f"{RULES}{rule.pk}/change/"):
        assert secret.encode() not in alice.get(url).content


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"room_filter": "("}, "room_filter"),
        ({"url": "ftp://example.com"}, "url"),
        ({"url": "http://10.0.0.1/"}, "url"),
        ({"url": "http://[::ffff:169.254.169.254]/latest"}, "url"),
        ({"headers": '{"webhook-id": "x"}'}, "headers"),
        ({"headers": "[1]"}, "headers"),
        ({"name": "a\x01b"}, "__all__"),
        ({"budget_seconds": "-1"}, "__all__"),
    ],
)
def test_a_rule_that_cannot_work_is_refused_at_its_field(changed: dict[str, str], field: str, alice: Client) -> None:
    page = alice.post(f"{RULES}add/", wanted(**changed))
    assert page.status_code == 200
    assert field in page.context["adminform"].form.errors
    assert not IntegrationRule.objects.exists()


def test_rules_are_turned_off_and_on(alice: Client) -> None:
    rule = add_rule()
    assert told(act(alice, RULES, "disable", rule.pk)) == ["1 rule turned off."]
    rule.refresh_from_db()
    assert not rule.enabled
    assert told(act(alice, RULES, "enable", rule.pk)) == ["1 rule turned on."]
    rule.refresh_from_db()
    assert rule.enabled


def test_a_new_secret_replaces_the_old_one(alice: Client) -> None:
    rule = add_rule()
    page = act(alice, RULES, "rotate", rule.pk)
    assert len(re.findall(r'class="secret">whsec_[^<]+<', page.content.decode())) == 1
    assert bytes(IntegrationRule.objects.get().sealed_secret) != bytes(rule.sealed_secret)


def test_a_rule_is_removed_with_what_it_owes(alice: Client) -> None:
    delivery = deliver()
    url = f"{RULES}{delivery.rule_id}/delete/"
    assert b"with all its deliveries" in alice.get(url).content
    alice.post(url, {"post": "yes"})
    assert not IntegrationRule.objects.exists()
    assert not Delivery.objects.exists()


def test_the_query_of_a_target_is_not_in_the_list(alice: Client) -> None:
    add_rule("http://127.0.0.1:9/hook?token=canary")
    assert b"canary" not in alice.get(RULES).content


# --- Deliveries -------------------------------------------------------------------------------------------


def test_a_dead_letter_is_sent_again_under_its_old_id(alice: Client) -> None:
    dead = deliver(DeliveryState.DEAD)
    before = dead.webhook_id
    assert told(act(alice, DELIVERIES, "resend", dead.pk)) == [
        "1 delivery on the way again, under the same webhook id."
    ]
    dead.refresh_from_db()
    assert (dead.state, dead.finished_at, dead.webhook_id) == (DeliveryState.PENDING, None, before)
    assert "1 delivery left as before" in told(act(alice, DELIVERIES, "resend", dead.pk))[0]


def test_a_delivery_is_found_by_its_message_and_by_its_webhook_id(alice: Client) -> None:
    wanted, _other = deliver(), deliver()
    for term in (wanted.message.message_id, str(wanted.message_id), wanted.webhook_id):
        found = alice.get(DELIVERIES, {"q": term}).context["cl"].result_list
        assert [row.webhook_id for row in found] == [wanted.webhook_id]


def test_the_states_that_matter_are_found(alice: Client) -> None:
    add_rule(when="before")
    publish(add_room("waiting"), "hello")
    waiting = Delivery.objects.latest("pk")
    IntegrationRule.objects.update(enabled=False)
    dead, delivered = deliver(DeliveryState.DEAD), deliver()
    lists = {
        state: {row.pk for row in alice.get(DELIVERIES, {"state": state}).context["cl"].result_list}
        for state in ("unfinished", "dead", "")
    }
    assert waiting.pk in lists["unfinished"]
    assert lists["dead"] == {dead.pk}
    assert {waiting.pk, dead.pk, delivered.pk} <= lists[""]


def test_what_is_sent_and_answered_is_escaped(alice: Client) -> None:
    delivery = deliver()
    html = alice.get(f"{DELIVERIES}{delivery.pk}/change/").content
    assert b"<b>hello" not in html
    assert b"<i>ok" not in html
    assert b"&lt;i&gt;ok" in html
    attempt = Attempt.objects.get()
    assert b"<i>ok" not in alice.get(f"/admin/integrations/attempt/{attempt.pk}/change/").content


def test_the_journey_of_a_message_names_the_rules_that_were_told(alice: Client) -> None:
    delivery = deliver()
    journey = alice.get(f"/admin/rooms/message/{delivery.message_id}/change/").context["journey"]
    (step,) = [step for step in journey if step.title.startswith("Told rule")]
    assert delivery.rule.name in step.title
    assert step.detail == "answered with 2xx, 1 call (200)"


def test_other_lists_show_their_rows(alice: Client) -> None:
    delivery = deliver()
    key = keys.create(keys.EVERYTHING).row
    UsedNonce.objects.create(key=key, nonce="n0nce", expires_at=now() + timedelta(minutes=1))
    for url in ("usednonce/", "lane/", "attempt/", f"attempt/?q={delivery.message_id}", "lane/?room=room-0"):
        page = alice.get(f"/admin/integrations/{url}")
        assert len(page.context["cl"].result_list) == 1, url
    for model, pk in (("usednonce", UsedNonce.objects.get().pk), ("lane", Lane.objects.get().pk), ("apikey", key.pk)):
        assert alice.get(f"/admin/integrations/{model}/{pk}/change/").status_code == 200


# --- Many deliveries --------------------------------------------------------------------------------------

MANY = 50_000
MAKE_DELIVERIES = """
INSERT INTO integrations_delivery (rule_id, room_id, message_id, event, serial, in_lane, webhook_id, payload, state,
    attempts, forgiven, due_at, owner, last_error, answer, created_at, finished_at)
SELECT %(rule)s, message.room_id, message.id, 'channel.message', message.serial, true, 'msg_' || message.id, '{}',
    CASE WHEN message.id %% 997 = 0 THEN 'dead' WHEN message.id %% 5003 = 0 THEN 'pending' ELSE 'delivered' END,
    1, 0, now(), '', '', '', message.accepted_at,
    CASE WHEN message.id %% 5003 = 0 AND message.id %% 997 <> 0 THEN NULL ELSE now() END
FROM rooms_message AS message ORDER BY message.id;
INSERT INTO integrations_attempt (delivery_id, number, worker, started_at, duration_ms, status, error, response, events,
    by_stand_in)
SELECT id, 1, 'w', created_at, 10, 200, '', 'ok', 1, false FROM integrations_delivery ORDER BY id;
"""
MAKE_QUESTIONS = """
INSERT INTO integrations_delivery (rule_id, room_id, message_id, event, serial, in_lane, webhook_id, payload, state,
    attempts, forgiven, due_at, deadline, owner, last_error, answer, created_at, finished_at)
SELECT %(rule)s, room_id, id, 'channel.message', 0, false, 'msg_' || id, '{}', 'delivered', 1, 0, now(), %(deadline)s,
    '', '', '{"action":"publish"}', accepted_at, now()
FROM rooms_message ORDER BY id LIMIT 10000
"""
MAKE_MESSAGES = """
INSERT INTO rooms_message (room_id, message_id, author, client_id, text, status, action, serial, created_serial,
    published_at, accepted_at, awaiting, at_deadline, reason, origin)
SELECT %(room)s, 'm:' || n, 'a', 'c', 'text', 'published', 0, n, n, now(), now() - (%(many)s - n) * interval '1 second',
    '', '', '', ''
FROM generate_series(1, %(many)s) AS n
"""


@pytest.fixture(scope="module")
def many(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """A busy rule and one that hardly anything happens to."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        room = add_room()
        rule = IntegrationRule.objects.create(name="busy", url="http://127.0.0.1/", sealed_secret=b"x")
        IntegrationRule.objects.create(name="quiet", url="http://127.0.0.1/", sealed_secret=b"x")
        main = IntegrationRule.objects.create(name="main", when="before", sealed_secret=b"x")
        shadow = IntegrationRule.objects.create(name="shadow", when="before", shadow_of=main, sealed_secret=b"x")
        cursor.execute(MAKE_MESSAGES, {"room": room.pk, "many": MANY})
        cursor.execute(MAKE_DELIVERIES, {"rule": rule.pk})
        for one, deadline in ((main, now()), (shadow, None)):
            cursor.execute(MAKE_QUESTIONS, {"rule": one.pk, "deadline": deadline})
        cursor.execute("VACUUM ANALYZE rooms_message, rooms_room, integrations_delivery, integrations_attempt")
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE rooms_room, integrations_integrationrule CASCADE")


@pytest.mark.parametrize(
    "page",
    [
        "delivery/", "delivery/?p=200", "delivery/?state=dead", "delivery/?state=unfinished", "delivery/?at=hour",
        "delivery/?rule__id__exact={rule}", "delivery/?rule__id__exact={quiet}", "delivery/?q=m:4711",
        "delivery/?rule__id__exact={rule}&state=dead", "delivery/?q=msg_4711", "delivery/{delivery}/change/",
        "attempt/", "attempt/?at=hour", "attempt/?q=m:4711", "attempt/?p=200", "integrationrule/", "lane/",
        "integrationrule/{rule}/change/", "integrationrule/{rule}/change/?hours=24", "integrationrule/{main}/change/",
        "integrationrule/{quiet}/change/", "integrationrule/{shadow}/compare/", "callbackuse/?q=m:4711",
    ],
)  # fmt: skip
def test_no_page_reads_the_large_tables_from_end_to_end(page: str, many: None, alice: Client) -> None:
    rules = dict(IntegrationRule.objects.values_list("name", "pk"))
    delivery = Delivery.objects.order_by("pk").values_list("pk", flat=True)[100]
    address = page.format(rule=rules["busy"], delivery=delivery, **rules)
    large = {"rooms_message", "integrations_delivery", "integrations_attempt"}
    for sql, plan in plans_of(alice, f"/admin/integrations/{address}"):
        assert not large.intersection(sequential_scans(plan)), sql


@pytest.mark.parametrize("state", ["dead", "delivered"])
def test_what_is_replayed_is_not_looked_for_in_the_whole_table(state: str, many: None) -> None:
    rule = IntegrationRule.objects.get(name="busy").pk
    sql = recovery_queries.FIND_DEAD_TO_REPLAY if state == "dead" else recovery_queries.FIND_TO_REPLAY
    values = [rule, [state], None, None, None, None, "", "", 0, 1000]
    with connection.cursor() as cursor:
        cursor.execute("EXPLAIN (FORMAT JSON) " + sql.replace("%b", "%s"), values)
        plan = cursor.fetchone()[0][0]["Plan"]
    assert not list(sequential_scans(plan))
    if state == "dead":
        assert "delivery_dead" in str(plan)


def test_the_overview_counts_dead_letters_by_their_index(many: None) -> None:
    alice = sign_in("boss", *VIEW, "moderation.view_heldmessage", "moderation.view_wordrule", "rooms.view_room")
    page = alice.get("/admin/")
    assert f"<strong>{Delivery.objects.filter(state='dead').count()}</strong>" in page.content.decode()
    for sql, plan in plans_of(alice, "/admin/"):
        assert not {"rooms_message", "integrations_delivery"}.intersection(sequential_scans(plan)), sql


def test_the_overview_shows_only_what_one_may_see() -> None:
    assert b"dead letters" in sign_in("one", "integrations.view_delivery").get("/admin/").content
    assert b"dead letters" not in sign_in("two", "rooms.view_room").get("/admin/").content
