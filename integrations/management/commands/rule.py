"""`manage.py rule add | list | remove | enable | disable | rotate`: the integration rules of this server."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError
from django.utils import timezone

from integrations import rules
from integrations.models import AtDeadline, EventKind, IntegrationRule, When
from rooms.errors import ChatError, Code


class Command(BaseCommand):
    """Parses, calls integrations.rules, prints."""

    help = "Make, list, switch and remove integration rules: which messages go to which webhook."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the actions."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="add|list|remove|enable|disable|rotate")
        self._declare_add(actions.add_parser("add", help="Make a rule and print its signing secret, this once."))
        actions.add_parser("list", help="Show all rules, without their secrets.")
        for name, text in (
            ("remove", "Delete a rule with everything that it owes and its history."),
            ("enable", "Switch a rule on; what it owes goes out."),
            ("disable", "Switch a rule off; what it owes stays."),
            ("rotate", "Give a rule a new signing secret and print it."),
        ):
            actions.add_parser(name, help=text).add_argument("name", metavar="NAME")
        for action in actions.choices.values():
            action.add_argument("--json", action="store_true", help="Print JSON.")

    def _declare_add(self, add: ArgumentParser) -> None:
        add.add_argument("--name", required=True)
        add.add_argument(
            "--event", action="append", metavar="EVENT", help=f"Repeatable; one of {', '.join(EventKind.values)}."
        )
        add.add_argument("--filter", default="", metavar="REGEX", help="Searched in the room's name; empty: all rooms.")
        add.add_argument("--when", default=When.AFTER, help="before: its verdict decides; after: it is told.")
        add.add_argument("--url", required=True, help="A Lambda's Function URL, or any HTTP endpoint.")
        add.add_argument("--plain", action="store_true", help="Send the data alone, everything else in headers.")
        add.add_argument("--batched", action="store_true", help="Send what gathers in one call.")
        add.add_argument("--order", type=int, default=0, help="Rules before publish go from small to large.")
        add.add_argument("--budget", type=float, metavar="SECONDS", help="Longest wait for a verdict.")
        add.add_argument(
            "--at-deadline", default=AtDeadline.REJECT, help=f"Without a verdict: {', '.join(AtDeadline.values)}."
        )
        add.add_argument("--header", action="append", default=[], metavar="NAME:VALUE", help="Sent with each call.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do one action. A failure is a sentence with its code, and exit code 1."""
        try:
            getattr(self, options["action"])(options)
        except ChatError as error:
            if options["json"]:
                self.stdout.write(json.dumps({"error": error.as_dict()}))
            raise CommandError(f"{error.message} ({error.code})") from None
        except (OperationalError, ProgrammingError) as error:
            raise CommandError(
                f"The database does not answer as expected. Start the server first (make run). {type(error).__name__}"
            ) from None
        except ValueError as error:
            raise CommandError(str(error)) from None

    def add(self, options: dict[str, Any]) -> None:
        """Make a rule."""
        wanted = rules.Wanted(
            name=options["name"],
            url=options["url"],
            events=options["event"] or [EventKind.MESSAGE],
            room_filter=options["filter"],
            when=options["when"],
            order=options["order"],
            enveloped=not options["plain"],
            batched=options["batched"],
            headers=dict(parse_header(text) for text in options["header"]),
            budget_seconds=options["budget"],
            at_deadline=options["at_deadline"],
        )
        rule, secret = rules.add(wanted, now=timezone.now())
        self._print(options, {**describe(rule), "secret": secret}, f"{rule.name}: {secret}")
        if not options["json"]:
            self.stderr.write("Keep this secret now: it verifies the calls, and is not shown again.")

    def list(self, options: dict[str, Any]) -> None:
        """Show the rules in the order in which they are asked."""
        shown = [describe(rule) for rule in IntegrationRule.objects.all()]
        lines = [
            f"{one['name']}  {one['when']} publish  /{one['filter']}/  {one['url']}"
            + ("" if one["enabled"] else "  (disabled)")
            for one in shown
        ]
        self._print(options, shown, "\n".join(lines) or "There are no rules. `manage.py rule add` makes one.")

    def remove(self, options: dict[str, Any]) -> None:
        """Delete a rule."""
        rules.remove(options["name"], now=timezone.now())
        self._print(options, {"removed": options["name"]}, f"{options['name']} is removed.")

    def enable(self, options: dict[str, Any]) -> None:
        """Switch a rule on."""
        rule = rules.switch(options["name"], enabled=True, now=timezone.now())
        self._print(options, describe(rule), f"{rule.name} is on.")

    def disable(self, options: dict[str, Any]) -> None:
        """Switch a rule off."""
        rule = rules.switch(options["name"], enabled=False, now=timezone.now())
        self._print(options, describe(rule), f"{rule.name} is off.")

    def rotate(self, options: dict[str, Any]) -> None:
        """Exchange a rule's secret."""
        secret = rules.rotate_secret(options["name"], now=timezone.now())
        self._print(options, {"name": options["name"], "secret": secret}, secret)

    def _print(self, options: dict[str, Any], shape: Any, text: str) -> None:
        self.stdout.write(json.dumps(shape) if options["json"] else text)


def parse_header(text: str) -> tuple[str, str]:
    """Return name and value of `Name: value`. Raises ChatError 40003."""
    name, colon, value = text.partition(":")
    if not colon:
        raise ChatError(Code.INVALID_PARAMETER, "A header is given as --header 'Name: value'.")
    return name.strip(), value.strip()


def describe(rule: IntegrationRule) -> dict[str, Any]:
    """Return what may be shown of a rule."""
    return {
        "id": str(rule.pk),
        "name": rule.name,
        "events": rule.events,
        "filter": rule.room_filter,
        "when": rule.when,
        "order": rule.order,
        "url": rule.url,
        "enveloped": rule.enveloped,
        "batched": rule.batched,
        "budget": rule.budget_seconds,
        "atDeadline": rule.at_deadline,
        "enabled": rule.enabled,
    }
