"""The REST callback: a verdict by token, once."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings as project
from django.test import Client

from integrations import callbacks, late_verdicts, targets
from integrations.calls import Owed
from integrations.models import Delivery
from rooms import decide
from rooms.errors import ChatError
from rooms.models import Message
from rooms.models import Verdict as Recorded
from tests.integrations.world import add_room, add_rule, claim, now, publish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey", "webhooks_only")]
PATH = "/integrations/verdict"


def ask(text: str = "cabbage", **rule: Any) -> tuple[Owed, str]:
    """Publish a message under a rule and return the claimed delivery with its callback token."""
    made = add_rule(when="before", **rule)
    publish(add_room(), text)
    one = claim()[0].owed[0]
    body = json.loads(targets.prepare(made, [one], app_id="app", now=now()).body)
    return one, body["callback"]["token"]


def answer(token: str, body: Any, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return Client().post(PATH, data, content_type="application/json", headers={"authorization": f"Bearer {token}"})


def error_of(response: Any) -> tuple[int, int]:
    return response.status_code, response.json()["error"]["code"]


def test_a_verdict_by_callback_decides() -> None:
    one, token = ask()
    response = answer(token, {"action": "modify", "message": {"data": "*******"}})

    assert response.status_code == 200
    assert response.json()["action"] == "modify"
    message = Message.objects.get()
    assert (message.status, message.text, message.name) == ("published", "*******", "chat")
    assert Delivery.objects.get().answer != ""
    assert Recorded.objects.get().step == f"integrations:rule-{one.rule_id}"


def test_the_same_verdict_again_gets_the_same_answer_and_another_one_a_conflict() -> None:
    _, token = ask()
    verdict = {"action": "reject", "reason": "rude"}
    first = answer(token, verdict)
    again = answer(token, verdict)

    assert (first.status_code, first.json()) == (again.status_code, again.json()) == (200, again.json())
    assert error_of(answer(token, {"action": "accept"})) == (409, 40900)
    assert Message.objects.get().status == "rejected"
    assert Recorded.objects.count() == 1


def test_after_the_deadline_a_verdict_is_told_that_it_is_late() -> None:
    _, token = ask(budget_seconds=60)
    late = now() + timedelta(seconds=61)
    assert decide.expire(now=late) == 1

    with pytest.raises(ChatError, match="deadline") as caught:
        late_verdicts.take(token, b'{"action": "accept"}', now=late)
    assert (caught.value.status, caught.value.code) == (410, 40900)
    assert Message.objects.get().status == "rejected"


def test_overdue_is_what_is_overdue_by_postgres_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    ask(budget_seconds=60)
    assert decide.expire() == 0

    monkeypatch.setattr("rooms.waiting.read_clock", lambda: now() + timedelta(seconds=61))
    assert decide.expire() == 1


def test_an_expired_token_is_refused() -> None:
    one, _ = ask()
    claims = callbacks.Claims(message=one.message_id, rule=one.rule_id, expires=1)
    token = callbacks.issue(claims, callbacks.derive_key(project.SECRET_KEY))

    assert error_of(answer(token, {"action": "accept"})) == (401, 40142)


def test_a_token_with_a_changed_claim_is_refused() -> None:
    one, token = ask()
    claims = callbacks.verify(token, [callbacks.derive_key(project.SECRET_KEY)], now_ms=0)
    forged = callbacks.issue(
        callbacks.Claims(message=one.message_id + 1, rule=claims.rule, expires=claims.expires), b"k"
    )

    assert error_of(answer(forged, {"action": "accept"})) == (401, 40144)
    assert error_of(answer("nonsense", {"action": "accept"})) == (401, 40144)
    assert error_of(answer("", {"action": "accept"})) == (401, 40106)


def test_a_token_decides_about_no_other_message() -> None:
    _, token = ask()
    status, code = error_of(answer(token, {"id": "another", "action": "accept"}))

    assert (status, code) == (400, 40001)
    assert Message.objects.get().status == "accepted"


def test_a_token_of_a_rule_that_is_gone_is_told_so() -> None:
    one, token = ask()
    Delivery.objects.all().delete()

    assert error_of(answer(token, {"action": "accept"})) == (404, 40400)
    assert one.message_id == Message.objects.get().pk


@pytest.mark.parametrize("body", [b"", b"{}", b"noise", b"[" * 20_000, {"action": "explode"}, {"action": "modify"}])
def test_a_body_that_is_no_verdict_is_refused_with_a_sentence(body: Any) -> None:
    _, token = ask()

    assert error_of(answer(token, body)) == (400, 40001)


def test_a_message_decided_by_callback_is_not_asked_about_again() -> None:
    _, token = ask()
    answer(token, {"action": "accept"})

    assert claim(at=now() + timedelta(seconds=60)) == []
    assert Delivery.objects.get().state == "cancelled"


def test_the_token_names_a_key_of_another_server_and_is_refused(settings: Any) -> None:
    _, token = ask()
    settings.SECRET_KEY = "another server's key, long enough to be one"

    assert error_of(answer(token, {"action": "accept"})) == (401, 40144)
