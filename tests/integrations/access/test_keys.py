"""API keys: made, found, revoked, and never seen again."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from integrations.access import keys
from integrations.models import ApiKey, KeyPurpose
from integrations.secrets.sealing import SealBroken, seal, unseal
from rooms.access.capabilities import Capability
from rooms.errors import ChatError, Code

ANYTHING = Capability.parse('{"*":["*"]}')
NOW = time.time()


def code_of(call: Any) -> int:
    with pytest.raises(ChatError) as refused:
        call()
    return refused.value.code


def command(*arguments: str) -> str:
    out = StringIO()
    call_command("apikey", *arguments, stdout=out, stderr=StringIO())
    return out.getvalue().strip()


@pytest.mark.django_db
def test_a_new_key_is_found_with_its_secret_and_capability() -> None:
    new = keys.create(Capability.parse('{"chat:*":["publish"]}'), label="Lambda")
    name, secret = keys.split_key(new.text)
    found = keys.find([name])[name]
    assert (found.secret, found.capability_text, found.is_revoked) == (secret, '{"chat:*":["publish"]}', False)
    assert keys.check_secret(name, found, secret, NOW) is found


@pytest.mark.django_db
def test_all_keys_belong_to_one_app() -> None:
    apps = {keys.create(ANYTHING).row.app_id for _ in range(3)}
    assert len(apps) == 1


@pytest.mark.django_db
def test_a_wrong_secret_an_unknown_and_a_revoked_key_are_told_apart() -> None:
    name, secret = keys.split_key(keys.create(ANYTHING).text)
    assert (
        code_of(lambda: keys.check_secret(name, keys.find([name])[name], secret + "x", NOW)) == Code.INVALID_CREDENTIALS
    )
    assert code_of(lambda: keys.check_secret(name, None, secret, NOW)) == Code.KEY_UNKNOWN
    keys.revoke(name, timezone.now())
    assert code_of(lambda: keys.check_secret(name, keys.find([name])[name], secret, NOW)) == Code.KEY_REVOKED
    assert code_of(lambda: keys.check_secret(name, keys.find([name])[name], "guess", NOW)) == Code.INVALID_CREDENTIALS


@pytest.mark.django_db
def test_a_key_of_another_app_with_the_same_id_is_unknown() -> None:
    row = keys.create(ANYTHING).row
    assert keys.find([f"other.{row.key_id}"]).get(f"other.{row.key_id}") is None
    assert code_of(lambda: keys.revoke(f"other.{row.key_id}", timezone.now())) == Code.NOT_FOUND
    other = (f"other.{row.key_id}", 1)
    assert keys.list_ended([(row.name, 1), other], timezone.now()) == {other}


@pytest.mark.django_db
def test_revoking_twice_keeps_the_first_time() -> None:
    name = keys.create(ANYTHING).row.name
    first = keys.revoke(name, timezone.now()).revoked_at
    assert first is not None
    assert keys.revoke(name, timezone.now()).revoked_at == first


@pytest.mark.django_db
def test_revoked_and_deleted_keys_have_ended() -> None:
    alive, revoked, deleted = (keys.create(ANYTHING).row for _ in range(3))
    keys.revoke(revoked.name, timezone.now())
    deleted.delete()
    asked = [(name, 1) for name in (alive.name, revoked.name, deleted.name, "no-name", "")]
    assert keys.list_ended(asked, timezone.now()) == {*asked} - {(alive.name, 1)}


@pytest.mark.django_db
def test_finding_many_keys_costs_one_query(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    names = [keys.create(ANYTHING).row.name for _ in range(5)]
    with django_assert_num_queries(1):
        assert set(keys.find([*names, "other.key", "nonsense"])) == set(names)


@pytest.mark.parametrize(
    "text", ["", "app.key", "app.key:", "app:secret", "app.key.more:secret", "a/b.c:d", "app.kéy:s", "app.key:ß"]
)
def test_what_is_no_key_is_refused(text: str) -> None:
    assert code_of(lambda: keys.split_key(text)) == Code.INVALID_CREDENTIALS


# --- Rotation ---------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_rotated_key_has_both_secrets_for_the_overlap_and_then_the_new_one_alone() -> None:
    former = keys.create(ANYTHING)
    now = timezone.now()
    new = keys.rotate(former.row.name, now, overlap=timedelta(hours=1))
    name = former.row.name
    found = keys.find([name])[name]
    during, after = now.timestamp(), now.timestamp() + 3600
    for text, version in ((former.text, 1), (new.text, 2)):
        assert keys.check_secret(name, found, keys.split_key(text)[1], during).version == version
    assert keys.check_secret(name, found, keys.split_key(new.text)[1], after).version == 2
    assert code_of(lambda: keys.check_secret(name, found, keys.split_key(former.text)[1], after)) == 40101


@pytest.mark.django_db
def test_without_an_overlap_every_former_secret_ends_at_once() -> None:
    texts = [keys.create(ANYTHING).text]
    name, now = keys.split_key(texts[0])[0], timezone.now()
    texts.append(keys.rotate(name, now, overlap=timedelta(hours=1)).text)
    texts.append(keys.rotate(name, now, overlap=timedelta(0)).text)
    found = keys.find([name])[name]
    for text in texts[:2]:
        assert code_of(lambda text=text: keys.check_secret(name, found, keys.split_key(text)[1], NOW)) == 40101
    assert keys.check_secret(name, found, keys.split_key(texts[2])[1], NOW)


@pytest.mark.django_db
def test_a_second_rotation_does_not_cut_the_overlap_of_the_first_short() -> None:
    name, now = keys.create(ANYTHING).row.name, timezone.now()
    keys.rotate(name, now, overlap=timedelta(hours=1))
    assert code_of(lambda: keys.rotate(name, now, overlap=timedelta(hours=1))) == Code.CONFLICT
    assert keys.rotate(name, now + timedelta(hours=1), overlap=timedelta(hours=1)).row.secret_version == 3


@pytest.mark.django_db
def test_what_came_by_a_secret_that_was_rotated_out_has_ended() -> None:
    name, now = keys.create(ANYTHING).row.name, timezone.now()
    keys.rotate(name, now, overlap=timedelta(hours=1))
    both = [(name, 1), (name, 2)]
    assert keys.list_ended(both, now) == set()
    assert keys.list_ended(both, now + timedelta(hours=1)) == {(name, 1)}


@pytest.mark.django_db
def test_a_key_that_is_unknown_or_revoked_cannot_be_rotated() -> None:
    name, now = keys.create(ANYTHING).row.name, timezone.now()
    keys.revoke(name, now)
    assert code_of(lambda: keys.rotate(name, now)) == Code.KEY_REVOKED
    assert code_of(lambda: keys.rotate("no.key", now)) == Code.NOT_FOUND


# --- The page's key ---------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_pages_key_is_made_once_however_many_ask_first() -> None:
    def ask(_: int) -> str:
        try:
            return keys.page_key().name
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as threads:
        names = set(threads.map(ask, range(16)))
    assert len(names) == ApiKey.objects.filter(purpose=KeyPurpose.PAGE).count() == 1


@pytest.mark.django_db
def test_the_pages_key_is_replaced_when_it_is_revoked() -> None:
    first = keys.page_key()
    keys.revoke(first.name, timezone.now())
    second = keys.page_key()
    assert second.name != first.name
    assert keys.page_key().secret == second.secret


@pytest.mark.django_db
def test_a_person_may_label_a_key_like_the_pages() -> None:
    made = {keys.create(ANYTHING, label="page").row.name for _ in range(2)}
    assert keys.page_key().name not in made


# --- Secrets at rest --------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_database_does_not_hold_the_secret() -> None:
    new = keys.create(ANYTHING)
    secret = keys.split_key(new.text)[1]
    with connection.cursor() as cursor:
        cursor.execute("SELECT row_to_json(k)::text, sealed_secret FROM integrations_apikey k")
        text, sealed = cursor.fetchone()
    assert secret not in text
    assert secret.encode() not in bytes(sealed)


@pytest.mark.django_db
def test_no_repr_shows_a_secret() -> None:
    new = keys.create(ANYTHING)
    name, secret = keys.split_key(new.text)
    assert secret not in f"{new!r} {new.row!r} {new.row} {keys.find([name])!r} {keys.page_key()!r}"


def test_a_sealed_secret_survives_the_rotation_of_the_secret_key(settings: Settings) -> None:
    settings.SECRET_KEY = "the former one"
    sealed = seal("secret")
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "the new one", ["the former one"]
    assert unseal(sealed) == "secret"
    settings.SECRET_KEY_FALLBACKS = []
    with pytest.raises(SealBroken, match="SECRET_KEY_FALLBACKS"):
        unseal(sealed)


@pytest.mark.django_db
def test_a_key_that_cannot_be_read_any_more_is_unknown_and_takes_no_other_with_it(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    lost, page = keys.create(ANYTHING).row.name, keys.page_key().name
    settings.SECRET_KEY = "another one"
    kept = keys.create(ANYTHING).row.name
    assert set(keys.find([lost, kept])) == {kept}
    assert "SECRET_KEY_FALLBACKS" in caplog.text
    assert keys.page_key().name != page


# --- The command ------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_the_command_makes_a_key_that_works() -> None:
    text = json.loads(command("create", "--capability", '{"*":["*"]}', "--label", "seed", "--json"))["key"]
    name, secret = keys.split_key(text)
    assert keys.check_secret(name, keys.find([name])[name], secret, NOW)
    assert keys.split_key(command("create", "--capability", '{"*":["*"]}'))[0] != name


@pytest.mark.django_db
def test_the_command_lists_keys_without_secrets_and_revokes_them() -> None:
    new = keys.create(Capability.parse('{"chat":["publish"]}'), label="Lambda")
    listed = json.loads(command("list", "--json"))
    assert [(key["name"], key["label"], key["revokedAt"]) for key in listed] == [(new.row.name, "Lambda", None)]
    assert json.loads(command("revoke", new.row.name, "--json"))["revokedAt"]
    shown = command("list")
    assert "revoked" in shown
    assert keys.split_key(new.text)[1] not in shown + json.dumps(listed)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (("create", "--capability", "{"), "Example"),
        (("create", "--capability", '{"a":["fly"]}'), "Unknown operations"),
        (("create", "--capability", '{"*":["*"]}', "--label", "x" * 121), "at most 120"),
        (("create",), "--capability"),
        (("revoke", "no.key"), "apikey list"),
        ((), "create|list|rotate|revoke"),
    ],
)
def test_the_command_says_what_is_wrong(arguments: tuple[str, ...], hint: str) -> None:
    with pytest.raises(CommandError) as refused:
        command(*arguments)
    assert hint in str(refused.value)
