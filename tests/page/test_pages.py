"""The pages as the server sends them: who may see what, and under which policy."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User
from django.test import Client

from rooms.access.guests import clean_name
from rooms.models import Room

pytestmark = pytest.mark.django_db


@pytest.fixture
def lobby() -> Room:
    return Room.objects.create(name="lobby", title="Lobby", listed=True)


@pytest.fixture
def guest(client: Client) -> Client:
    client.post("/guest/", {"name": "Grace Hopper"})
    return client


@pytest.mark.parametrize("path", ["/", "/rooms/lobby/"])
def test_somebody_unknown_is_asked_who_they_are_and_comes_back(client: Client, lobby: Room, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 302
    assert response["Location"] == f"/sign-in/?next={path.replace('/', '%2F')}"
    assert client.post("/guest/", {"name": "Grace", "next": path})["Location"] == path


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example/", "//evil.example/", "javascript:alert(1)", "https:evil.example", "\\\\evil"]
)
def test_nobody_is_sent_to_another_site_after_signing_in(client: Client, elsewhere: str) -> None:
    assert client.post("/guest/", {"name": "Grace", "next": elsewhere})["Location"] == "/"


def test_a_guest_gets_a_client_id_that_no_user_can_have(guest: Client) -> None:
    kept = guest.session["guest"]
    assert kept["name"] == "Grace Hopper"
    assert kept["client_id"].startswith("Grace Hopper~")
    assert len(kept["client_id"]) == len("Grace Hopper~") + 4


def test_two_guests_of_one_name_are_two(guest: Client) -> None:
    other = Client()
    other.post("/guest/", {"name": "Grace Hopper"})
    assert other.session["guest"]["client_id"] != guest.session["guest"]["client_id"]


def test_a_guest_who_keeps_the_name_keeps_the_client_id(guest: Client) -> None:
    before = guest.session["guest"]
    guest.post("/guest/", {"name": "Grace Hopper"})
    assert guest.session["guest"] == before


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("  Grace   Hopper ", "Grace Hopper"),
        ("\u202eecarG\u202c", "ecarG"),
        ("Gra\u200bce", "Grace"),
        ("Ｇｒａｃｅ", "Grace"),
        ("李雷", "李雷"),
        ("Z\u0000oë", "Zoë"),
    ],
)
def test_a_name_has_one_visible_form(text: str, name: str) -> None:
    assert clean_name(text) == name


@pytest.mark.parametrize("text", ["", "   ", "\u200b\u2060", "...", "a" * 33, "alice~1234", "alice\uff5e1234"])
def test_what_cannot_be_a_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="A name"):
        clean_name(text)


@pytest.mark.parametrize("name", ["alice", "ALICE", " Alice\u200b "])
def test_a_guest_cannot_take_the_name_of_a_user(client: Client, name: str) -> None:
    User.objects.create_user("alice", password="wonderland")
    response = client.post("/guest/", {"name": name})
    assert response.status_code == 422
    assert b"registered this name" in response.content
    assert "guest" not in client.session


def test_signing_in_forgets_the_guest(guest: Client, lobby: Room) -> None:
    User.objects.create_user("alice", password="wonderland")
    guest.post("/sign-in/", {"username": "alice", "password": "wonderland"})
    assert "guest" not in guest.session
    assert b'data-client-id="alice"' in guest.get("/rooms/lobby/").content


def test_a_wrong_password_says_so_and_signs_nobody_in(client: Client) -> None:
    User.objects.create_user("alice", password="wonderland")
    response = client.post("/sign-in/", {"username": "alice", "password": "looking-glass"})
    assert response.status_code == 422
    assert b"correct username and password" in response.content
    assert client.get("/").status_code == 302


def test_signing_out_needs_a_form_and_forgets_everything(guest: Client) -> None:
    assert guest.get("/sign-out/").status_code == 405
    guest.post("/sign-out/")
    assert guest.get("/").status_code == 302


def test_a_form_of_another_site_is_refused() -> None:
    strict = Client(enforce_csrf_checks=True)
    for path in ("/guest/", "/sign-in/", "/sign-out/"):
        response = strict.post(path, {"name": "Grace"})
        assert response.status_code == 403
        assert b"Please try again" in response.content


def test_the_list_shows_listed_rooms_only(guest: Client, lobby: Room) -> None:
    Room.objects.create(name="secret", title="Secret")
    page = guest.get("/").content
    assert b"Lobby" in page
    assert b"Secret" not in page


def test_charlie_cannot_tell_an_unlisted_room_from_none(guest: Client) -> None:
    Room.objects.create(name="secret", title="Secret")
    hidden, missing = guest.get("/rooms/secret/"), guest.get("/rooms/missing/")
    assert hidden.status_code == missing.status_code == 404
    assert b"Nothing here" in hidden.content


def test_a_room_may_have_any_name(guest: Client) -> None:
    for name in ("chat:to-clients", "a/b", "Straße & <b>", "100%"):
        Room.objects.create(name=name, listed=True)
    assert b"&lt;b&gt;" in guest.get("/").content
    assert b'data-room="a/b"' in guest.get("/rooms/a/b/").content
    assert b'data-room="100%"' in guest.get("/rooms/100%25/").content


@pytest.mark.parametrize("path", ["/", "/sign-in/", "/rooms/lobby/", "/rooms/missing/"])
def test_every_page_forbids_what_is_inline_or_foreign(guest: Client, lobby: Room, path: str) -> None:
    response = guest.get(path)
    policy = response["Content-Security-Policy"]
    assert "default-src 'none'; script-src 'self'; style-src 'self';" in policy
    assert "ws://testserver wss://testserver" in policy
    assert "unsafe" not in policy
    assert b"style=" not in response.content
    assert b" onclick" not in response.content


def test_a_host_that_is_not_ours_is_refused_with_a_policy() -> None:
    response = Client().get("/sign-in/", headers={"host": "evil.example"})
    assert response.status_code == 400
    assert "evil" not in response["Content-Security-Policy"]


def test_pages_are_not_kept_by_caches(guest: Client) -> None:
    assert "no-store" in guest.get("/")["Cache-Control"]


def test_the_list_of_rooms_takes_the_same_queries_however_many_there_are(
    guest: Client, lobby: Room, django_assert_max_num_queries: object
) -> None:
    Room.objects.bulk_create(Room(name=f"room {n}", listed=True) for n in range(50))
    with django_assert_max_num_queries(2):  # type: ignore[operator]
        guest.get("/")
