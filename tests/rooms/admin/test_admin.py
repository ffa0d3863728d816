"""Alice moderates, Bob is a member without an account of the staff, Charlie is nobody."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.utils import timezone

from rooms.admin import message_search
from rooms.database import large_tables
from rooms.log import amend
from rooms.models import Message, MessageAction, Room, Status
from rooms.publishing.accept import accept
from rooms.review.contract import Decision, Verdict, VerdictAction
from rooms.review.decide import decide
from tests.admin_pages import act, plans_of, sequential_scans, sign_in, told
from tests.rooms.conftest import draft
from tests.rooms.reviewers import Obedient

MESSAGES = "/admin/rooms/message/"
MANY = 1_000_000 if os.environ.get("SLOW") else 50_000
VIEW = ("rooms.view_message", "rooms.view_room", "rooms.view_verdict", "rooms.view_messageversion")


@pytest.fixture
def alice(db: None) -> Client:
    return sign_in("alice", *VIEW, "rooms.change_message", "rooms.change_room", "rooms.add_room")


def publish(room: Room, text: str, **fields: Any) -> Message:
    (outcome,) = accept([draft(room, text, **fields)], now=timezone.now())
    return Message.objects.get(pk=outcome.message)


# --- Who may ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["message", "room", "verdict", "messageversion"])
def test_only_staff_with_permission_sees_the_pages(page: str, room: Room, alice: Client) -> None:
    url = f"/admin/rooms/{page}/"
    assert alice.get(url).status_code == 200
    assert sign_in("mallory").get(url).status_code == 403
    for client in (sign_in("bob", *VIEW, is_staff=False), Client()):
        response = client.get(url)
        assert response.status_code == 302
        assert "/admin/login/" in response.url


def test_nobody_adds_edits_or_deletes_a_message(room: Room, obedient: Obedient, alice: Client) -> None:
    message = publish(room, "hello")
    everything = sign_in("root", *VIEW, "rooms.add_message", "rooms.change_message", "rooms.delete_message")
    assert everything.get(f"{MESSAGES}add/").status_code == 403
    assert everything.post(f"{MESSAGES}{message.pk}/delete/", {"post": "yes"}).status_code == 403
    assert everything.post(f"{MESSAGES}{message.pk}/change/", {"text": "forged"}).status_code == 403
    message.refresh_from_db()
    assert message.text == "hello"


def test_whoever_may_only_look_cannot_hide(room: Room, obedient: Obedient) -> None:
    message = publish(room, "hello")
    viewer = sign_in("vera", *VIEW)
    act(viewer, MESSAGES, "hide", message.pk)
    message.refresh_from_db()
    assert message.action == MessageAction.CREATE
    assert b"Hide" not in viewer.get(f"{MESSAGES}{message.pk}/change/").content


# --- Acting -----------------------------------------------------------------------------------------------


def test_hiding_says_what_happened_to_how_many(room: Room, obedient: Obedient, alice: Client) -> None:
    shown, rejected = publish(room, "hello"), publish(room, "reject me", author="bob")
    page = act(alice, MESSAGES, "hide", shown.pk, rejected.pk)
    assert told(page) == [
        "1 message hidden. Members see the change at once.",
        "1 message left as before: not published, or hidden already.",
    ]
    shown.refresh_from_db()
    assert (shown.action, shown.text) == (MessageAction.DELETE, None)
    version = shown.versions.get()
    assert (version.text, version.replaced_by) == ("hello", "moderator alice")


def test_an_action_is_for_a_bounded_number_of_rows(
    room: Room, obedient: Obedient, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rooms.admin.tables.ACTION_LIMIT", 2)
    keys = [publish(room, f"hello {number}").pk for number in range(3)]
    page = act(alice, MESSAGES, "hide", *keys)
    assert "Only the first 2 were changed" in told(page)[0]
    assert Message.objects.filter(action=MessageAction.DELETE).count() == 2


def test_editing_a_room_leaves_its_head_alone(room: Room, obedient: Obedient, alice: Client) -> None:
    url = f"/admin/rooms/room/{room.pk}/change/"
    alice.get(url)
    publish(room, "meanwhile")
    response = alice.post(url, {"title": "The lobby", "description": "", "name": "other"})
    assert response.status_code == 302
    room.refresh_from_db()
    assert (room.title, room.name, room.head) == ("The lobby", "lobby", 1)


def test_a_room_with_an_impossible_name_is_refused_with_the_reason(alice: Client) -> None:
    page = alice.post("/admin/rooms/room/add/", {"name": ":meta", "title": ""})
    assert b"begins with" in page.content
    assert alice.post("/admin/rooms/room/add/", {"name": "team:one", "title": ""}).status_code == 302
    assert Room.objects.get().name == "team:one"


# --- Showing ----------------------------------------------------------------------------------------------


def test_what_messages_say_is_never_executed_and_cannot_turn_the_page(
    room: Room, obedient: Obedient, alice: Client
) -> None:
    nasty = "<script>alert(1)</script><img src=x onerror=alert(1)>\u202e"
    message = publish(room, nasty, author="<b>eve</b>")
    for url in (MESSAGES, f"{MESSAGES}{message.pk}/change/"):
        html = alice.get(url).content.decode()
        assert "<script>alert" not in html
        assert "<img src=x" not in html
        assert "<b>eve" not in html
        assert "&lt;script&gt;" in html


def test_a_long_text_is_cut_and_its_size_is_shown(room: Room, obedient: Obedient, alice: Client) -> None:
    message = publish(room, "long " * 2000)
    assert alice.get(MESSAGES).content.count(b"long") < 40
    assert b"10.0 KB" in alice.get(MESSAGES).content
    page = alice.get(f"{MESSAGES}{message.pk}/change/").content
    assert page.count(b"long ") < 1000
    assert b"of 10.0 KB" in page


def test_binary_data_is_shown_as_its_size(room: Room, alice: Client) -> None:
    message = Message.objects.create(
        room=room, message_id="b", author="a", binary=b"\0" * 1500, status=Status.REJECTED, accepted_at=timezone.now()
    )
    assert b"binary, 1.5 KB" in alice.get(MESSAGES).content
    assert b"Binary data, 1.5 KB" in alice.get(f"{MESSAGES}{message.pk}/change/").content


def test_the_page_of_a_message_tells_its_journey(room: Room, obedient: Obedient, alice: Client) -> None:
    message = publish(room, "hold this")
    verdict = Verdict(action=VerdictAction.PUBLISH)
    decide(
        [Decision(message=message.pk, awaiting="moderator", verdict=verdict, by="moderator dora")], now=timezone.now()
    )
    amend.edit(message.pk, "better", by="client:alice", now=timezone.now())
    amend.hide([message.pk], by="moderator dora", now=timezone.now())
    journey = alice.get(f"{MESSAGES}{message.pk}/change/").context["journey"]
    assert [step.title for step in journey] == [
        *("Accepted", "Held for a moderator", "Let through", "Published", "Edited", "Hidden")
    ]
    assert [step.quote for step in journey] == ["", "", "", "", "hold this", "better"]
    assert [step.detail for step in journey[1:3]] == ["by obedient: look at it", "by moderator dora"]


def test_the_journey_of_a_waiting_message_says_for_what_and_until_when(
    room: Room, obedient: Obedient, alice: Client
) -> None:
    message = publish(room, "defer")
    behind = publish(room, "next")
    last = alice.get(f"{MESSAGES}{message.pk}/change/").context["journey"][-1]
    assert (last.title, last.at, last.detail) == ("Waits for obedient:one", message.deadline, "at the deadline: reject")
    last = alice.get(f"{MESSAGES}{behind.pk}/change/").context["journey"][-1]
    assert last.title == "Approved, waits its turn"


# --- Finding ----------------------------------------------------------------------------------------------


def test_a_message_is_found_by_whatever_names_it(room: Room, obedient: Obedient, alice: Client) -> None:
    wanted = publish(room, "a needle in the hay", author="nina", message_id="kX9:0:0")
    publish(room, "hay", author="bob")
    for term in ("kX9:0:0", wanted.wire_serial, str(wanted.pk), "nina", "NEEDLE"):
        page = alice.get(MESSAGES, {"q": term})
        assert [found.pk for found in page.context["cl"].result_list] == [wanted.pk], term
    assert not alice.get(MESSAGES, {"q": "nothing"}).context["cl"].result_list


def test_filters_that_are_not_on_the_page_are_refused(room: Room, alice: Client) -> None:
    for address in ("?text__icontains=a", "?accepted_at__year=2026", "?room__name__contains=l"):
        assert alice.get(MESSAGES + address).status_code == 400
    assert alice.get(f"{MESSAGES}?o=3").context["cl"].get_ordering_field_columns() is not None
    assert "text" not in str(alice.get(f"{MESSAGES}?o=1").context["cl"].queryset.query.order_by)


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("2026-11-23", 2),
        ("2026-11", 3),
        ("2026", 3),
        ("2025", 1),
        ("2024", 0),
        ("", 4),
        ("nonsense", 4),
        ("2026-13", 4),
    ],
)
def test_messages_are_found_by_day_month_and_year(room: Room, alice: Client, value: str, found: int) -> None:
    for number, moment in enumerate(
        [
            datetime(2025, 6, 1, tzinfo=UTC),
            datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC),
            datetime(2026, 11, 23, tzinfo=UTC),
            datetime(2026, 11, 23, 23, 59, 59, tzinfo=UTC),
        ]
    ):
        Message.objects.create(
            room=room, message_id=str(number), author="a", status=Status.REJECTED, accepted_at=moment
        )
    assert len(alice.get(MESSAGES, {"at": value}).context["cl"].result_list) == found


def test_the_first_id_of_a_moment_is_found_whatever_the_gaps(room: Room) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    for key in (3, 4, 9, 1000, 1001, 5_000_000_000):
        Message.objects.create(
            pk=key, room=room, message_id=str(key), author="a", status=Status.REJECTED,
            accepted_at=start + timedelta(seconds=key),
        )  # fmt: skip
    for seconds in (0, 3, 4, 5, 9, 10, 1000, 1001, 1002, 4_999_999_999, 5_000_000_000, 5_000_000_001):
        first = large_tables.first_id_at(Message, "accepted_at", start + timedelta(seconds=seconds))
        assert set(Message.objects.filter(pk__gte=first)) == set(
            Message.objects.filter(accepted_at__gte=start + timedelta(seconds=seconds))
        )
    Message.objects.all().delete()
    assert large_tables.first_id_at(Message, "accepted_at", start) is None


def test_a_message_id_is_looked_for_in_so_many_rooms_and_in_the_one_that_is_chosen(
    obedient: Obedient, alice: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(message_search, "MAX_ROOMS", 3)
    monkeypatch.setattr(message_search, "NEWEST", 10)
    rooms = [Room.objects.create(name=f"room-{number}") for number in range(20)]
    quiet = publish(rooms[0], "long ago", message_id="quiet-1")
    for number in range(10):
        publish(rooms[5 + number], "lately", message_id=f"lately-{number}")

    assert message_search.find_exactly("quiet-1") == []
    page = alice.get(f"{MESSAGES}?q=quiet-1")
    assert page.context["cl"].result_count == 0
    assert "choose it on the page of messages" in " ".join(told(page))
    page = alice.get(f"{MESSAGES}?q=quiet-1&room=room-0")
    assert [message.pk for message in page.context["cl"].result_list] == [quiet.pk]
    for number in (7, 8, 9):
        assert len(message_search.find_exactly(f"lately-{number}")) == 1
    assert "choose" not in " ".join(told(alice.get(f"{MESSAGES}?q=lately-9")))
    assert "choose" not in " ".join(told(alice.get(f"{MESSAGES}?q=words that nobody wrote")))


# --- A million messages -----------------------------------------------------------------------------------

MAKE_MESSAGES = """
INSERT INTO rooms_message (room_id, message_id, author, client_id, connection_id, text, status, action, serial,
    created_serial, published_at, accepted_at, awaiting, at_deadline, reason, origin, deadline)
SELECT place.room, 'm:' || n, 'client:c' || n %% 2000, 'c' || n %% 2000, 'k' || n %% 5000,
    'message number ' || n || ' that says something of the usual length', place.status,
    CASE WHEN n %% 997 = 0 AND place.status = 'published' THEN 2 ELSE 0 END,
    CASE WHEN place.status = 'published' THEN n END, CASE WHEN place.status = 'published' THEN n END,
    CASE WHEN place.status = 'published' THEN place.moment END, place.moment,
    CASE place.status WHEN 'accepted' THEN 'x:1' WHEN 'held' THEN 'moderator' ELSE '' END,
    CASE place.status WHEN 'accepted' THEN 'reject' ELSE '' END, '', '',
    CASE place.status WHEN 'accepted' THEN now() END
FROM generate_series(1, %(many)s) AS n, LATERAL (SELECT
    CASE WHEN n %% 2 = 0 THEN %(rooms)s ELSE %(rooms)s + (n / 2) %% 50 END AS room,
    now() - (%(many)s - n) * interval '1 second' AS moment,
    CASE WHEN n %% 1009 = 0 THEN 'held' WHEN n %% 503 = 0 THEN 'rejected' WHEN n > %(many)s - 20 AND n %% 3 = 0
        THEN 'accepted' ELSE 'published' END AS status) AS place
"""


@pytest.fixture(scope="module")
def many(django_db_setup: None, django_db_blocker: Any) -> Iterator[int]:
    """Rooms of very different sizes, and messages of more than half a day."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        rooms = Room.objects.bulk_create(Room(name=f"room-{number}") for number in range(50))
        cursor.execute(MAKE_MESSAGES, {"many": MANY, "rooms": rooms[0].pk})
        cursor.execute("VACUUM ANALYZE rooms_message, rooms_room")
    yield rooms[0].pk
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE rooms_room CASCADE")


PAGES = [
    "",
    "?p=2",
    "?p=200",
    "?status=waiting",
    "?status=held",
    "?status=published",
    "?status=rejected",
    "?status=rejected&p=2",
    "?status=edited",
    "?status=hidden",
    "?room=room-0",
    "?room=room-0&p=100",
    "?room=room-7",
    "?room=room-7&status=rejected",
    "?room=none",
    "?at=hour",
    "?at=day&p=3",
    "?at=2026",
    "?q=m:4711",
    "?q=c17",
    "?q=c17&status=published",
    "?q=usual",
    "?q=nothing like it",
    "?q=4711",
    "?q=abcdefgh-000000000012",
    "?q=usual&room=room-0",
]


@pytest.mark.parametrize("page", PAGES)
def test_no_page_of_messages_reads_the_table_from_end_to_end(page: str, many: int, alice: Client) -> None:
    for sql, plan in plans_of(alice, MESSAGES + page):
        assert "rooms_message" not in list(sequential_scans(plan)), sql


def test_other_pages_do_not_read_the_messages_either(many: int, alice: Client) -> None:
    alice = sign_in("moderator", *VIEW, "moderation.view_heldmessage")
    held = Message.objects.filter(status=Status.HELD).values_list("pk", flat=True)[0]
    for url in (
        "/admin/",
        "/admin/rooms/room/",
        "/admin/rooms/verdict/",
        "/admin/rooms/verdict/?q=m:4711",
        "/admin/rooms/messageversion/",
        f"{MESSAGES}{held}/change/",
        "/admin/moderation/heldmessage/",
        "/admin/moderation/heldmessage/?q=usual",
        f"/admin/moderation/heldmessage/{held}/change/",
    ):
        for sql, plan in plans_of(alice, url):
            assert "rooms_message" not in list(sequential_scans(plan)), sql


def test_every_page_is_quick(many: int, alice: Client) -> None:
    alice.get(MESSAGES)
    slow = {}
    for page in PAGES:
        started = time.perf_counter()
        assert alice.get(MESSAGES + page).status_code == 200
        took = time.perf_counter() - started
        slow[page] = round(took * 1000)
    print({"messages": MANY, "ms": slow})
    assert max(slow.values()) < 20_000, slow  # measured with a million: at most 80 ms


def test_pages_end_at_a_bound_and_say_about_how_many_there_are(many: int, alice: Client) -> None:
    page = alice.get(MESSAGES)
    assert page.context["cl"].result_count == large_tables.COUNT_LIMIT
    assert f"of about {MANY}" in page.content.decode()
    assert alice.get(f"{MESSAGES}?status=held").context["cl"].result_count == MANY // 1009


def test_a_page_takes_the_same_number_of_queries_whatever_it_shows(
    many: int, alice: Client, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(7):  # session, user, two of permissions, count, estimate, rows
        alice.get(MESSAGES)


@pytest.mark.django_db
def test_a_message_id_is_found_in_the_room_that_has_it(many: int) -> None:
    assert message_search.find_exactly("m:4711") == list(
        Message.objects.filter(message_id="m:4711").values_list("pk", flat=True)
    )
