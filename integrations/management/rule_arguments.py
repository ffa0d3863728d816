"""The options of `manage.py rule` that describe a rule, and the output of rules."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from integrations.models import AtDeadline, EventKind, IntegrationRule, Invocation, Late, TargetKind, When
from integrations.rules import rules
from integrations.rules.specification import RuleSpec
from rooms.errors import ChatError, Code

DEFAULT = "default"  # the value of an option that stands for the server's setting


def _number_or_default(kind: type[float]) -> Callable[[str], float | None]:
    def read(text: str) -> float | None:
        return None if text == DEFAULT else kind(text)

    read.__name__ = kind.__name__  # argparse shows it in errors
    return read


# Options with a value: the field of RuleSpec that each sets, its type, the name of the value, the help text.
VALUES: Sequence[tuple[str, str, Callable[[str], Any], str, str]] = (
    ("--filter", "room_filter", str, "REGEX", "Searched in the room's name; empty: all rooms."),
    ("--author", "author_filter", str, "REGEX", "Searched in the author's client id; empty: all authors."),
    ("--sample", "sample_percent", float, "PERCENT", "Of what the filters let through, chosen by message id."),
    ("--order", "order", int, "N", "Rules before publish are asked from small to large."),
    ("--target", "target", str, "KIND", f"How it is called: {', '.join(TargetKind.values)}."),
    ("--url", "url", str, "URL",
     "HTTPS endpoint or Function URL; for the target lambda: another endpoint, to test with."),
    ("--function", "function", str, "NAME", "Target lambda: the function's name or ARN."),
    ("--qualifier", "qualifier", str, "NAME", "Target lambda: version or alias."),
    ("--invocation", "invocation", str, "HOW", f"Target lambda: {', '.join(Invocation.values)}."),
    ("--region", "region", str, "REGION", "AWS region; without: as URL or ARN say, else AWS_REGION."),
    ("--role", "role", str, "ARN", "A role to assume before calls."),
    ("--external-id", "external_id", str, "ID", "What the role asks for, if it does."),
    ("--batch-events", "batch_events", int, "N", "Most events of one call."),
    ("--batch-bytes", "batch_bytes", int, "BYTES", "Most bytes of payloads of one call."),
    ("--batch-wait", "batch_wait_ms", int, "MILLISECONDS", "So long a batch waits for more events."),
    ("--timeout", "timeout_seconds", _number_or_default(float), "SECONDS", f"Longest time for one call, or {DEFAULT}."),
    ("--concurrency", "concurrency", _number_or_default(int), "N", f"Most calls at once of one worker, or {DEFAULT}."),
    ("--budget", "budget_seconds", _number_or_default(float), "SECONDS", f"Longest wait for a verdict, or {DEFAULT}."),
    ("--at-deadline", "at_deadline", str, "POLICY", f"Without a verdict: {', '.join(AtDeadline.values)}."),
    ("--at-deadline-new", "at_deadline_new", str, "POLICY", "For authors who are new here; empty: as for all."),
    ("--at-deadline-trusted", "at_deadline_trusted", str, "POLICY", "For trusted authors; empty: as for all."),
    ("--late", "late", str, "WHAT", f"What a verdict after the deadline does: {', '.join(Late.values)}."),
    ("--cache", "cache_seconds", float, "SECONDS",
     "So long a verdict serves for the same text; 0: each is asked about."),
    ("--cache-after", "cache_after", int, "N", "From so many calls about the same text on."),
)  # fmt: skip
# Pairs of yes/no options: the field, and each option with its help text.
FLAGS: Sequence[tuple[str, str, str, str, str]] = (
    ("enveloped", "--enveloped", "Send room and sender in the body.",
     "--plain", "Send the data alone, everything else in headers."),
    ("ordered", "--ordered", "After publish: in room order, one call at a time for each room.",
     "--unordered", "Side by side."),
    ("batched", "--batched", "Send what gathers in one call.",
     "--single", "Send each event in a call of its own."),
    ("stands_in", "--stands-in", "A shadow: let it decide while the target of the rule that it watches is down.",
     "--no-stands-in", "Let it never decide."),
)  # fmt: skip


def declare(parser: ArgumentParser) -> None:
    """Declare the options of a rule. Options that are not given are missing in the parsed result."""

    def add(group: Any, option: str, field: str, text: str, **how: Any) -> None:
        group.add_argument(option, dest=field, default=argparse.SUPPRESS, help=text, **how)

    events = f"Repeatable; one of {', '.join(EventKind.values)}."
    add(parser, "--event", "events", events, action="append", metavar="EVENT")
    for option, field, kind, metavar, text in VALUES:
        add(parser, option, field, text, type=kind, metavar=metavar)
    for field, yes, of_yes, no, of_no in FLAGS:
        either = parser.add_mutually_exclusive_group()
        add(either, yes, field, of_yes, action="store_true")
        add(either, no, field, of_no, action="store_false")
    headers = "Sent with each call. Repeatable; one empty value: no headers."
    add(parser, "--header", "headers", headers, action="append", metavar="NAME:VALUE")
    shadow = "Ask it what that rule is asked, let it decide nothing, and compare the answers; empty: no shadow."
    add(parser, "--shadow-of", "shadow_of", shadow, metavar="RULE")


def changed(spec: RuleSpec, options: Mapping[str, Any]) -> RuleSpec:
    """Return a specification with the changes of the options. Raises ChatError."""
    names = {name for _, name, *_ in VALUES} | {name for name, *_ in FLAGS} | {"events"}
    changes = {name: options[name] for name in names if name in options}
    if "headers" in options:
        changes["headers"] = dict(parse_header(text) for text in options["headers"] if text)
    if "shadow_of" in options:
        changes["shadow_of"] = rules.find(options["shadow_of"]) if options["shadow_of"] else None
    return replace(spec, **changes)


def parse_header(text: str) -> tuple[str, str]:
    """Return name and value of `Name: value`. Raises ChatError 40003."""
    name, colon, value = text.partition(":")
    if not colon:
        raise ChatError(Code.INVALID_PARAMETER, "A header is given as --header 'Name: value'.")
    return name.strip(), value.strip()


def describe(rule: IntegrationRule) -> dict[str, Any]:
    """Return a rule for output, without secrets. Headers may be secret, so only their names are included."""
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
    target = rule.function or rule.url.partition("?")[0]  # a query string may hold a secret
    parts = [rule.name, f"{rule.when} publish"]
    if rule.when == When.AFTER:
        parts.append(",".join(rule.events))
    if rule.shadow_of is None:
        parts.append(f"/{rule.room_filter}/" if rule.room_filter else "all rooms")
    parts.append(target)
    if rule.shadow_of:  # it is asked what the other is asked
        parts.append(f"({'stands in' if rule.stands_in else 'shadow'} for {rule.shadow_of.name})")
    return "  ".join(parts) + ("" if rule.enabled else "  (disabled)")
