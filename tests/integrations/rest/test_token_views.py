"""Tokens over HTTP: requestToken for everybody's servers, /auth for the people on the page."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import time
from typing import Any

import msgspec
import pytest
from ably import AblyRest
from django.contrib.auth import get_user_model
from django.db import IntegrityError
from django.http import Http404
from django.test import AsyncRequestFactory, Client
from django.urls import include, path
from django.utils import timezone
from pytest_django import Settings
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from chatsite.http.api import ApiHandler
from integrations.access import keys, opaque_tokens
from integrations.access.keys import NewKey
from integrations.access.token_requests import TokenRequest, sign
from integrations.access.tokens import Token
from integrations.models import UsedNonce
from integrations.rest import errors
from rooms.access.capabilities import Capability
from rooms.errors import ChatError, Code
from rooms.models import Room

pytestmark = [pytest.mark.django_db, pytest.mark.urls(__name__)]

MSGPACK = "application/x-msgpack"


class Failing(APIView):
    """A view with a bug."""

    def get(self, request: Request) -> Response:
        raise IntegrityError(f"DETAIL: Failing row contains (1, {request.query_params['text']}).")


urlpatterns = [path("failing", Failing.as_view()), path("", include("integrations.rest.urls"))]


@pytest.fixture
def new() -> NewKey:
    return keys.create(Capability.parse('{"chat:*":["publish","subscribe"]}'))


def request_of(new: NewKey, **changes: Any) -> dict[str, Any]:
    """Make a signed token request as a token server would; a change to `mac` or `secret` spoils it."""
    name, secret = keys.split_key(new.text)
    wanted: dict[str, Any] = {"timestamp": int(time.time() * 1000), "nonce": f"nonce-{time.monotonic_ns():020}"}
    secret = changes.pop("secret", secret)
    wanted |= changes
    mac = sign(TokenRequest.parse(wanted), name, secret)
    return {"keyName": name, "mac": mac} | wanted


def post(client: Client, name: str, body: Any, **headers: str) -> Any:
    return client.post(f"/keys/{name}/requestToken", json.dumps(body), content_type="application/json", headers=headers)


def code_of(answer: Any) -> int:
    """Return the code of an error, after checking that it has the public shape everywhere."""
    error = answer.json()["error"]
    assert (error["statusCode"], str(error["code"])) == (answer.status_code, answer.headers["X-Ably-Errorcode"])
    assert answer.headers["X-Ably-Errormessage"]
    return int(error["code"])


def read(token: str) -> Token:
    name = opaque_tokens.name_key(token)
    return opaque_tokens.read(token, keys.find([name])[name])


def basic(text: str) -> str:
    return f"Basic {base64.b64encode(text.encode()).decode()}"


# --- requestToken, signed ---------------------------------------------------------------------------------


def test_a_signed_request_gets_a_token(client: Client, new: NewKey) -> None:
    wanted = request_of(new, capability='{"chat:lobby":["publish"]}', clientId="alice", ttl=60_000)
    answer = post(client, new.row.name, wanted)
    details = answer.json()
    assert (answer.status_code, answer.headers["Cache-Control"]) == (201, "no-store")
    assert (details["keyName"], details["clientId"]) == (new.row.name, "alice")
    assert details["expires"] - details["issued"] == 60_000
    assert details["capability"] == '{"chat:lobby":["publish"]}'
    assert read(details["token"]).client_id == "alice"


def test_a_request_that_asks_for_nothing_gets_the_keys_capability_anonymously(client: Client, new: NewKey) -> None:
    details = post(client, new.row.name, request_of(new)).json()
    assert details["capability"] == '{"chat:*":["publish","subscribe"]}'
    assert "clientId" not in details
    assert details["expires"] - details["issued"] == 3_600_000


def test_a_request_gets_no_more_than_the_key_has(client: Client, new: NewKey) -> None:
    details = post(client, new.row.name, request_of(new, capability='{"*":["subscribe","history"]}')).json()
    assert details["capability"] == '{"chat:*":["subscribe"]}'


@pytest.mark.parametrize("binary", [True, False])
def test_the_request_that_the_python_sdk_signs_is_accepted(client: Client, new: NewKey, binary: bool) -> None:
    wanted = asyncio.run(
        sign_with_sdk(new, {"client_id": "alice", "capability": {"chat:lobby": ["publish"]}, "ttl": 5000})
    )
    encode, kind = (msgspec.msgpack.encode, MSGPACK) if binary else (msgspec.json.encode, "application/json")
    url = f"/keys/{new.row.name}/requestToken"
    answer = client.post(url, encode(wanted), content_type=kind, headers={"accept": kind})
    assert (answer.status_code, answer.headers["Content-Type"]) == (201, kind)
    details = (msgspec.msgpack.decode if binary else msgspec.json.decode)(answer.content)
    assert read(details["token"]).capability.as_text() == '{"chat:lobby":["publish"]}'


async def sign_with_sdk(new: NewKey, parameters: dict[str, Any]) -> dict[str, Any]:
    async with AblyRest(key=new.text, endpoint="127.0.0.1", tls=False) as sdk:
        return dict((await sdk.auth.create_token_request(parameters)).to_dict())


@pytest.mark.parametrize(
    "change",
    [
        {"clientId": "mallory"},
        {"capability": '{"*":["*"]}'},
        {"ttl": 86_400_000},
        {"nonce": "another-nonce-of-mine"},
        {"mac": "AAAA"},
        {"mac": "é"},
    ],
)
def test_a_request_changed_after_signing_is_refused(client: Client, new: NewKey, change: dict[str, Any]) -> None:
    assert code_of(post(client, new.row.name, request_of(new) | change)) == Code.INVALID_CREDENTIALS


def test_a_request_signed_with_another_secret_is_refused(client: Client, new: NewKey) -> None:
    assert code_of(post(client, new.row.name, request_of(new, secret="guess"))) == Code.INVALID_CREDENTIALS


@pytest.mark.parametrize("minutes", [-16, 16])
def test_a_request_from_another_time_is_refused(client: Client, new: NewKey, minutes: int) -> None:
    stamp = int((time.time() + minutes * 60) * 1000)
    assert code_of(post(client, new.row.name, request_of(new, timestamp=stamp))) == Code.TIMESTAMP_NOT_CURRENT


def test_a_request_is_good_for_one_token(client: Client, new: NewKey) -> None:
    wanted = request_of(new)
    assert post(client, new.row.name, wanted).status_code == 201
    assert code_of(post(client, new.row.name, wanted)) == Code.NONCE_REPLAYED


def test_a_request_that_failed_can_be_corrected(client: Client, new: NewKey) -> None:
    nonce = "the-same-nonce-again"
    assert code_of(post(client, new.row.name, request_of(new, nonce=nonce, ttl=10**12))) == Code.INVALID_PARAMETER
    assert post(client, new.row.name, request_of(new, nonce=nonce)).status_code == 201


def test_old_nonces_are_forgotten_and_current_ones_kept(client: Client, new: NewKey) -> None:
    old = timezone.now() - timezone.timedelta(seconds=1)
    UsedNonce.objects.bulk_create(UsedNonce(key=new.row, nonce=f"old-{n}", expires_at=old) for n in range(30))
    post(client, new.row.name, request_of(new))
    assert UsedNonce.objects.count() == 11
    post(client, new.row.name, request_of(new))
    assert list(UsedNonce.objects.filter(nonce__startswith="old")) == []
    assert UsedNonce.objects.count() == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"ttl": -1}, Code.INVALID_PARAMETER),
        ({"ttl": 86_400_001}, Code.INVALID_PARAMETER),
        ({"capability": "{"}, Code.INVALID_PARAMETER),
        ({"capability": '{"chat:lobby":["fly"]}'}, Code.INVALID_PARAMETER),
        ({"capability": '{"other":["publish"]}'}, Code.OPERATION_NOT_PERMITTED),
        ({"clientId": ""}, Code.INVALID_CLIENT_ID),
        ({"clientId": "x" * 256}, Code.INVALID_CLIENT_ID),
        ({"nonce": "short"}, Code.INVALID_PARAMETER),
        ({"nonce": None}, Code.INVALID_PARAMETER),
        ({"nonce": "zero-byte-\0-in-a-nonce"}, Code.INVALID_PARAMETER),
        ({"keyName": "app.other"}, Code.INVALID_PARAMETER),
        ({"timestamp": 10**18}, Code.TIMESTAMP_NOT_CURRENT),
    ],
)
def test_a_request_for_what_cannot_be_is_refused(
    client: Client, new: NewKey, change: dict[str, Any], code: Code
) -> None:
    assert code_of(post(client, new.row.name, request_of(new, **change))) == code
    assert UsedNonce.objects.count() == 0


def test_an_unknown_and_a_revoked_key_get_no_token(client: Client, new: NewKey) -> None:
    assert code_of(post(client, "app.unknown", request_of(new, keyName="app.unknown"))) == Code.KEY_UNKNOWN
    keys.revoke(new.row.name, timezone.now())
    assert code_of(post(client, new.row.name, request_of(new))) == Code.KEY_REVOKED


# --- requestToken, with the key ---------------------------------------------------------------------------


def test_with_the_key_no_signature_is_needed(client: Client, new: NewKey) -> None:
    answer = post(client, new.row.name, {"clientId": "*", "ttl": "60000"}, authorization=basic(new.text))
    assert answer.status_code == 201
    assert read(answer.json()["token"]).client_id == "*"
    name, secret = keys.split_key(new.text)
    in_address = client.post(f"/keys/{name}/requestToken?key={name}:{secret}", b"", content_type="text/plain")
    assert in_address.status_code == 201


def test_without_signature_and_key_there_is_no_token(client: Client, new: NewKey) -> None:
    other = keys.create(Capability.parse('{"*":["*"]}'))
    assert code_of(post(client, new.row.name, {})) == Code.NO_CREDENTIALS
    for shown in (f"{new.row.name}:guess", other.text, "nonsense"):
        answer = post(client, new.row.name, {}, authorization=basic(shown))
        assert (answer.status_code, code_of(answer)) == (401, Code.INVALID_CREDENTIALS)
    assert code_of(post(client, new.row.name, {}, authorization="Basic ///é")) == Code.INVALID_CREDENTIALS


# --- Bodies and errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"\xff\xfe"),
        ("application/json", b"[" * 100_000),
        ("text/plain", b"noise"),
        (MSGPACK, b"\xc1"),
        (MSGPACK, b"\x91" * 100_000),
    ],
)
def test_noise_is_refused(client: Client, new: NewKey, kind: str, body: bytes) -> None:
    answer = client.post(f"/keys/{new.row.name}/requestToken", body, content_type=kind)
    assert (answer.status_code, code_of(answer)) == (400, Code.INVALID_BODY)


@pytest.mark.parametrize("body", [[], "text", 5, {"ttl": []}, {"timestamp": "soon"}, {"mac": 5}])
def test_a_body_of_another_shape_is_refused(client: Client, new: NewKey, body: Any) -> None:
    assert code_of(post(client, new.row.name, body)) == Code.INVALID_PARAMETER


def test_a_body_above_the_limit_is_refused(client: Client, new: NewKey, settings: Settings) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE = 1000
    assert code_of(post(client, new.row.name, {"nonce": "x" * 1000})) == Code.MESSAGE_TOO_LARGE


def test_errors_come_in_messagepack_to_whom_asks_for_it(client: Client, new: NewKey) -> None:
    answer = post(client, new.row.name, {}, accept=MSGPACK)
    assert msgspec.msgpack.decode(answer.content)["error"]["code"] == Code.NO_CREDENTIALS


def test_only_post_is_answered(client: Client, new: NewKey) -> None:
    assert code_of(client.get(f"/keys/{new.row.name}/requestToken")) == Code.METHOD_NOT_ALLOWED


def test_a_bug_tells_the_peer_and_the_log_nothing_it_should_not_hold(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    client.raise_request_exception = False
    with caplog.at_level(logging.DEBUG):
        answer = client.get("/failing", {"text": "private"})
    assert (answer.status_code, code_of(answer)) == (500, Code.INTERNAL)
    assert "private" not in answer.content.decode() + caplog.text
    assert "IntegrityError" in caplog.text


def test_a_sentence_of_an_error_cannot_break_out_of_its_header() -> None:
    error = ChatError(Code.BAD_REQUEST, "room 'ü\r\nSet-Cookie: a=b'")
    assert errors.headers_of(error)["X-Ably-Errormessage"] == "room ' Set-Cookie: a=b'"
    assert errors.handle(error, {}).data["error"]["message"] == error.message


def test_what_django_raises_on_purpose_has_the_public_shape() -> None:
    assert errors.handle(Http404("secret"), {}).data["error"] == {
        "code": 40400,
        "statusCode": 404,
        "message": "There is nothing at this address.",
    }


# --- /auth ------------------------------------------------------------------------------------------------


@pytest.fixture
def rooms() -> None:
    for name, listed in (("lobby", True), ("tea", True), ("staff-only", False), ("*", True), ("team:*", True)):
        Room.objects.create(name=name, listed=listed)


def sign_in(client: Client, **attributes: Any) -> None:
    client.force_login(get_user_model().objects.create_user("alice", password="x", **attributes))


def enter_as_guest(client: Client) -> None:
    session = client.session
    session["guest"] = {"name": "Bob", "client_id": "Bob~1234"}
    session.save()


@pytest.mark.usefixtures("rooms")
@pytest.mark.parametrize(("enter", "client_id"), [(sign_in, "alice"), (enter_as_guest, "Bob~1234")])
def test_somebody_on_the_page_gets_a_token_for_the_listed_rooms(client: Client, enter: Any, client_id: str) -> None:
    enter(client)
    answer = client.get("/auth", headers={"sec-fetch-site": "same-origin"})
    token = read(answer.json()["token"])
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert (token.client_id, answer.json()["clientId"]) == (client_id, client_id)
    for operation in ("publish", "subscribe", "history", "presence"):
        assert token.capability.allows("lobby", operation)
        assert token.capability.allows("tea", operation)
    for other in ("staff-only", "elsewhere", "team:secret"):
        assert not token.capability.allows_any(other)
    assert not token.capability.allows("lobby", "message-delete-any")


@pytest.mark.usefixtures("rooms")
def test_staff_gets_a_token_for_every_room(client: Client) -> None:
    sign_in(client, is_staff=True)
    assert read(client.get("/auth").json()["token"]).capability.allows("staff-only", "publish")


@pytest.mark.usefixtures("rooms")
def test_nobody_gets_no_token_and_is_told_what_to_do(client: Client) -> None:
    answer = client.get("/auth")
    assert (answer.status_code, code_of(answer)) == (401, Code.UNAUTHORIZED)
    assert "/sign-in/" in answer.json()["error"]["message"]


@pytest.mark.usefixtures("rooms")
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://testserver.evil.example"},
        {"origin": "http://testserver:81"},
        {"origin": "https://testserver"},
        {"origin": ""},
    ],
)
@pytest.mark.parametrize("enter", [sign_in, enter_as_guest])
def test_another_site_gets_no_token_with_somebodys_cookie(client: Client, enter: Any, headers: dict[str, str]) -> None:
    enter(client)
    for ask in (client.get, client.post):
        answer = ask("/auth", headers=headers)
        assert (answer.status_code, code_of(answer)) == (403, Code.FORBIDDEN)
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.usefixtures("rooms")
@pytest.mark.parametrize("enter", [sign_in, enter_as_guest])
def test_a_post_needs_the_csrf_token(enter: Any) -> None:
    client = Client(enforce_csrf_checks=True)
    enter(client)
    assert code_of(client.post("/auth")) == Code.FORBIDDEN
    client.cookies["csrftoken"] = "c" * 32
    assert client.post("/auth", {"rnd": "1"}, headers={"x-csrftoken": "c" * 32}).status_code == 200
    assert client.post("/auth", {"csrfmiddlewaretoken": "c" * 32}).status_code == 200


def test_without_any_room_somebody_is_told_so(client: Client) -> None:
    enter_as_guest(client)
    assert code_of(client.get("/auth")) == Code.FORBIDDEN


def test_many_rooms_with_long_names_still_fit_in_a_token(client: Client) -> None:
    Room.objects.bulk_create(Room(name=f"{number:03}" + "ü" * 200, listed=True) for number in range(300))
    enter_as_guest(client)
    token = client.get("/auth").json()["token"]
    assert read(token).capability.allows("000" + "ü" * 200, "publish")
    assert len(token) < 12_288


@pytest.mark.usefixtures("rooms")
def test_revoking_the_pages_key_ends_its_tokens_and_the_next_comes_from_another(client: Client) -> None:
    enter_as_guest(client)
    first = client.get("/auth").json()["keyName"]
    keys.revoke(first, timezone.now())
    assert keys.list_ended([(first, 1)], timezone.now()) == {(first, 1)}
    assert client.get("/auth").json()["keyName"] != first


@pytest.mark.usefixtures("rooms")
def test_a_page_token_costs_few_queries(client: Client, django_assert_max_num_queries: Any) -> None:
    sign_in(client)
    client.get("/auth")
    with django_assert_max_num_queries(4):  # session, user, rooms, key
        client.get("/auth")


# --- Other sites' pages and the public API ----------------------------------------------------------------


def test_pages_of_other_sites_may_call_the_public_api_and_nothing_else(client: Client, new: NewKey) -> None:
    asks = {
        "origin": "http://shop.example",
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization, content-type, x-ably-version",
    }
    url = f"/keys/{new.row.name}/requestToken"
    permitted = client.options(url, headers=asks)
    assert (permitted.status_code, permitted.headers["Access-Control-Allow-Origin"]) == (200, "*")
    assert permitted.headers["Access-Control-Allow-Headers"] == "authorization, *"
    assert "POST" in permitted.headers["Access-Control-Allow-Methods"]
    answer = post(client, new.row.name, request_of(new), origin="http://shop.example")
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (201, "*")
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert "Access-Control-Allow-Origin" not in client.options("/auth", headers=asks).headers


async def test_a_preflight_of_the_asynchronous_api_waits_for_no_view_and_no_thread() -> None:
    handler = ApiHandler()
    handler.load_middleware(is_async=True)
    asks = {"origin": "http://shop.example", "access-control-request-method": "POST"}
    permitted = handler._middleware_chain(AsyncRequestFactory().options("/channels/lobby/messages", headers=asks))
    with pytest.raises(StopIteration) as ended:
        permitted.send(None)  # it never waits: nothing is handed to a thread
    assert ended.value.value.headers["Access-Control-Allow-Origin"] == "*"
