"""Tokens of both kinds, as pure functions."""

from __future__ import annotations

import base64
import json
import string
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from integrations.access import jwts, opaque_tokens
from integrations.access.tokens import TokenDetails, identify
from rooms.access.capabilities import OPERATIONS, Capability
from rooms.errors import ChatError, Code

NOW = 1_790_000_000
HOUR = 3_600_000


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key that stands in no database."""

    name: str = "app123.key456"
    secret: str = field(default="s3cret-" * 6, repr=False)
    capability: Capability = field(default_factory=lambda: Capability.parse('{"*":["*"]}'))

    @property
    def capability_text(self) -> str:
        return self.capability.as_text()


KEY = Key()

segments = st.sampled_from(["a", "b", "chat", "*"])
patterns = st.lists(segments, min_size=1, max_size=3).map(":".join)
capabilities = st.dictionaries(
    patterns, st.sets(st.sampled_from([*sorted(OPERATIONS)[:4], "*"]), min_size=1), min_size=1, max_size=4
).map(lambda shape: Capability.parse({pattern: sorted(names) for pattern, names in shape.items()}))
rooms = st.lists(st.sampled_from(["a", "b", "chat", "c"]), min_size=1, max_size=4).map(":".join)
client_ids = st.none() | st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40
)


def issue(key: Key = KEY, **changes: Any) -> TokenDetails:
    wanted: dict[str, Any] = {"capability": None, "client_id": "alice", "issued": NOW * 1000, "life": HOUR}
    return opaque_tokens.issue(key, **(wanted | changes))


def sign(key: Key = KEY, headers: dict[str, Any] | None = None, algorithm: str = "HS256", **changes: Any) -> str:
    """Make a JWT as the token server of somebody else would; a claim of None is left out."""
    claims: dict[str, Any] = {
        "iat": NOW,
        "exp": NOW + 3600,
        "x-ably-capability": '{"*":["*"]}',
        "x-ably-clientId": "alice",
    }
    claims |= {name.replace("_", "-"): value for name, value in changes.items()}
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, key.secret, algorithm=algorithm, headers={"kid": key.name} | (headers or {}))


def code_of(call: Any) -> int:
    with pytest.raises(ChatError) as refused:
        call()
    return refused.value.code


# --- Our own ----------------------------------------------------------------------------------------------


@given(capability=capabilities, client_id=client_ids, life=st.integers(1, 86_400_000))
def test_a_token_says_what_it_was_issued_with(capability: Capability, client_id: str | None, life: int) -> None:
    details = issue(capability=capability, client_id=client_id, life=life)
    token = opaque_tokens.read(details.token, KEY)
    assert opaque_tokens.name_key(details.token) == token.key_name == KEY.name
    assert token.client_id == details.client_id == client_id
    assert token.capability.as_text() == details.capability == capability.as_text()
    assert (token.starts_at, token.expires_at) == (NOW, (NOW * 1000 + life) / 1000)


@given(data=st.data())
def test_a_token_with_any_character_changed_is_refused(data: st.DataObject) -> None:
    token = issue().token
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_=.!"))
    assume(token[place] != other)
    changed = token[:place] + other + token[place + 1 :]
    assert code_of(lambda: opaque_tokens.read(changed, KEY)) == Code.TOKEN_UNKNOWN


@given(
    text=st.text(max_size=200)
    | st.binary(max_size=100).map(lambda raw: "app123." + base64.urlsafe_b64encode(raw).decode())
)
def test_noise_is_no_token(text: str) -> None:
    assert code_of(lambda: opaque_tokens.read(text, KEY)) == Code.TOKEN_UNKNOWN


def test_a_token_with_something_added_or_taken_away_is_refused() -> None:
    token = issue().token
    for changed in (token + "A", token + "=", token[:-1], token + "\n", " " + token, "x" + token):
        assert code_of(lambda changed=changed: opaque_tokens.read(changed, KEY)) == Code.TOKEN_UNKNOWN


def test_a_token_of_one_key_is_refused_by_another() -> None:
    token = issue().token
    for other in (Key(secret="another" * 6), Key(name="app123.other1"), Key(name="other1.key456")):
        if other.secret != KEY.secret:
            assert code_of(lambda other=other: opaque_tokens.read(token, other)) == Code.TOKEN_UNKNOWN
    renamed = "other1." + token.partition(".")[2]
    assert code_of(lambda: opaque_tokens.read(renamed, KEY)) == Code.TOKEN_UNKNOWN


def test_a_token_that_an_earlier_version_made_is_good_after_an_upgrade() -> None:
    made = (
        "app.AQRrZXkxhH6_KTn226SibTqsxuURWjfTKoGJ-BoW_g61mbXeTqe2SRPifGmrj1Z0nGD6VLIAgVqRC9roBuKCBSz5NUlP0CP5hNKgAu"
        "-rNwlPkMorQA"
    )
    token = opaque_tokens.read(made, Key(name="app.key1", secret="an old secret"))

    assert (token.client_id, token.issued_at, token.expires_at) == ("alice", NOW, NOW + 60)
    assert token.capability.as_dict() == {"lobby": ["publish"]}


def test_two_tokens_are_never_the_same() -> None:
    assert issue().token != issue().token


def test_a_token_hides_its_capability_and_its_repr_hides_the_token() -> None:
    details = issue(capability=Capability.parse('{"secret-project":["publish"]}'))
    raw = base64.urlsafe_b64decode(details.token.partition(".")[2] + "==")
    assert b"secret-project" not in raw
    assert details.token not in repr(details)


@given(mine=capabilities, asked=st.none() | capabilities, room=rooms, operation=st.sampled_from(sorted(OPERATIONS)[:4]))
def test_a_token_never_allows_more_than_its_key(
    mine: Capability, asked: Capability | None, room: str, operation: str
) -> None:
    key = Key(capability=mine)
    try:
        token = opaque_tokens.read(issue(key, capability=asked).token, key)
        signed = jwts.read(sign(key, x_ably_capability=(asked or mine).as_text()), key)
    except ChatError as refused:
        assert refused.code == Code.OPERATION_NOT_PERMITTED
        return
    for granted in (token.capability, signed.capability):
        assert mine.allows(room, operation) or not granted.allows(room, operation)
        assert asked is None or asked.allows(room, operation) or not granted.allows(room, operation)


def test_a_token_that_could_do_nothing_is_not_made() -> None:
    key = Key(capability=Capability.parse('{"a":["publish"]}'))
    assert code_of(lambda: issue(key, capability=Capability.parse('{"b":["publish"]}'))) == 40160


def test_a_token_that_fits_in_no_address_is_not_made() -> None:
    rooms = {f"room-{hash((number, 'x'))}-{number}": ["publish"] for number in range(900)}
    assert code_of(lambda: issue(capability=Capability.parse(rooms))) == Code.INVALID_PARAMETER


def test_a_token_for_two_hundred_rooms_fits() -> None:
    rooms = {f"room-number-{number}": ["publish", "subscribe", "history", "presence"] for number in range(200)}
    assert len(issue(capability=Capability.parse(rooms)).token) < 4000


@pytest.mark.parametrize("client_id", ["", "x" * 256, "a\0b", "half \ud800"])
def test_a_client_id_that_cannot_be_stored_is_refused(client_id: str) -> None:
    assert code_of(lambda: issue(client_id=client_id)) == Code.INVALID_CLIENT_ID


def test_half_a_character_in_a_capability_is_refused() -> None:
    half = Capability({"\ud800": frozenset({"publish"})})
    assert code_of(lambda: issue(capability=half)) == Code.INVALID_PARAMETER


# --- JWTs -------------------------------------------------------------------------------------------------


def test_a_jwt_says_what_its_claims_say() -> None:
    token = jwts.read(sign(x_ably_capability='{"chat:*":["subscribe"]}', jti="number-1"), KEY)
    assert (token.client_id, token.id, token.starts_at, token.expires_at) == ("alice", "number-1", NOW, NOW + 3600)
    assert token.capability.as_text() == '{"chat:*":["subscribe"]}'


def test_a_jwt_without_client_id_is_anonymous() -> None:
    assert jwts.read(sign(**{"x_ably_clientId": None}), KEY).client_id is None


def test_a_jwt_may_carry_its_capability_as_an_object() -> None:
    token = jwts.read(sign(x_ably_capability={"chat": ["publish"]}), KEY)
    assert token.capability.as_text() == '{"chat":["publish"]}'


@given(data=st.data())
def test_a_jwt_with_any_character_changed_is_refused(data: st.DataObject) -> None:
    token = sign()
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from(string.ascii_letters + string.digits + "-_=.!"))
    assume(token[place] != other)
    changed = token[:place] + other + token[place + 1 :]
    assert code_of(lambda: jwts.read(changed, KEY)) == Code.TOKEN_INVALID


@given(text=st.text(max_size=100) | st.text(string.ascii_letters + string.digits + "-_.", max_size=100))
def test_noise_is_no_jwt(text: str) -> None:
    assert code_of(lambda: jwts.name_key(text)) == Code.TOKEN_INVALID


def test_a_jwt_signed_with_another_secret_is_refused() -> None:
    assert code_of(lambda: jwts.read(sign(Key(secret="another" * 6)), KEY)) == Code.TOKEN_INVALID


def test_a_jwt_that_names_another_key_is_refused() -> None:
    assert code_of(lambda: jwts.read(sign(headers={"kid": "app123.other1"}), KEY)) == Code.TOKEN_INVALID


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_only_one_algorithm_is_accepted(algorithm: str) -> None:
    secret = "s3cret-" * 12
    token = sign(Key(secret=secret), algorithm=algorithm)
    assert code_of(lambda: jwts.read(token, Key(secret=secret))) == Code.TOKEN_INVALID


@pytest.mark.parametrize("algorithm", ["none", "None", "hs256", "RS256", "", None, ["HS256"], 5])
def test_a_forged_algorithm_is_refused(algorithm: Any) -> None:
    token = sign()
    header = json.dumps({"typ": "JWT", "kid": KEY.name, "alg": algorithm}).encode()
    _, claims, signature = token.split(".")
    for forged in (signature, ""):
        changed = ".".join([base64.urlsafe_b64encode(header).rstrip(b"=").decode(), claims, forged])
        assert code_of(lambda changed=changed: jwts.read(changed, KEY)) == Code.TOKEN_INVALID


def test_keys_that_a_jwt_brings_along_are_ignored() -> None:
    brought = {"jku": "http://127.0.0.1:1/keys", "x5u": "http://127.0.0.1:1/", "jwk": {"kty": "oct", "k": "AAAA"}}
    assert jwts.read(sign(headers=brought), KEY).client_id == "alice"
    assert code_of(lambda: jwts.read(sign(Key(secret="\0" * 32), headers=brought), KEY)) == Code.TOKEN_INVALID


def test_a_jwt_that_demands_an_extension_is_refused() -> None:
    assert code_of(lambda: jwts.read(sign(headers={"crit": ["exp"], "exp": NOW}), KEY)) == Code.TOKEN_INVALID


@pytest.mark.parametrize("kid", ["../../etc/passwd", "", 7, None, {"a": 1}])
def test_a_strange_key_name_is_refused(kid: Any) -> None:
    header = base64.urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": kid}).encode()).rstrip(b"=").decode()
    token = ".".join([header, *sign().split(".")[1:]])
    assert code_of(lambda: jwts.read(token, KEY)) == Code.TOKEN_INVALID


@pytest.mark.parametrize("claim", ["iat", "exp"])
@pytest.mark.parametrize("value", [None, "soon", True, float("inf"), float("nan"), 10**400])
def test_a_jwt_needs_its_times(claim: str, value: Any) -> None:
    body = {"iat": NOW, "exp": NOW + 60, "x-ably-capability": '{"*":["*"]}'} | {claim: value}
    token = jwt.PyJWS().encode(json.dumps(body).encode(), KEY.secret, "HS256", headers={"kid": KEY.name})
    assert code_of(lambda: jwts.read(token, KEY)) == Code.TOKEN_INVALID


@pytest.mark.parametrize("value", [None, 5, ["*"]])
def test_a_jwt_needs_a_capability(value: Any) -> None:
    assert code_of(lambda: jwts.read(sign(x_ably_capability=value), KEY)) == Code.TOKEN_INVALID


def test_a_jwt_whose_capability_is_no_json_is_refused() -> None:
    assert code_of(lambda: jwts.read(sign(x_ably_capability="{"), KEY)) == Code.INVALID_PARAMETER


@pytest.mark.parametrize("value", ["", 5, "a\0b", "x" * 256])
def test_a_jwt_with_a_bad_client_id_is_refused(value: Any) -> None:
    assert code_of(lambda: jwts.read(sign(**{"x_ably_clientId": value}), KEY)) == Code.INVALID_CLIENT_ID


@pytest.mark.parametrize("change", [lambda text: text + "=", lambda text: text + "\n", lambda text: text + "A"])
def test_the_signature_of_a_jwt_has_one_form_only(change: Callable[[str], str]) -> None:
    assert code_of(lambda: jwts.read(change(sign()), KEY)) == Code.TOKEN_INVALID


# --- Both -------------------------------------------------------------------------------------------------


def test_a_token_is_current_from_its_start_to_its_end() -> None:
    token = jwts.read(sign(nbf=NOW + 100), KEY)
    assert token.require_current(NOW + 100, max_life=86_400) is token
    assert token.require_current(NOW + 3599.9, max_life=86_400) is token
    assert token.require_current(NOW + 41, max_life=86_400) is token  # clocks differ a little
    assert code_of(lambda: token.require_current(NOW + 3600, max_life=86_400)) == Code.TOKEN_EXPIRED
    assert code_of(lambda: token.require_current(NOW + 30, max_life=86_400)) == Code.TOKEN_INVALID
    assert code_of(lambda: token.require_current(NOW + 100, max_life=3000)) == Code.INVALID_PARAMETER


@pytest.mark.parametrize(
    ("granted", "requested", "who"),
    [
        (None, None, None),
        ("alice", None, "alice"),
        ("alice", "", "alice"),
        ("alice", "alice", "alice"),
        ("alice", "*", "alice"),
        ("*", None, "*"),
        ("*", "*", "*"),
        ("*", "bob", "bob"),
    ],
)
def test_a_peer_is_who_it_was_granted_to_be(granted: str | None, requested: str | None, who: str | None) -> None:
    assert identify(granted, requested) == who


@pytest.mark.parametrize(("granted", "requested"), [("alice", "bob"), (None, "bob"), ("alice", "Alice")])
def test_a_peer_cannot_be_somebody_else(granted: str | None, requested: str) -> None:
    assert code_of(lambda: identify(granted, requested)) == Code.INCOMPATIBLE_CREDENTIALS


def test_like_tokens_share_their_capability_in_memory() -> None:
    one, other = (opaque_tokens.read(issue().token, KEY) for _ in range(2))
    assert one.capability is other.capability
