"""Rules: what may be one, and how they are made from the command line."""

from __future__ import annotations

import json
import time
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from integrations import rules
from integrations.models import IntegrationRule
from integrations.sealing import unseal
from rooms.errors import ChatError
from tests.integrations.world import add_rule, now

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def _local(settings: Any) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = ["127.0.0.0/8"]


def command(*arguments: str) -> Any:
    out = StringIO()
    call_command("rule", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def refused(**wanted: Any) -> ChatError:
    with pytest.raises(ChatError) as caught:
        rules.add(rules.Wanted(**({"name": "r", "url": "https://1.1.1.1/"} | wanted)), now=now())
    assert not IntegrationRule.objects.exists()
    return caught.value


@pytest.mark.parametrize(
    ("room_filter", "matching", "other"),
    [
        ("^public.*", "public:news", "my:public"),
        ("^public$", "public", "public:events"),
        (":public$", "mychannel:public", "public"),
        ("^public.*europe$", "public:news:europe", "public:news:americas"),
        ("news", "public:news:americas", "public"),
        ("", "anything", None),
        ("^chat:ä", "chat:äöü", "chat:a"),
    ],
)
def test_a_filter_is_searched_in_the_rooms_name(room_filter: str, matching: str, other: str | None) -> None:
    assert rules.matches(room_filter, matching)
    assert other is None or not rules.matches(room_filter, other)


@pytest.mark.parametrize("room_filter", ["(", "[a", "a{1001}", "(?=a)", r"(a)\1", "*", "x" * 501, "a\0"])
def test_a_filter_that_is_no_regular_expression_is_refused_with_the_reason(room_filter: str) -> None:
    error = refused(room_filter=room_filter)

    assert (error.code, error.status) == (40035, 400)
    assert len(error.message) > 20


def test_a_filter_that_would_take_forever_elsewhere_takes_no_time() -> None:
    began = time.monotonic()
    rules.matches("(a+)+$", "a" * 250 + "!")

    assert time.monotonic() - began < 0.05


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://localhost:8000/x", "http://0x7f000001/", "http://2130706433/", "http://127.1/",
        "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://10.0.0.1/", "http://169.254.169.254/latest/meta-data",
        "http://192.168.1.1/", "http://100.64.0.1/", "http://[fd00:ec2::254]/", "http://0/", "http://[64:ff9b::7f00:1]/",
        "ftp://1.1.1.1/", "//1.1.1.1/", "nonsense", "", "http:///path", "http://user:pass@1.1.1.1/", "http://1.1.1.1:99999/",
        "http://1.1.1.1/#x", "http://1.1.1.1/a b", "http://[::1", "http://1.1.1.1/" + "x" * 2000,
    ],
)  # fmt: skip
def test_a_target_that_must_not_be_called_is_refused(url: str) -> None:
    error = refused(url=url)

    assert (error.code, error.status) == (40003, 400)


def test_a_private_target_says_how_to_allow_it_and_then_is_allowed(settings: Any) -> None:
    assert "127.0.0.1:9001" in refused(url="http://127.0.0.1:9001/").message

    settings.WEBHOOK_ALLOW_PRIVATE = ["127.0.0.1:9001"]
    assert add_rule("http://127.0.0.1:9001/").pk


@pytest.mark.parametrize(
    "wanted",
    [
        {"name": ""}, {"name": "a\nb"}, {"name": "x" * 81}, {"when": "never"}, {"events": ["channel.nothing"]},
        {"at_deadline": "wait"}, {"budget_seconds": 0}, {"budget_seconds": 1e9}, {"budget_seconds": float("nan")},
        {"order": -1}, {"headers": {"host": "x"}}, {"headers": {"Webhook-Id": "x"}}, {"headers": {"a b": "x"}},
        {"headers": {"a": "x\r\ny: z"}}, {"headers": {str(n): "" for n in range(21)}},
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused(wanted: dict[str, Any]) -> None:
    assert refused(**wanted).code == 40003


@pytest.mark.usefixtures("_local")
def test_two_rules_cannot_have_one_name() -> None:
    add_rule(name="one")

    with pytest.raises(ChatError) as caught:
        add_rule(name="one")
    assert caught.value.code == 40900


@pytest.mark.usefixtures("_local")
def test_the_secret_is_shown_once_and_kept_sealed() -> None:
    shown = command("add", "--name", "n", "--url", "http://127.0.0.1:1/")
    rule = IntegrationRule.objects.get()

    assert shown["secret"].startswith("whsec_")
    assert shown["secret"].encode() not in bytes(rule.sealed_secret)
    assert unseal(rule.sealed_secret) == shown["secret"]
    assert "secret" not in command("list")[0]
    assert command("rotate", "n")["secret"] != shown["secret"]


@pytest.mark.usefixtures("_local")
def test_the_command_makes_lists_switches_and_removes_rules() -> None:
    made = command(
        "add", "--name", "n", "--event", "channel.message", "--filter", "^lobby$", "--when", "before", "--url",
        "http://127.0.0.1:1/", "--plain", "--batched", "--budget", "3", "--at-deadline", "hold", "--header", "a: b",
    )  # fmt: skip

    assert {key: made[key] for key in ("name", "filter", "when", "enveloped", "batched", "budget", "atDeadline")} == {
        "name": "n",
        "filter": "^lobby$",
        "when": "before",
        "enveloped": False,
        "batched": True,
        "budget": 3.0,
        "atDeadline": "hold",
    }
    assert IntegrationRule.objects.get().headers == {"a": "b"}
    assert command("disable", "n")["enabled"] is False
    assert command("enable", "n")["enabled"] is True
    assert [rule["name"] for rule in command("list")] == ["n"]
    assert command("remove", "n") == {"removed": "n"}
    assert command("list") == []


def test_a_refusal_of_the_command_is_a_sentence_with_its_code() -> None:
    out = StringIO()
    with pytest.raises(CommandError, match=r"RE2.*\(40035\)"):
        call_command("rule", "add", "--name", "n", "--url", "https://1.1.1.1", "--filter", "(", "--json", stdout=out)

    assert json.loads(out.getvalue())["error"]["code"] == 40035
    with pytest.raises(CommandError, match="no rule 'missing'"):
        call_command("rule", "remove", "missing")
