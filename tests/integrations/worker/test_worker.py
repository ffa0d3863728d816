"""The worker with everything real: Postgres, Valkey, and an endpoint that does what the test says."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as project
from django.db import connection
from standardwebhooks import Webhook

from integrations.models import Attempt, Delivery
from integrations.monitoring.traffic import Traffic
from integrations.rules import rules
from integrations.worker.worker import Worker, make_outgoing
from rooms.database.threads import run
from rooms.models import Message, Room, Status
from tests.integrations.receiver import Received, Receiver
from tests.integrations.world import add_room, add_rule, claim, now, publish
from tests.patience import PATIENCE

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey", "webhooks_only"),
]
ROOT = Path(__file__).resolve().parents[3]


@asynccontextmanager
async def working(**options: Any) -> AsyncIterator[Worker]:
    """A worker in this process, stopped at the end of the block."""
    outgoing = make_outgoing()
    worker = Worker(outgoing, **options)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await asyncio.wait_for(task, PATIENCE)
        await outgoing.close()


async def until(condition: Callable[[], Any], *, seconds: float = PATIENCE) -> Any:
    """Return the first true value of a database query."""
    async with asyncio.timeout(seconds):
        while not (value := await run(condition)):
            await asyncio.sleep(0.02)
    return value


def texts_by_serial() -> list[str | None]:
    return list(Message.objects.filter(serial__isnull=False).order_by("room", "serial").values_list("text", flat=True))


def all_in(*states: str) -> Callable[[], bool]:
    return lambda: Delivery.objects.exists() and not Delivery.objects.exclude(state__in=states).exists()


def decided() -> bool:
    return not Message.objects.filter(status__in=[Status.ACCEPTED, Status.APPROVED]).exists()


# --- Before publish ---------------------------------------------------------------------------------------


async def test_a_verdict_in_the_answer_changes_the_message_before_anybody_sees_it(receiver: Receiver) -> None:
    def star(request: Received) -> Any:
        return 200, {"action": "modify", "message": {"data": request.texts[0].replace("cabbage", "*******")}}

    receiver.behaviour = star
    await run(add_rule, receiver.url, when="before")
    room = await run(add_room)
    async with working() as worker:
        outcome = (await run(publish, room, "I don't like how cabbage tastes"))[0]
        await until(decided)

    assert outcome.kind == "pending"
    assert await run(texts_by_serial) == ["I don't like how ******* tastes"]
    assert worker.metrics.outcomes == {"published": 1}
    assert (await run(Delivery.objects.get)).answer.startswith('{"action":"replace"')


async def test_the_call_is_signed_and_carries_a_callback(receiver: Receiver) -> None:
    rule, secret = await run(
        rules.add, rules.RuleSpec(name="r", url=receiver.url, when="before", headers={"X-Mine": "yes"}), now=now()
    )
    room = await run(add_room)
    async with working():
        await run(publish, room, "a")
        request = (await receiver.wait_for(1))[0]

    Webhook(secret).verify(request.body, request.headers)
    assert request.headers["x-mine"] == "yes"
    assert request.headers["user-agent"].startswith("chatsite")
    assert request.json["callback"]["url"] == f"{project.PUBLIC_URL}/integrations/verdict"
    assert request.json["ruleId"] == str(rule.pk)
    assert request.json["channel"] == "lobby"


@pytest.mark.parametrize(
    ("answer", "status"), [("accept", "published"), ("reject", "rejected"), ("hold", "held"), ("modify", "published")]
)
async def test_each_action_leads_to_its_status(receiver: Receiver, answer: str, status: str) -> None:
    receiver.behaviour = lambda request: (200, {"action": answer, "message": {"data": "b"}, "reason": "why"})
    await run(add_rule, receiver.url, when="before")
    room = await run(add_room)
    async with working():
        await run(publish, room, "a")
        await until(decided)

    message = await run(Message.objects.get)
    assert message.status == status
    assert status != "rejected" or (message.error_code, message.reason) == (42211, "why")


async def test_rules_before_publish_are_asked_one_after_the_other_each_seeing_the_one_before(
    receiver: Receiver,
) -> None:
    receiver.behaviour = lambda request: (
        200,
        {"action": "modify", "message": {"data": request.texts[0] + request.path.strip("/")}},
    )
    base = f"http://127.0.0.1:{receiver.port}"
    await run(add_rule, f"{base}/second", when="before", order=2)
    await run(add_rule, f"{base}/first", when="before", order=1)
    await run(add_rule, f"{base}/never", when="before", order=3, room_filter="elsewhere")
    room = await run(add_room)
    async with working():
        await run(publish, room, ">")
        await until(decided)

    assert await run(texts_by_serial) == [">firstsecond"]


async def test_an_endpoint_that_fails_is_asked_again_within_the_budget(receiver: Receiver) -> None:
    answers = iter([(500, ""), (200, "nonsense"), (200, {"action": "accept"})])
    receiver.behaviour = lambda request: next(answers)
    await run(add_rule, receiver.url, when="before")
    room = await run(add_room)
    async with working():
        await run(publish, room, "a")
        await until(decided)

    assert await run(texts_by_serial) == ["a"]
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1
    errors = await run(lambda: list(Attempt.objects.order_by("number").values_list("error", flat=True)))
    assert errors == ["The endpoint answered HTTP 500.", "The answer is not valid JSON.", ""]


@pytest.mark.parametrize(("policy", "status"), [("publish", "published"), ("reject", "rejected"), ("hold", "held")])
async def test_without_a_verdict_the_deadline_decides_by_the_rules_policy(
    receiver: Receiver, policy: str, status: str
) -> None:
    receiver.behaviour = lambda request: (202, {"status": "pending"})
    await run(add_rule, receiver.url, when="before", budget_seconds=2, at_deadline=policy)
    room = await run(add_room)
    async with working():
        await run(publish, room, "a")
        await until(decided)

    assert (await run(Message.objects.get)).status == status
    assert (await run(Delivery.objects.get)).state == "delivered"


@pytest.mark.parametrize(("late", "status"), [("apply", "published"), ("record", "rejected")])
async def test_a_verdict_that_comes_after_the_deadline_counts_where_the_rule_says_so(
    receiver: Receiver, late: str, status: str
) -> None:
    is_decided = asyncio.Event()

    async def slow(request: Received) -> Any:
        await is_decided.wait()
        return 200, {"action": "accept"}

    receiver.behaviour = slow
    await run(add_rule, receiver.url, when="before", budget_seconds=2, at_deadline="reject", late=late)
    room = await run(add_room)
    async with working():
        await run(publish, room, "a")
        await until(decided)
        is_decided.set()
        await until(all_in("delivered", "dead", "cancelled"))
        await until(lambda: Message.objects.filter(status=status).exists())

    assert await run(texts_by_serial) == (["a"] if late == "apply" else [])


async def test_a_final_refusal_decides_by_the_policy_at_once_and_is_a_dead_letter(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: (400, "no")
    await run(add_rule, receiver.url, when="before", budget_seconds=600)
    room = await run(add_room)
    async with working():
        await run(publish, room, "a")
        await until(decided)  # with patience for less than its budget

    assert (await run(Message.objects.get)).status == "rejected"
    assert (await run(Delivery.objects.get)).last_error == "The endpoint answered HTTP 400."


async def test_a_hanging_endpoint_before_publish_does_not_delay_the_healthy_one(receiver: Receiver) -> None:
    async def behave(request: Received) -> Any:
        if request.path == "/hangs":
            await asyncio.sleep(3600)
        return 200, {"action": "accept"}

    receiver.behaviour = behave
    base = f"http://127.0.0.1:{receiver.port}"
    await run(add_rule, f"{base}/hangs", when="before", room_filter="^one")
    await run(add_rule, f"{base}/works", when="before", room_filter="^two")
    one, two = await run(add_room, "one"), await run(add_room, "two")
    async with working():
        await run(publish, one, *[str(number) for number in range(100)])
        await receiver.wait_for(25)
        await run(publish, two, "x")
        await until(lambda: Message.objects.filter(room=two, serial__isnull=False).exists())
        asked = [request.path for request in receiver.requests]
        hanging = receiver.under_way

    assert asked[-1] == "/works"
    assert hanging == asked.count("/hangs")  # no call has ended to make room for that to the healthy one


async def test_messages_of_one_author_are_published_in_order_whatever_order_the_verdicts_come_in(
    receiver: Receiver,
) -> None:
    async def slowest_first(request: Received) -> Any:
        await asyncio.sleep(0.5 - 0.05 * int(request.texts[0]))
        return 200, {"action": "accept"}

    receiver.behaviour = slowest_first
    await run(add_rule, receiver.url, when="before")
    room = await run(add_room)
    async with working():
        await run(publish, room, *[str(number) for number in range(10)])
        await until(decided)

    assert receiver.most_under_way > 1
    assert await run(texts_by_serial) == [str(number) for number in range(10)]


async def test_a_batched_rule_judges_many_messages_in_one_call(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: (
        200,
        {
            "verdicts": [
                {"id": item["id"], "action": "reject" if message["data"] == "3" else "accept"}
                for item in request.json["items"]
                for message in item["data"]["messages"]
            ]
        },
    )
    await run(add_rule, receiver.url, when="before", batched=True)
    room = await run(add_room)
    async with working():
        await run(publish, room, *[str(number) for number in range(50)])
        await until(decided)

    assert len(receiver.requests) <= 5
    assert await run(texts_by_serial) == [str(number) for number in range(50) if number != 3]


async def test_a_message_that_breaks_a_batch_is_found_and_the_others_go_through(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: (400, "") if "poison" in request.texts else (200, {
        "verdicts": [{"id": item["id"], "action": "accept"} for item in request.json["items"]]
    })  # fmt: skip
    await run(add_rule, receiver.url, when="before", batched=True)
    room = await run(add_room)
    async with working():
        await run(publish, room, "a", "poison", "b")
        await until(decided)

    assert await run(texts_by_serial) == ["a", "b"]
    assert (await run(lambda: Message.objects.get(text="poison"))).status == "rejected"


# --- After publish ----------------------------------------------------------------------------------------


async def test_every_message_of_a_room_is_told_once_and_in_order(receiver: Receiver) -> None:
    await run(add_rule, receiver.url)
    room = await run(add_room)
    async with working():
        for number in range(20):
            await run(publish, room, str(number))
        await until(all_in("delivered"))

    assert receiver.texts == [str(number) for number in range(20)]
    assert [request.json["messages"][0]["serial"] for request in receiver.requests] == sorted(
        request.json["messages"][0]["serial"] for request in receiver.requests
    )


async def test_a_failing_call_is_repeated_under_its_id_and_nothing_overtakes_it(receiver: Receiver) -> None:
    answers = iter([(503, ""), (429, "", {"retry-after": "0"}), (500, "")])
    receiver.behaviour = lambda request: next(answers, (200, ""))
    await run(add_rule, receiver.url)
    room = await run(add_room)
    async with working():
        await run(publish, room, "a", "b")
        await until(all_in("delivered"))

    assert receiver.texts == ["a", "a", "a", "a", "b"]
    assert len({request.headers["webhook-id"] for request in receiver.requests}) == 2


async def test_a_refused_event_is_a_dead_letter_and_the_next_one_goes_out(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: (404, "gone") if request.texts == ["a"] else (200, "")
    await run(add_rule, receiver.url)
    room = await run(add_room)
    async with working():
        await run(publish, room, "a", "b")
        await until(all_in("delivered", "dead"))

    dead = await run(lambda: Delivery.objects.get(state="dead"))
    assert (dead.last_status, dead.last_error) == (404, "The endpoint answered HTTP 404.")
    assert (await run(lambda: dead.tries.get())).response == "gone"
    assert receiver.texts == ["a", "b"]


async def test_after_the_last_attempt_a_delivery_is_a_dead_letter(receiver: Receiver, settings: Any) -> None:
    settings.DELIVERY_MAX_ATTEMPTS = 2
    receiver.behaviour = lambda request: (500, "")
    await run(add_rule, receiver.url)
    room = await run(add_room)
    async with working():
        await run(publish, room, "a")
        await until(all_in("dead"))

    assert len(receiver.requests) == 2


async def test_rooms_do_not_wait_for_each_other(receiver: Receiver) -> None:
    receiver.behaviour = lambda request: (500, "") if request.json["channel"] == "sick" else (200, "")
    await run(add_rule, receiver.url)
    sick, well = await run(add_room, "sick"), await run(add_room, "well")
    async with working():
        await run(publish, sick, "a", "b")
        await run(publish, well, *"cdefg")
        await until(lambda: Delivery.objects.filter(state="delivered").count() == 5)

    assert [request.texts[0] for request in receiver.requests if request.json["channel"] == "well"] == list("cdefg")


async def test_a_private_target_is_called_only_while_the_settings_allow_it(receiver: Receiver, settings: Any) -> None:
    await run(add_rule, receiver.url)
    settings.WEBHOOK_ALLOW_PRIVATE = []
    room = await run(add_room)
    async with working():
        await run(publish, room, "a")
        await until(all_in("dead"))

    assert receiver.connections == 0
    assert "not a public address" in (await run(Delivery.objects.get)).last_error


# --- Ending -----------------------------------------------------------------------------------------------


async def test_a_worker_told_to_stop_finishes_what_it_does_and_gives_back_the_rest(receiver: Receiver) -> None:
    async def slow(request: Received) -> Any:
        await asyncio.sleep(0.5 if request.json["channel"] == "short" else 3600)
        return 200, ""

    receiver.behaviour = slow
    await run(add_rule, receiver.url)
    short, long = await run(add_room, "short"), await run(add_room, "long")
    async with working():
        await run(publish, short, "a")
        await run(publish, long, "b")
        await receiver.wait_for(2)
        stopping = receiver.under_way

    assert stopping == 2
    states = await run(lambda: dict(Delivery.objects.values_list("room__name", "state")))
    assert states == {"short": "delivered", "long": "pending"}


async def test_a_worker_killed_in_the_middle_of_a_call_is_replaced_and_the_call_repeated(
    receiver: Receiver,
) -> None:
    async def first_hangs(request: Received) -> Any:
        if len(receiver.requests) <= 2:
            await asyncio.sleep(3600)
        return 200, {"action": "accept"}

    receiver.behaviour = first_hangs
    await run(add_rule, receiver.url, when="before", budget_seconds=600, room_filter="^before")
    await run(add_rule, receiver.url, when="after", room_filter="^after")
    rooms: list[Room] = [await run(add_room, "before"), await run(add_room, "after")]
    process = await run(start_worker, {"DELIVERY_LEASE_SECONDS": "600", "DELIVERY_TIMEOUT_SECONDS": "600"})
    try:
        for room in rooms:
            await run(publish, room, "a")
        await receiver.wait_for(2)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=PATIENCE)
    # Its leases last longer than anybody waits here; the second one finds that it is gone.
    async with working(name="second"):
        await until(decided)
        await until(all_in("delivered"))

    by_channel: dict[str, set[str]] = {}
    for request in receiver.requests:
        by_channel.setdefault(request.json["channel"], set()).add(request.headers["webhook-id"])
    assert len(receiver.requests) == 4
    assert {channel: len(ids) for channel, ids in by_channel.items()} == {"before": 1, "after": 1}
    assert await run(texts_by_serial) == ["a", "a"]


def start_worker(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    name = connection.settings_dict["NAME"]
    url = os.environ["DATABASE_URL"]
    head, _, query = url.partition("?")
    url = head.rsplit("/", 1)[0] + f"/{name}" + (f"?{query}" if query else "")
    return subprocess.Popen(
        [sys.executable, "manage.py", "worker"],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": url, "WEBHOOK_ALLOW_PRIVATE": "127.0.0.0/8", **environment},
    )


async def test_what_every_worker_died_of_is_counted_as_a_dead_letter(
    receiver: Receiver, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DELIVERY_MAX_ATTEMPTS = 1
    counted: list[tuple[int, int]] = []
    monkeypatch.setattr(Traffic, "share", lambda self, rule, *, at, dead=0, **more: counted.append((rule, dead)))
    rule = await run(add_rule, receiver.url)
    await run(publish, await run(add_room), "a")
    await run(claim, lease=0.0)
    async with working():
        await until(all_in("dead"))
        await until(lambda: counted)

    assert (counted, receiver.requests) == ([(rule.pk, 1)], [])


async def test_two_workers_share_the_work_and_keep_the_order(receiver: Receiver) -> None:
    await run(add_rule, receiver.url)
    rooms = [await run(add_room, f"room {number}") for number in range(4)]
    async with working(name="one"), working(name="two"):
        for number in range(10):
            for room in rooms:
                await run(publish, room, str(number))
        await until(all_in("delivered"))

    for room in rooms:
        of_room = [request.texts[0] for request in receiver.requests if request.json["channel"] == room.name]
        assert of_room == [str(number) for number in range(10)]
