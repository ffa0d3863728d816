"""A rule on the command line: its options, what they ask for, and how a rule is shown."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from integrations import rules
from integrations.models import AtDeadline, EventKind, IntegrationRule, Invocation, Late, TargetKind, When
from integrations.wanted import Wanted
from rooms.errors import ChatError, Code

# Options that take a value: the field of Wanted that each sets, its type, and what it means.
VALUES: Sequence[tuple[str, str, type, str]] = (
    ("--filter", "room_filter", str, "REGEX searched in the room's name; empty: all rooms."),
    ("--author", "author_filter", str, "REGEX searched in the author's client id; empty: all authors."),
    ("--sample", "sample_percent", float, "PERCENT of what the filters let through, chosen by message id."),
    ("--order", "order", int, "Rules before publish are asked from small to large."),
    ("--target", "target", str, f"How it is called: {', '.join(TargetKind.values)}."),
    ("--url", "url", str, "HTTPS endpoint or Function URL; for the target lambda: another endpoint, to test with."),
    ("--function", "function", str, "Target lambda: the function's name or ARN."),
    ("--qualifier", "qualifier", str, "Target lambda: version or alias."),
    ("--invocation", "invocation", str, f"Target lambda: {', '.join(Invocation.values)}."),
    ("--region", "region", str, "AWS region; without: as URL or ARN say, else AWS_REGION."),
    ("--role", "role", str, "ARN of a role to assume before calls."),
    ("--external-id", "external_id", str, "What the role asks for, if it does."),
    ("--batch-events", "batch_events", int, "Most events of one call."),
    ("--batch-bytes", "batch_bytes", int, "Most bytes of payloads of one call."),
    ("--batch-wait", "batch_wait_ms", int, "MILLISECONDS that a batch waits for more events."),
    ("--timeout", "timeout_seconds", float, "Longest time for one call, in seconds."),
    ("--concurrency", "concurrency", int, "Most calls at once of one worker."),
    ("--budget", "budget_seconds", float, "Before publish: longest wait for a verdict, in seconds."),
    ("--at-deadline", "at_deadline", str, f"Without a verdict: {', '.join(AtDeadline.values)}."),
    ("--at-deadline-new", "at_deadline_new", str, "The same for authors who are new here."),
    ("--at-deadline-trusted", "at_deadline_trusted", str, "The same for authors who are trusted."),
    ("--late", "late", str, f"What a verdict after the deadline does: {', '.join(Late.values)}."),
    ("--cache", "cache_seconds", float, "SECONDS for which a verdict serves for the same text; 0: never."),
    ("--cache-after", "cache_after", int, "From so many calls about the same text on."),
)
# Pairs of options that say yes or no.
FLAGS: Sequence[tuple[str, str, str, str]] = (
    (
        "enveloped",
        "--enveloped",
        "--plain",
        "With room and sender in the body; plain: the data alone, all else in headers.",
    ),
    ("ordered", "--ordered", "--unordered", "After publish: in room order, one call at a time for each room, or not."),
    ("batched", "--batched", "--single", "What gathers goes in one call, or each event in its own."),
    (
        "stands_in",
        "--stands-in",
        "--no-stands-in",
        "A shadow that decides while the target of the rule it watches is down.",
    ),
)


def declare(parser: ArgumentParser) -> None:
    """Declare the options of a rule. Those that are not given are not in the result."""
    parser.add_argument(
        "--event",
        dest="events",
        action="append",
        metavar="EVENT",
        default=argparse.SUPPRESS,
        help=f"Repeatable; one of {', '.join(EventKind.values)}.",
    )
    for option, name, kind, text in VALUES:
        parser.add_argument(option, dest=name, type=kind, default=argparse.SUPPRESS, help=text)
    for name, yes, no, text in FLAGS:
        either = parser.add_mutually_exclusive_group()
        either.add_argument(yes, dest=name, action="store_true", default=argparse.SUPPRESS, help=text)
        either.add_argument(no, dest=name, action="store_false", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    parser.add_argument(
        "--header",
        dest="headers",
        action="append",
        metavar="NAME:VALUE",
        default=argparse.SUPPRESS,
        help="Sent with each call. Repeatable; one empty value: no headers.",
    )
    parser.add_argument(
        "--shadow-of",
        metavar="RULE",
        default=argparse.SUPPRESS,
        help="Ask it what that rule is asked, let it decide nothing, and compare the answers; empty: no shadow.",
    )


def changed(wanted: Wanted, options: Mapping[str, Any]) -> Wanted:
    """Return a rule with what the options say. Raises ChatError."""
    names = {name for _, name, _, _ in VALUES} | {name for name, *_ in FLAGS} | {"events"}
    changes = {name: options[name] for name in names if name in options}
    if "headers" in options:
        changes["headers"] = dict(parse_header(text) for text in options["headers"] if text)
    if "shadow_of" in options:
        changes["shadow_of"] = rules.find(options["shadow_of"]) if options["shadow_of"] else None
    return replace(wanted, **changes)


def parse_header(text: str) -> tuple[str, str]:
    """Return name and value of `Name: value`. Raises ChatError 40003."""
    name, colon, value = text.partition(":")
    if not colon:
        raise ChatError(Code.INVALID_PARAMETER, "A header is given as --header 'Name: value'.")
    return name.strip(), value.strip()


def describe(rule: IntegrationRule) -> dict[str, Any]:
    """Return what may be shown of a rule: nothing secret. Headers may be secret, so only their names are shown."""
    return {
        "id": str(rule.pk),
        "name": rule.name,
        "enabled": rule.enabled,
        "events": rule.events,
        "filter": rule.room_filter,
        "author": rule.author_filter,
        "sample": rule.sample_percent,
        "when": rule.when,
        "order": rule.order,
        **_target(rule),
        "headers": sorted(rule.headers),
        "enveloped": rule.enveloped,
        "ordered": rule.ordered,
        "batched": rule.batched,
        "batchEvents": rule.batch_events,
        "batchBytes": rule.batch_bytes,
        "batchWaitMs": rule.batch_wait_ms,
        "timeout": rule.timeout_seconds,
        "concurrency": rule.concurrency,
        "budget": rule.budget_seconds,
        "atDeadline": rule.at_deadline,
        "atDeadlineNew": rule.at_deadline_new or rule.at_deadline,
        "atDeadlineTrusted": rule.at_deadline_trusted or rule.at_deadline,
        "late": rule.late,
        "cache": rule.cache_seconds,
        "cacheAfter": rule.cache_after,
        "shadowOf": rule.shadow_of.name if rule.shadow_of else None,
        "standsIn": rule.stands_in,
    }


def _target(rule: IntegrationRule) -> dict[str, Any]:
    shown: dict[str, Any] = {"target": rule.target, "url": rule.url}
    if rule.target == TargetKind.INVOKE:
        shown |= {"function": rule.function, "qualifier": rule.qualifier, "invocation": rule.invocation}
    if rule.target != TargetKind.HTTP:
        shown |= {
            "region": rule.region,
            "role": rule.role,
            "externalId": rule.external_id,
            "ownCredentials": rule.sealed_credentials is not None,
        }
    return shown


def summary(rule: IntegrationRule) -> str:
    """Return a rule in one line."""
    parts = [rule.name, f"{rule.when} publish", f"/{rule.room_filter}/", rule.function or rule.url]
    if rule.when == When.AFTER:
        parts.insert(2, ",".join(rule.events))
    if rule.shadow_of:
        parts.append(f"({'stands in' if rule.stands_in else 'shadow'} for {rule.shadow_of.name})")
    return "  ".join(parts) + ("" if rule.enabled else "  (disabled)")
