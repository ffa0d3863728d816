"""Rules: what may be one, and how they are made from the command line."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from hypothesis import HealthCheck, example, given
from hypothesis import settings as settings_of
from hypothesis import strategies as st

from integrations.management.rule_arguments import summary
from integrations.models import EventKind, IntegrationRule, TargetKind, When
from integrations.rules import rules
from integrations.secrets.sealing import unseal
from rooms.errors import ChatError
from tests.integrations.world import add_rule, now

pytestmark = pytest.mark.django_db


@pytest.fixture
def _local(settings: Any) -> None:
    settings.WEBHOOK_ALLOW_PRIVATE = ["127.0.0.0/8"]


def command(*arguments: str) -> Any:
    out = StringIO()
    call_command("rule", *arguments, "--json", stdout=out)
    return json.loads(out.getvalue())


def refused(**wanted: Any) -> ChatError:
    with pytest.raises(ChatError) as caught:
        rules.add(rules.RuleSpec(**({"name": "r", "url": "https://1.1.1.1/"} | wanted)), now=now())
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
    began = time.thread_time()
    rules.matches("(a+)+$", "a" * 250 + "!")

    assert time.thread_time() - began < 1


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
        {"events": []}, {"events": ["channel.occupancy"], "when": "before"}, {"sample_percent": 0},
        {"sample_percent": 101}, {"sample_percent": float("nan")}, {"batch_events": 0}, {"batch_bytes": 10**9},
        {"batch_wait_ms": -1}, {"batch_wait_ms": 20_000, "when": "before"}, {"timeout_seconds": 0},
        {"timeout_seconds": 901}, {"concurrency": 0}, {"late": "perhaps"}, {"at_deadline_new": "wait"},
        {"cache_seconds": -1}, {"cache_after": 0}, {"stands_in": True}, {"target": "queue"}, {"function": "f"},
        {"role": "arn:aws:iam::123456789012:role/r"}, {"region": "eu-central-1"},
    ],
)  # fmt: skip
def test_a_rule_that_makes_no_sense_is_refused(wanted: dict[str, Any]) -> None:
    assert refused(**wanted).code == 40003


def test_a_rule_for_presence_is_told_that_there_is_none_yet() -> None:
    assert "no presence" in refused(events=["channel.presence"]).message


@pytest.mark.parametrize(
    "wanted",
    [
        {"function": ""}, {"function": "a b"}, {"function": "arn:aws:s3:::bucket"},
        {"function": "f:1", "qualifier": "2"}, {"function": "f", "role": "me"},
        {"function": "f", "qualifier": "a b"}, {"function": "f", "region": "Frankfurt"},
        {"function": "f", "external_id": "x1"}, {"function": "f", "invocation": "later"},
        {"function": "arn:aws:lambda:eu-west-1:123456789012:function:f", "region": "eu-central-1"},
        {"function": "f", "url": "http://10.0.0.1/"}, {"function": "f", "invocation": "event", "batch_bytes": 900_000},
    ],
)  # fmt: skip
def test_a_function_that_cannot_be_invoked_is_refused(wanted: dict[str, Any], settings: Any) -> None:
    settings.AWS_REGION = "eu-west-1"
    assert refused(**({"target": "lambda", "url": ""} | wanted)).code == 40003


@pytest.mark.parametrize(
    "wanted",
    [
        {"function": "word-filter"}, {"function": "word-filter", "qualifier": "$LATEST", "region": "eu-central-1"},
        {"function": "arn:aws:lambda:eu-west-1:123456789012:function:f:live"},
        {"function": "123456789012:function:f", "role": "arn:aws:iam::123456789012:role/chat", "external_id": "x1"},
    ],
)  # fmt: skip
def test_a_function_is_named_as_the_invoke_api_takes_it(wanted: dict[str, Any], settings: Any) -> None:
    settings.AWS_REGION = "eu-west-1"
    assert add_rule("", target="lambda", **wanted).pk


@pytest.mark.parametrize(
    ("wanted", "is_known"),
    [
        ({"target": "lambda", "url": "", "function": "f"}, False),
        ({"target": "lambda", "url": "", "function": "arn:aws:lambda:eu-west-1:123456789012:function:f"}, True),
        ({"target": "function-url", "url": "https://1.1.1.1/"}, False),
        ({"target": "function-url", "url": "https://1.1.1.1/", "region": "eu-west-1"}, True),
        ({"target": "function-url", "url": "https://abc.lambda-url.eu-west-1.on.aws/"}, True),
    ],
)
def test_a_call_to_aws_needs_a_region(wanted: dict[str, Any], is_known: bool, settings: Any) -> None:
    settings.AWS_REGION = ""
    if is_known:
        rules.check(rules.RuleSpec(name="r", **wanted))
    else:
        assert "region" in refused(**wanted).message


TEXTS = st.text(max_size=90) | st.sampled_from(["", "^a$", "retry", "lambda", "event", "eu-central-1", "x" * 201])


@settings_of(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    known=st.fixed_dictionaries(
        {"name": TEXTS},
        optional={
            "events": st.lists(st.sampled_from(EventKind.values), max_size=3), "room_filter": TEXTS, "function": TEXTS,
            "author_filter": TEXTS, "sample_percent": st.floats(), "when": st.sampled_from(When.values),
            "order": st.integers(), "target": st.sampled_from(TargetKind.values), "qualifier": TEXTS, "region": TEXTS,
            "role": TEXTS, "external_id": TEXTS, "invocation": TEXTS, "batch_events": st.integers(),
            "batch_bytes": st.integers(), "batch_wait_ms": st.integers(), "timeout_seconds": st.none() | st.floats(),
            "concurrency": st.none() | st.integers(), "budget_seconds": st.none() | st.floats(),
            "at_deadline": TEXTS, "at_deadline_new": TEXTS, "at_deadline_trusted": TEXTS, "late": TEXTS,
            "cache_seconds": st.floats(), "cache_after": st.integers(), "stands_in": st.booleans(),
            "headers": st.dictionaries(TEXTS, TEXTS, max_size=3),
        },
    )
)  # fmt: skip
@example(known={"name": "r", "role": f"arn:aws{'-' * 200}:iam::123456789012:role/r", "target": "function-url"})
@example(known={"name": "r", "region": f"eu-{'a' * 40}-1", "target": "function-url"})
@example(known={"name": "\ud800"})
def test_whatever_is_asked_for_is_refused_with_a_sentence_or_can_be_stored(known: dict[str, Any]) -> None:
    try:
        rule, _ = rules.add(rules.RuleSpec(**({"url": "https://1.1.1.1/"} | known)), now=now())
    except ChatError as error:
        assert error.status in (400, 409) and len(error.message) > 10
    else:
        rule.refresh_from_db()
        assert replace(rules.spec_of(rule), name="r") == replace(rules.spec_of(rules.find(rule.name)), name="r")
        rule.delete()


@pytest.mark.usefixtures("_local")
def test_an_edited_rule_keeps_its_secret_and_all_that_was_not_asked_for() -> None:
    before = add_rule(name="old", room_filter="^a$", headers={"X-Team": "chat"}, at_deadline="hold", when="before")
    wanted = replace(rules.spec_of(before), name="new", at_deadline_trusted="publish")

    later = now()
    after = rules.edit("old", wanted, now=later)

    after.refresh_from_db()
    assert (after.pk, after.name, after.changed_at) == (before.pk, "new", later)
    assert (after.room_filter, after.headers, after.at_deadline) == ("^a$", {"x-team": "chat"}, "hold")
    assert after.at_deadline_trusted == "publish"
    assert bytes(after.sealed_secret) == bytes(before.sealed_secret)


@pytest.mark.usefixtures("_local")
def test_a_rule_does_not_move_to_the_other_side_of_publishing() -> None:
    rule = add_rule(when="before")

    with pytest.raises(ChatError, match="stays before"):
        rules.edit(rule.name, replace(rules.spec_of(rule), when="after"), now=now())


@pytest.mark.usefixtures("_local")
def test_a_shadow_watches_a_rule_that_decides_and_one_shadow_may_stand_in() -> None:
    main, after = add_rule(when="before", name="main"), add_rule(name="after")
    shadow = add_rule(when="before", shadow_of=main, stands_in=True)

    for wanted in (
        {"when": "before", "shadow_of": shadow},
        {"when": "before", "shadow_of": after},
        {"shadow_of": main},
        {"when": "before", "shadow_of": main, "stands_in": True},
    ):
        with pytest.raises(ChatError):
            add_rule(**wanted)
    for name, of in ((shadow.name, shadow), ("main", add_rule(when="before"))):
        with pytest.raises(ChatError):
            rules.edit(name, replace(rules.spec_of(rules.find(name)), shadow_of=of), now=now())

    rules.remove("main", now=now())
    assert not IntegrationRule.objects.filter(pk=shadow.pk).exists()


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
def test_a_rotated_secret_is_good_for_the_overlap_and_none_without() -> None:
    rule, moment = add_rule(name="n"), now()
    rules.rotate_secret("n", now=moment, overlap=timedelta(hours=1))
    rule.refresh_from_db()
    assert rule.sealed_former_secret is not None
    assert rule.former_secret_until == moment + timedelta(hours=1)

    rules.rotate_secret("n", now=moment, overlap=timedelta(0))
    rule.refresh_from_db()
    assert (rule.sealed_former_secret, rule.former_secret_until) == (None, None)


@pytest.mark.usefixtures("_local")
def test_aws_keys_come_from_a_file_and_are_kept_sealed(tmp_path: Path) -> None:
    rule = add_rule(name="n", target="function-url", region="eu-central-1")
    keys = tmp_path / "keys.json"
    keys.write_text(json.dumps({"accessKeyId": "AKIA", "secretAccessKey": "s3cret"}))

    assert command("credentials", "n", "--file", str(keys))["ownCredentials"] is True
    rule.refresh_from_db()
    assert rule.sealed_credentials is not None and b"s3cret" not in bytes(rule.sealed_credentials)
    assert json.loads(unseal(bytes(rule.sealed_credentials))) == {"accessKeyId": "AKIA", "secretAccessKey": "s3cret"}
    assert command("credentials", "n", "--forget")["ownCredentials"] is False
    keys.write_text('["no"]')
    with pytest.raises(CommandError, match="JSON object"):
        call_command("rule", "credentials", "n", "--file", str(keys), stdout=StringIO())


@pytest.mark.usefixtures("_local")
def test_edit_changes_what_its_options_name_and_nothing_else() -> None:
    command(
        "add", "--name", "n", "--url", "http://127.0.0.1:1/", "--when", "before", "--plain", "--header", "a: secret"
    )
    command("add", "--name", "shadow", "--url", "http://127.0.0.1:2/", "--when", "before", "--shadow-of", "n")

    edited = command(
        "edit", "n", "--author", "^guest", "--sample", "12.5", "--batched", "--batch-wait", "50", "--timeout", "2",
        "--at-deadline", "retry", "--at-deadline-trusted", "publish", "--late", "apply", "--cache-after", "5",
    )  # fmt: skip

    assert (edited["author"], edited["sample"], edited["enveloped"], edited["batched"]) == ("^guest", 12.5, False, True)
    assert (edited["atDeadline"], edited["atDeadlineNew"], edited["atDeadlineTrusted"]) == ("retry", "retry", "publish")
    assert (edited["headers"], edited["url"]) == (["a"], "http://127.0.0.1:1/")
    assert command("edit", "n", "--timeout", "default")["timeout"] is None
    assert command("edit", "n", "--enveloped", "--header", "", "--name", "m")["headers"] == []
    assert [one["shadowOf"] for one in command("list")] == [None, "m"]
    assert command("edit", "shadow", "--shadow-of", "")["shadowOf"] is None


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


def test_the_list_says_what_a_rule_hears_and_a_shadow_what_its_main_rule_hears() -> None:
    main = IntegrationRule(name="filter", when="before", room_filter="^a$", url="https://x.example/?key=secret")
    shadow = IntegrationRule(name="next", when="before", url="https://y.example/", shadow_of=main)
    every = IntegrationRule(name="archive", when="after", url="https://z.example/", events=["channel.message"])

    assert [summary(rule) for rule in (main, shadow, every)] == [
        "filter  before publish  /^a$/  https://x.example/",
        "next  before publish  https://y.example/  (shadow for filter)",
        "archive  after publish  channel.message  all rooms  https://z.example/",
    ]
