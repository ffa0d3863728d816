"""The options of `manage.py rule replay`, and the outbox's query that they stand for."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from datetime import UTC, datetime, timedelta
from typing import Any

from integrations.models import DeliveryState, EventKind, IntegrationRule
from integrations.outbox import Replay
from rooms.errors import ChatError, Code

AGO = re.compile(r"(\d{1,6})([smhd])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def declare(parser: ArgumentParser) -> None:
    """Add the options of a replay."""
    moment = "an age such as 90m, 2h or 1d, or a time such as 2026-11-23T14:00 (UTC)"
    parser.add_argument("--since", default="", metavar="WHEN", help=f"Events from then on: {moment}.")
    parser.add_argument("--until", default="", metavar="WHEN", help="Events before then.")
    parser.add_argument(
        "--event", default="", choices=["", *EventKind.values], metavar="EVENT", help="Of one kind only."
    )
    parser.add_argument("--delivered", action="store_true", help="What was delivered too, not only dead letters.")


def query_of(rule: IntegrationRule, options: dict[str, Any], *, now: datetime) -> Replay:
    """Return the query of the options. Raises ChatError 40003."""
    states = [DeliveryState.DEAD.value, *([DeliveryState.DELIVERED.value] if options["delivered"] else [])]
    return Replay(
        rule_id=rule.pk,
        states=tuple(states),
        since=read_moment(options["since"], now=now),
        until=read_moment(options["until"], now=now),
        event=options["event"],
    )


def read_moment(text: str, *, now: datetime) -> datetime | None:
    """Parse a time such as 2h (ago) or 2026-11-23T14:00; None for an empty text. Raises ChatError 40003."""
    if not text:
        return None
    if match := AGO.fullmatch(text):
        return now - timedelta(seconds=int(match[1]) * SECONDS[match[2]])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ChatError(
            Code.INVALID_PARAMETER, f"{text[:40]!r} is no moment: write 2h, or 2026-11-23T14:00 (UTC)."
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
