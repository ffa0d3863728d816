"""The REST callback: a verdict by token, once."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from django.conf import settings as project
from django.db import connection
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from integrations import outbox
from integrations.callbacks import callback_uses, late_verdicts
from integrations.models import CallbackUse, Delivery
from integrations.outbox.conclusions import ClaimedDelivery
from integrations.review.reviewer import awaiting_of
from integrations.wire import callback_tokens
from integrations.wire.verdicts import as_text
from integrations.worker import targets
from rooms.errors import ChatError, Code
from rooms.models import Message, Room
from rooms.models import Verdict as Recorded
from rooms.review import deadlines, decide
from rooms.review.contract import Decision, Verdict, VerdictAction
from tests.integrations.world import add_room, add_rule, claim, locked, now, publish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey", "webhooks_only")]
PATH = "/integrations/verdict"


def ask(text: str = "cabbage", **rule: Any) -> tuple[ClaimedDelivery, str]:
    """Publish a message under a rule and return the claimed delivery with its callback token."""
    made = add_rule(when="before", **rule)
    publish(add_room(), text)
    one = claim()[0].deliveries[0]
    body = json.loads(targets.prepare(made, [one], app_id="app", now=now()).body)
    return one, body["callback"]["token"]


def answer(token: str, body: Any, **headers: str) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body)
    return Client().post(PATH, data, content_type="application/json", headers={"authorization": f"Bearer {token}"})


def error_of(response: Any) -> tuple[int, int]:
    return response.status_code, response.json()["error"]["code"]


def uses() -> list[tuple[str, str, int | None]]:
    """What was recorded, in order."""
    return list(CallbackUse.objects.order_by("id").values_list("result", "action", "code"))


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
    assert (first.get("idempotent-replayed"), again.get("idempotent-replayed")) == (None, "true")
    assert error_of(answer(token, {"action": "accept"})) == (409, 40900)
    assert Message.objects.get().status == "rejected"
    assert Recorded.objects.count() == 1
    assert uses() == [("applied", "reject", None), ("repeated", "reject", None), ("refused", "", 40900)]


@pytest.mark.parametrize("is_late", [False, True])
def test_while_a_room_is_locked_callbacks_are_told_soon_to_try_again(
    is_late: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_verdicts, "LOCK_SECONDS", 0.2)
    _, token = ask(late="apply")
    if is_late:
        deadlines.expire(now=now() + timedelta(minutes=5))
    with locked(Room.objects.get()):
        refused = answer(token, {"action": "accept"})

    assert error_of(refused) == (503, Code.UNAVAILABLE)
    assert answer(token, {"action": "accept"}).status_code == 200
    assert Message.objects.get().status == "published"


def test_of_many_uses_of_one_token_at_the_same_time_one_decides() -> None:
    _, token = ask()

    def use(number: int) -> tuple[int, bool]:
        try:
            body = json.dumps({"action": "reject", "reason": f"{number % 2}"}).encode()
            taken = late_verdicts.apply_callback(token, body, now=now())
            return 200, taken.is_repeated
        except ChatError as error:
            return error.status, False
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        answers = Counter(threads.map(use, range(8)))

    assert answers == {(200, False): 1, (200, True): 3, (409, False): 4}
    assert Recorded.objects.count() == 1
    assert Counter(result for result, _, _ in uses()) == {"applied": 1, "repeated": 3, "refused": 4}


def test_a_verdict_that_came_as_the_calls_answer_and_again_by_callback_is_a_repeat() -> None:
    one, token = ask()
    assert one.message_id is not None
    verdict = Verdict(action=VerdictAction.PUBLISH)
    decide.decide([Decision(message=one.message_id, awaiting=awaiting_of(one.rule_id), verdict=verdict)], now=now())
    outbox.store_callback_verdict(rule_id=one.rule_id, message_id=one.message_id, text=as_text(verdict))

    assert answer(token, {"action": "accept"}).status_code == 200
    assert error_of(answer(token, {"action": "reject"})) == (409, 40900)
    assert uses() == [("repeated", "accept", None), ("refused", "", 40900)]


def test_after_the_deadline_a_verdict_is_told_that_it_is_late() -> None:
    _, token = ask(budget_seconds=60)
    late = now() + timedelta(seconds=61)
    assert deadlines.expire(now=late) == 1

    for is_repeated in (False, True):
        taken = late_verdicts.apply_callback(token, b'{"action": "accept"}', now=late)
        assert taken.error is not None
        assert "deadline" in taken.error.message
        assert (taken.error.status, taken.error.code, taken.is_repeated) == (410, 40900, is_repeated)
    assert Message.objects.get().status == "rejected"
    assert uses() == [("late", "accept", 40900), ("repeated", "accept", None)]


def test_a_late_verdict_restores_what_the_deadline_refused_where_the_rule_applies_it() -> None:
    _, token = ask(budget_seconds=60, late="apply")
    late = now() + timedelta(hours=1)
    assert deadlines.expire(now=late) == 1

    first, again = (late_verdicts.apply_callback(token, b'{"action": "accept"}', now=late) for _ in range(2))
    assert (first.error, first.shape["late"], first.is_repeated) == (None, True, False)
    assert (again.shape, again.is_repeated) == (first.shape, True)
    assert Message.objects.get().status == "published"
    assert "publish" in Delivery.objects.get().answer
    assert uses() == [("late", "accept", None), ("repeated", "accept", None)]


def test_a_late_verdict_changes_nothing_that_somebody_decided_since() -> None:
    one, token = ask(budget_seconds=60, late="apply", at_deadline="hold")
    assert one.message_id is not None
    late = now() + timedelta(seconds=61)
    deadlines.expire(now=late)
    by_human = Decision(
        message=one.message_id,
        awaiting="moderator",
        verdict=Verdict(action=VerdictAction.REJECT, code=42213),
        by="alice",
    )
    decide.decide([by_human], now=late)

    with pytest.raises(ChatError) as caught:
        late_verdicts.apply_callback(token, b'{"action": "accept"}', now=late)
    assert caught.value.status == 409
    assert Message.objects.get().status == "rejected"
    assert uses() == [("refused", "", 40900)]


def test_overdue_is_what_is_overdue_by_postgres_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    ask(budget_seconds=60)
    assert deadlines.expire() == 0

    monkeypatch.setattr("rooms.review.deadline_queries.read_clock", lambda: now() + timedelta(seconds=61))
    assert deadlines.expire() == 1


def test_an_expired_token_is_refused() -> None:
    one, _ = ask()
    assert one.message_id is not None
    claims = callback_tokens.CallbackClaims(id=one.webhook_id, message=one.message_id, rule=one.rule_id, expires=1)
    token = callback_tokens.issue(claims, callback_tokens.derive_key(project.SECRET_KEY))

    assert error_of(answer(token, {"action": "accept"})) == (410, 40900)
    assert uses() == [("refused", "", 40900)]
    assert Message.objects.get().status == "accepted"


def test_a_token_with_a_changed_claim_is_refused() -> None:
    _, token = ask()
    claims = callback_tokens.verify(token, [callback_tokens.derive_key(project.SECRET_KEY)])
    mac = token.partition(".")[2]
    for change in ({"message": claims.message + 1}, {"rule": claims.rule + 1}, {"expires": claims.expires + 1},
                   {"id": "another"}, {"operation": "update"}):  # fmt: skip
        forged = callback_tokens.issue(msgspec.structs.replace(claims, **change), b"k")
        for shown in (forged, f"{forged.partition('.')[0]}.{mac}"):
            assert error_of(answer(shown, {"action": "accept"})) == (401, 40144)
    assert error_of(answer("nonsense", {"action": "accept"})) == (401, 40144)
    assert error_of(answer("", {"action": "accept"})) == (401, 40106)
    assert Message.objects.get().status == "accepted"
    # Nothing that a forged token says is believed, in the record neither.
    assert set(CallbackUse.objects.values_list("result", "message_pk", "token_id")) == {("refused", None, "")}
    assert CallbackUse.objects.count() == 12


def test_forged_tokens_fill_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("integrations.callbacks.callback_uses.CALLBACK_FORGED_PER_MINUTE", 3)
    monkeypatch.setattr(callback_uses, "forged", callback_uses.RateLimit())
    before = dict(callback_uses.counts.figures())
    for _ in range(10):
        assert error_of(answer("nonsense", {"action": "accept"})) == (401, 40144)

    assert CallbackUse.objects.count() == 3
    figures = callback_uses.counts.figures()
    assert (figures["refused"] - before["refused"], figures["unrecorded"] - before["unrecorded"]) == (10, 7)


@given(st.lists(st.floats(0, 30), max_size=40), st.integers(0, 5))
def test_a_bucket_lets_no_more_through_in_a_minute_than_twice_its_size(pauses: list[float], per_minute: int) -> None:
    bucket, at = callback_uses.RateLimit(), 0.0
    let_through: list[float] = []
    for pause in pauses:
        at += pause
        if bucket.allow(per_minute, at):
            let_through.append(at)
    for begin in let_through:
        assert sum(begin <= one < begin + 60 for one in let_through) <= 2 * per_minute


def test_a_lambda_that_goes_on_and_on_fills_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(callback_uses, "MAX_PER_MESSAGE", 4)
    _, token = ask()
    for _ in range(6):
        answer(token, {"action": "explode"})
    answer(token, {"action": "accept"})

    assert Counter(result for result, _, _ in uses()) == {"refused": 4, "applied": 1}


def test_a_token_decides_about_no_other_message() -> None:
    _, token = ask()
    status, code = error_of(answer(token, {"id": "another", "action": "accept"}))

    assert (status, code) == (401, 40160)
    assert Message.objects.get().status == "accepted"
    assert uses() == [("refused", "", 40160)]


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
