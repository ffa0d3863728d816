"""What Alice sees of a rule and of a delivery, and what Vera, who may only look, does not."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
from django.test import Client

from integrations.access import keys
from integrations.admin.deliveries import request_view
from integrations.admin.rules import trials
from integrations.models import (
    ApiKey,
    Attempt,
    AuthorTrust,
    CallbackUse,
    Delivery,
    DeliveryState,
    IntegrationRule,
    Notice,
    Revocation,
    RuleHealth,
    RuleMinute,
    RuleThrottle,
    WorkerProcess,
)
from integrations.monitoring import notices
from integrations.rules import rules
from integrations.secrets import signing_secrets
from integrations.wire import signing
from integrations.worker import targets
from rooms.database.threads import run
from tests.admin_pages import act, sign_in, told
from tests.integrations.admin.test_admin import DELIVERIES, KEYS, RULES, RUN, VIEW, deliver, wanted
from tests.integrations.receiver import Receiver
from tests.integrations.world import add_room, add_rule, now, publish
from tests.patience import PATIENCE

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("webhooks_only")]


@pytest.fixture
def alice() -> Client:
    return sign_in("alice", *VIEW, *RUN)


@pytest.fixture
def vera() -> Client:
    return sign_in("vera", *VIEW)


def asked(**wanted: Any) -> Delivery:
    """Publish a message that waits for a rule's verdict."""
    add_rule(**{"when": "before", **wanted})
    publish(add_room(), "hello")
    return Delivery.objects.latest("pk")


# --- A delivery -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [{}, {"batched": True}, {"enveloped": False}])
def test_the_command_of_a_delivery_is_a_call_that_the_receiver_believes(shape: dict[str, Any], alice: Client) -> None:
    delivery = asked(headers={"authorization": "Bearer it's"}, **shape)
    view = alice.get(f"{DELIVERIES}{delivery.pk}/change/").context["request_view"]
    words = shlex.split(view.curl.replace("\\\n", ""))
    headers = dict(word.split(": ", 1) for before, word in pairwise(words) if before == "--header")
    body = words[words.index("--data-raw") + 1].encode()
    signing.verify(signing_secrets.signing_secrets(delivery.rule, now()), headers, body, now=now().timestamp())
    assert headers["webhook-id"] == delivery.webhook_id
    assert headers["authorization"] == "Bearer it's"
    assert words[words.index("POST") + 1] == delivery.rule.url


@pytest.mark.parametrize("text", ["\x03\nrm -rf ~ #", "\x7f\x7f'; id", "\x9b201~\r", "\x1b[201~%s\\x41", "\u202eabc"])
def test_who_writes_a_message_types_nothing_into_the_shell_where_its_command_is_pasted(text: str) -> None:
    add_rule(when="before", enveloped=False)
    publish(add_room(), text)
    view = request_view.of_delivery(Delivery.objects.latest("pk"), now=now(), may_call=True)
    (printed, _, call) = view.curl.partition(" | ")

    assert view.curl.replace("\n", "").isprintable()
    assert call.startswith("curl ")
    assert subprocess.run(["sh", "-c", printed], capture_output=True, check=True).stdout == text.encode()


@pytest.mark.parametrize("shape", [{}, {"batched": True}, {"enveloped": False}])
def test_no_page_shows_a_token_that_decides(shape: dict[str, Any], alice: Client) -> None:
    delivery = asked(**shape)
    request = targets.prepare(delivery.rule, [request_view.claimed_of(delivery)], app_id="a", now=now())
    token = request.headers.get("x-callback-token") or re.findall(r'"token":"([^"]+)"', request.body.decode())[0]
    html = alice.get(f"{DELIVERIES}{delivery.pk}/change/").content.decode()
    assert len(token) > 40
    # The claims are the same for each call about a message; the whole token need not be.
    assert token.partition(".")[2] not in html
    assert token.partition(".")[0] not in html


def test_whoever_may_only_look_sees_neither_the_command_nor_what_the_rule_adds_to_calls(vera: Client) -> None:
    delivery = asked(url="http://127.0.0.1:9/hook?key=canary-1", headers={"authorization": "canary-2"})
    for address in (f"{DELIVERIES}{delivery.pk}/change/", f"{RULES}"):
        page = vera.get(address)
        assert b"canary" not in page.content
        assert b"data-copy" not in page.content


def test_a_delivery_shows_its_calls_and_its_verdict(alice: Client) -> None:
    delivery = asked()
    verdict = '{"action":"reject","reason":"<b>spam","code":40033,"detail":{"score":1}}'
    Delivery.objects.filter(pk=delivery.pk).update(answer=verdict, attempts=2)
    for number, status in ((1, None), (2, 200)):
        Attempt.objects.create(
            delivery=delivery, number=number, started_at=now(), duration_ms=7, status=status, by_stand_in=number == 2
        )
    page = alice.get(f"{DELIVERIES}{delivery.pk}/change/")
    html = page.content.decode()
    assert page.context["verdict"].title == "Refused"
    assert [call.attempt.number for call in page.context["calls"]] == [2, 1]
    assert "&lt;b&gt;spam" in html
    assert "answered by the stand-in" in html


def test_an_event_that_no_message_belongs_to_has_its_page(alice: Client) -> None:
    delivery = deliver()
    payload = '{"status":{"isActive":true,"occupancy":{"metrics":{"connections":1}}}}'
    Delivery.objects.filter(pk=delivery.pk).update(message=None, event="channel.occupancy", payload=payload)
    page = alice.get(f"{DELIVERIES}{delivery.pk}/change/")
    assert json.loads(page.context["request_view"].body)["event"] == "channel.occupancy"


# --- A rule -----------------------------------------------------------------------------------------------


def test_a_delivery_without_a_call_of_its_own_says_that_its_verdict_was_shared(alice: Client) -> None:
    delivery = asked()
    waiting = str(alice.get(DELIVERIES).content)
    Delivery.objects.filter(pk=delivery.pk).update(
        state=DeliveryState.DELIVERED, finished_at=now(), attempts=1, answer='{"action":"publish"}'
    )
    done = str(alice.get(DELIVERIES).content)
    page = alice.get(f"{DELIVERIES}{delivery.pk}/change/").content.decode()

    assert ("none yet" in waiting, "shared" in waiting) == (True, False)
    assert ("none yet" in done, "shared" in done) == (False, True)
    assert "Verdict shared" in page
    assert "The newest 0 of" not in page


def test_the_page_of_a_rule_tells_how_its_target_does(vera: Client) -> None:
    delivery = deliver(DeliveryState.DEAD)
    rule = delivery.rule
    RuleMinute.objects.create(
        rule=rule, minute=now().replace(second=0, microsecond=0), calls=4, failed=1, buckets=[0] * 10 + [4]
    )
    worker = WorkerProcess.objects.create(name="w", host="h", pid=1)
    RuleThrottle.objects.create(worker=worker, rule=rule, breaker="open", limit=3)
    page = vera.get(f"{RULES}{rule.pk}/change/?hours=24")
    facts = {fact.label: fact.value for fact in page.context["facts"]}
    assert facts["succeeded"] == "75.0%"
    assert (facts["breaker"], facts["dead letters"]) == ("open", "1")
    assert "The circuit breaker has been open" in page.content.decode()
    assert [(one.name, one.breaker, one.limit) for one in page.context["workers"]] == [("w", "open", "3")]
    assert page.content.decode().count('<svg class="chart') == 2
    assert [row.delivery.pk for row in page.context["rows"]] == [delivery.pk]
    assert b"Send test event" not in page.content  # Vera may only look


def test_a_rule_is_edited_and_keeps_its_secret(alice: Client) -> None:
    rule = add_rule(when="before", name="filter")
    page = alice.post(f"{RULES}{rule.pk}/edit/", wanted(name="new name", late="apply", timeout_seconds="2.5"))
    assert page.status_code == 302, page.context["adminform"].form.errors
    changed = IntegrationRule.objects.get()
    assert (changed.name, changed.late, changed.timeout_seconds) == ("new name", "apply", 2.5)
    assert bytes(changed.sealed_secret) == bytes(rule.sealed_secret)
    assert changed.changed_at > rule.changed_at


def test_a_rule_cannot_change_sides(alice: Client) -> None:
    rule = add_rule(when="after", name="filter")
    alice.post(f"{RULES}{rule.pk}/edit/", wanted(when="before"))
    assert IntegrationRule.objects.get().when == "after"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"author_filter": "("}, "author_filter"),
        ({"url": "http://169.254.169.254/"}, "url"),
        ({"sample_percent": "0"}, "__all__"),
        ({"target": "lambda", "url": "", "function": "no spaces"}, "__all__"),
        ({"at_deadline_new": "explode"}, "at_deadline_new"),
    ],
)
def test_an_edit_that_cannot_work_changes_nothing(changed: dict[str, str], field: str, alice: Client) -> None:
    rule = add_rule(when="before", name="filter")
    page = alice.post(f"{RULES}{rule.pk}/edit/", wanted(**changed))
    assert field in page.context["adminform"].form.errors
    rule.refresh_from_db()
    assert rules.spec_of(rule) == replace(rules.spec_of(rule), room_filter="", author_filter="")


def test_aws_keys_are_stored_sealed_and_never_shown(alice: Client) -> None:
    kept = {"target": "function-url", "region": "eu-central-1"}
    alice.post(f"{RULES}add/", wanted(**kept, access_key_id="AKIA1", secret_access_key="canary"))
    rule = IntegrationRule.objects.get()
    assert rule.sealed_credentials is not None
    for word in ("change", "edit"):
        assert b"canary" not in alice.get(f"{RULES}{rule.pk}/{word}/").content
    alice.post(f"{RULES}{rule.pk}/edit/", wanted(**kept, forget_credentials="on"))
    assert IntegrationRule.objects.get().sealed_credentials is None


@pytest.mark.parametrize("word", ["edit", "test", "replay"])
def test_whoever_may_only_look_comes_to_no_page_that_acts(word: str, vera: Client) -> None:
    rule = add_rule(name="filter")
    address = f"{RULES}{rule.pk}/{word}/"
    assert vera.get(address).status_code == 403
    assert vera.post(address, wanted(name="mine")).status_code == 403
    assert IntegrationRule.objects.get().name == "filter"


def test_a_shadow_is_compared_with_its_rule_for_those_who_may_read_messages(alice: Client) -> None:
    main = add_rule(when="before", name="main")
    shadow = add_rule(when="before", name="shadow", shadow_of=main)
    page = alice.get(f"{RULES}{shadow.pk}/compare/")
    assert page.context["comparison"].compared == 0
    assert alice.get(f"{RULES}{main.pk}/compare/").status_code == 404
    blind = sign_in("blind", "integrations.view_integrationrule")
    assert blind.get(f"{RULES}{shadow.pk}/compare/").status_code == 403


def test_a_second_stand_in_is_refused_before_anything_changes(alice: Client) -> None:
    main = add_rule(when="before", name="main")
    add_rule(when="before", name="first", shadow_of=main, stands_in=True)
    second = add_rule(when="before", name="second", shadow_of=main)
    said = wanted(name="second", shadow_of=str(main.pk), stands_in="on")
    page = alice.post(f"{RULES}{second.pk}/edit/", said)
    assert "stands in for" in str(page.context["adminform"].form.errors)
    second.refresh_from_db()
    assert not second.stands_in


def test_where_a_shadow_differs_is_counted_and_shown(alice: Client) -> None:
    main = add_rule(when="before", name="main")
    # Off, so that publishing asks the main rule alone.
    shadow = IntegrationRule.objects.create(
        name="shadow", when="before", shadow_of=main, sealed_secret=b"x", enabled=False
    )
    publish(add_room(), "<i>hello")
    asked = Delivery.objects.get(rule=main)
    Delivery.objects.filter(pk=asked.pk).update(state="delivered", finished_at=now(), answer='{"action":"publish"}')
    Delivery.objects.create(
        rule=shadow, room=asked.room, message=asked.message, webhook_id="msg_2", payload="{}", state="delivered",
        answer='{"action":"hold","reason":"rude"}', due_at=now(), created_at=now(), finished_at=now(),
    )  # fmt: skip
    page = alice.get(f"{RULES}{shadow.pk}/compare/")
    assert page.context["comparison"].actions == {("publish", "hold"): 1}
    assert "&lt;i&gt;hello" in page.content.decode()
    assert "rude" in page.content.decode()


def test_dead_letters_are_replayed_under_their_old_ids(alice: Client) -> None:
    dead = deliver(DeliveryState.DEAD)
    delivered = deliver()
    page = alice.post(f"{RULES}{dead.rule_id}/replay/", {"state": "dead", "event": ""}, follow=True)
    assert told(page) == ["1 delivery on the way again, in their old order."]
    states = dict(Delivery.objects.values_list("pk", "state"))
    assert (states[dead.pk], states[delivered.pk]) == ("pending", "delivered")


def test_everything_ever_delivered_is_not_replayed_by_a_slip(alice: Client) -> None:
    delivery = deliver()
    address = f"{RULES}{delivery.rule_id}/replay/"
    page = alice.post(address, {"state": "delivered", "event": ""})
    assert "Say since when" in str(page.context["form"].errors)
    since = (now() - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M")
    alice.post(address, {"state": "delivered", "event": "", "since": since})
    assert Delivery.objects.get().state == "pending"


@pytest.mark.django_db(transaction=True)
async def test_a_test_event_is_a_real_call_and_leaves_nothing_behind(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: (200, {"action": "modify", "message": {"data": "*"}, "reason": "cabbage"})
    rule = await run(add_rule, receiver.url, when="before")
    said = {"event": "channel.message", "room": "lobby", "author": "ada", "text": "cabbage"}
    trial = await run(trials.send, rule, said, now=now(), may_call=True)
    (request,) = receiver.requests
    signing.verify(signing_secrets.signing_secrets(rule, now()), request.headers, request.body, now=now().timestamp())
    assert request.texts == ["cabbage"]
    assert (trial.is_good, trial.status, trial.verdict.action, trial.verdict.text) == (True, 200, "replace", "*")
    assert not await run(Delivery.objects.exists)
    receiver.behaviour = lambda request: (302, "", {"location": "http://10.0.0.1/"})
    trial = await run(trials.send, rule, said, now=now(), may_call=True)
    assert (trial.is_good, trial.status) == (False, 302)
    assert "Redirects are not followed" in trial.problem


def test_a_rule_is_removed_together_with_its_shadow(alice: Client) -> None:
    main = add_rule(when="before", name="main")
    shadow = add_rule(when="before", name="shadow", shadow_of=main)
    page = act(alice, RULES, "delete_selected", main.pk, shadow.pk)
    assert b"its shadow shadow" in page.content
    act(alice, RULES, "delete_selected", main.pk, shadow.pk, post="yes")
    assert not IntegrationRule.objects.exists()


# --- What admins must know --------------------------------------------------------------------------------


def test_a_notice_stands_on_the_first_page_until_somebody_dismisses_it() -> None:
    notice = notices.write("It <fails>", now=now(), rule_id=add_rule().pk)
    assert notice is not None
    boss = sign_in("boss", "integrations.view_notice", "integrations.change_notice")
    guest = sign_in("guest", "integrations.view_notice")
    dismiss = f"/admin/integrations/notice/{notice.pk}/dismiss/"
    assert "It &lt;fails&gt;" in boss.get("/admin/").content.decode()
    assert b"Dismiss" not in guest.get("/admin/").content
    assert guest.post(dismiss).status_code == 403
    assert boss.get(dismiss).status_code == 405
    assert b"fails" not in boss.post(dismiss, follow=True).content
    assert Notice.objects.get().dismissed_by == "boss"
    assert b"fails" not in sign_in("nobody").get("/admin/").content


def test_rules_in_trouble_come_first_on_the_first_page() -> None:
    add_rule(name="well")
    ill = add_rule(name="ill")
    worker = WorkerProcess.objects.create(name="w", host="h", pid=1)
    RuleThrottle.objects.create(worker=worker, rule=ill, breaker="open", limit=1)
    RuleHealth.objects.create(rule=add_rule(name="failing"), failing_since=now())
    html = sign_in("boss", "integrations.view_integrationrule").get("/admin/").content.decode()
    assert html.index(">ill<") < html.index(">failing<") < html.index(">well<")


def test_workers_are_listed_with_whether_they_are_alive(alice: Client) -> None:
    WorkerProcess.objects.create(name="w", host="h", pid=1)
    WorkerProcess.objects.create(name="old", host="h", pid=2, seen_at=now() - timedelta(minutes=1))
    html = alice.get("/admin/integrations/workerprocess/").content.decode()
    assert html.count(">alive<") == 1
    (silent,) = re.findall(r"silent for (\d+) s", html)
    assert 60 <= int(silent) < 60 + PATIENCE


# --- Security ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("everywhere", [True, False])
def test_tokens_of_a_client_are_ended_for_one_key_or_for_all(everywhere: bool, alice: Client) -> None:
    first, _second = keys.create(keys.EVERYTHING).row, keys.create(keys.EVERYTHING).row
    said = {"subject": "clientId", "value": "mallory", "key": "" if everywhere else str(first.pk)}
    root = sign_in("root", "integrations.add_revocation", "integrations.view_revocation")
    page = root.post("/admin/integrations/revocation/add/", said, follow=True)
    assert told(page) == ["Revoked. Connections that use such tokens end within a second, everywhere."]
    found = Revocation.objects.all()
    assert {(one.subject, one.value, one.created_by) for one in found} == {("clientId", "mallory", "root")}
    assert len(found) == (2 if everywhere else 1)
    assert alice.post("/admin/integrations/revocation/add/", said).status_code == 403


def test_a_key_gets_a_new_secret_and_shows_it_once(alice: Client) -> None:
    key = keys.create(keys.EVERYTHING)
    page = act(alice, KEYS, "rotate", key.row.pk)
    (text,) = re.findall(r'class="secret">([^<]+)<', page.content.decode())
    assert text != key.text
    assert "no-store" in page["Cache-Control"]
    assert ApiKey.objects.get().former_secret_until is not None
    assert b">rotating<" in alice.get(KEYS).content


def test_uses_of_callback_tokens_are_shown_and_found_by_their_message(alice: Client) -> None:
    delivery = deliver()
    CallbackUse.objects.create(
        token_id="t", result="refused", code=40144, problem="<b>no", message_pk=delivery.message_id
    )
    CallbackUse.objects.create(result="refused", code=40142, problem="forged")
    page = alice.get("/admin/integrations/callbackuse/", {"q": str(delivery.message_id)})
    assert [use.token_id for use in page.context["cl"].result_list] == ["t"]
    html = alice.get(f"/admin/rooms/message/{delivery.message_id}/change/").content.decode()
    assert "Callback refused" in html
    assert "&lt;b&gt;no" in html


def test_what_a_moderator_says_of_an_author_can_be_taken_back() -> None:
    verbs = [f"integrations.{verb}_authortrust" for verb in ("view", "add", "change", "delete")]
    dora = sign_in("dora", *verbs)
    dora.post("/admin/integrations/authortrust/add/", {"client_id": "ada", "trust": "trusted", "note": "knows us"})
    author = AuthorTrust.objects.get()
    assert (author.client_id, author.trust, author.note) == ("ada", "trusted", "knows us")
    dora.post(f"/admin/integrations/authortrust/{author.pk}/change/", {"trust": "new", "note": ""})
    author.refresh_from_db()
    assert author.trust == "new"
    dora.post(f"/admin/integrations/authortrust/{author.pk}/delete/", {"post": "yes"})
    assert not AuthorTrust.objects.exists()
