"""The styles in which Node handlers are written, and what is particular to our bootstrap."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

Serve = Callable[..., Awaitable[Any]]


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("style.mjs", "export const handler = async () => 'fine';"),
        ("style.mjs", "export function handler() { return Promise.resolve('fine'); }"),
        ("style.mjs", "export default { handler: async () => 'fine' };"),
        ("style.mjs", "export const handler = (event, context, callback) => callback(null, 'fine');"),
        ("style.cjs", "exports.handler = async () => 'fine';"),
        ("style.cjs", "module.exports = { handler: (event, context, callback) => callback(null, 'fine') };"),
        ("style.js", "exports.handler = (event, context, callback) => setTimeout(callback, 5, null, 'fine');"),
    ],
)
async def test_every_style_of_handler_is_served_again_and_again(serve: Serve, file: str, source: str) -> None:
    served = await serve(file, source)
    assert [(await served.get()).text for _ in range(3)] == ["fine"] * 3


async def test_a_handler_may_have_another_name(serve: Serve) -> None:
    served = await serve("named.mjs", "export const main = async () => 'main';", handler="main")
    assert (await served.get()).text == "main"


async def test_nothing_returned_is_null(serve: Serve) -> None:
    served = await serve("nothing.mjs", "export const handler = async () => {};")
    assert (await served.get()).text == "null"


async def test_a_handler_that_never_answers_gives_null_once_nothing_is_left_to_do(serve: Serve) -> None:
    served = await serve("silent.mjs", "export const handler = (event, context, callback) => {};")
    assert [(await served.get()).text for _ in range(2)] == ["null", "null"]


async def test_a_callback_waits_for_the_event_loop_unless_told_not_to(serve: Serve) -> None:
    source = """
        let done = 0;
        exports.handler = (event, context, callback) => {
          context.callbackWaitsForEmptyEventLoop = event.rawPath === "/wait";
          setTimeout(() => { done += 1; }, 50);
          const answer = { toJSON: () => done };
          callback(null, answer);
        };
    """
    served = await serve("loop.cjs", source)
    assert (await served.get("wait")).text == "1"
    assert (await served.get("now")).text == "1"


@pytest.mark.parametrize(
    ("statement", "exit_status"),
    [
        ("setTimeout(() => { throw new Error('late'); }, 1)", 129),
        ("Promise.reject(new Error('nobody cares'))", 128),
    ],
)
async def test_an_error_that_nobody_catches_fails_the_call_and_ends_the_process(
    serve: Serve, statement: str, exit_status: int, eventually: Callable[..., Awaitable[None]]
) -> None:
    source = f"""
        export const handler = async (event) => {{
          if (event.rawPath === "/fail") {{
            {statement};
            await new Promise((resolve) => setTimeout(resolve, 60000));
          }}
          return process.pid;
        }};
    """
    served = await serve("late.mjs", source, concurrency=1, timeout_seconds=10)
    before = (await served.get()).text
    assert (await served.get("fail")).status_code == 502
    after = (await served.get()).text
    assert after.isdigit() and after != before


@pytest.mark.parametrize("thrown", ["'just text'", "undefined", "null", "{ strange: true }", "Object.create(null)"])
async def test_anything_may_be_thrown(serve: Serve, thrown: str) -> None:
    served = await serve("throws.mjs", f"export const handler = async () => {{ throw {thrown}; }};")
    assert (await served.get()).status_code == 502
    assert "Error Type: " in served.log
    assert "ExitError" not in served.log


async def test_a_failed_callback_is_a_failed_call(serve: Serve) -> None:
    served = await serve("fails.cjs", "exports.handler = (e, c, callback) => callback(new Error('no'));")
    assert [(await served.get()).status_code for _ in range(2)] == [502, 502]
