"""Which lines each level writes."""

from __future__ import annotations

import pytest

from integrations.lambda_runtime.log import Level, Log, Report


@pytest.mark.parametrize(
    ("level", "said"),
    [
        (Level.NONE, []),
        (Level.ERRORS, ["went wrong", "INJECTED"]),
        (Level.REQUESTS, ["went wrong", "INJECTED", "a request"]),
        (Level.AWS, ["START", "went wrong", "END", "REPORT", "INJECTED", "a request"]),
    ],
)
def test_each_level_says_what_it_should(level: Level, said: list[str]) -> None:
    lines: list[str] = []
    log = Log(lines.append, level=level)
    log.start("r")
    log.end(Report(request_id="r", seconds=1, memory_mb=128, peak_bytes=1), "went wrong")
    log.injected("r", "error")
    log.say("a request", level=Level.REQUESTS)
    assert [line.startswith(word) for line, word in zip("".join(lines).splitlines(), said, strict=True)] == [
        True
    ] * len(said)
