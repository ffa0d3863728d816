"""docs/lambda.md says what is: the starter's code, every option, and the body that the server sends."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from integrations.lambda_kit import chat_hook
from integrations.lambda_runtime.command_line import add_options
from integrations.wire import envelope, events
from integrations.wire.verdicts import ACTIONS
from rooms.protocol.wire import Message

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "lambda.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_the_code_of_the_page_is_the_starters() -> None:
    starter = (ROOT / "integrations" / "lambda_kit" / "filter.py").read_text()
    assert blocks("python")[0] in starter


def test_every_option_is_explained() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    add_options(parser)
    options = [name for action in parser._actions for name in action.option_strings]
    assert [name for name in options if f"`{name}" not in PAGE] == []


def test_the_body_on_the_page_has_the_fields_of_a_real_one() -> None:
    (shown,) = (json.loads(block) for block in blocks("json"))
    message = Message(
        id="m", client_id="c", connection_id="n", timestamp=1, name="n", data="d", encoding="e", extras={}
    )
    callback = envelope.Callback(url="u", token="t", expires=1)
    sent = envelope.Event(
        webhook_id="w", room="r", payload=events.message_payload(message), timestamp=1, callback=callback
    )
    real = json.loads(envelope.build(envelope.Shape(rule_id="1", app_id="a", site="local"), [sent]).body)
    assert shown.keys() == real.keys()
    assert shown["messages"][0].keys() == real["messages"][0].keys()
    assert shown["callback"].keys() == real["callback"].keys()


def test_the_helpers_verdicts_are_those_that_the_server_knows() -> None:
    made = [chat_hook.accept(), chat_hook.modify(data="x"), chat_hook.reject("no", {"a": 1}), chat_hook.hold("why")]
    assert [one["action"] for one in made] == ["accept", "modify", "reject", "hold"]
    assert all(one["action"] in ACTIONS and f"| `{one['action']}` |" in PAGE for one in made)
