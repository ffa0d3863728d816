"""`manage.py rule ACTION`: creates, changes, switches, shows, replays and removes integration rules."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError
from django.utils import timezone

from integrations import outbox
from integrations.management import rule_arguments, rule_replay, rule_status
from integrations.management.rule_arguments import describe, summary
from integrations.models import IntegrationRule, When
from integrations.monitoring import figures
from integrations.rules import rules
from rooms.errors import ChatError, Code


class Command(BaseCommand):
    """Parses, calls integrations.rules.rules, prints."""

    help = "Make, change, list, switch and remove integration rules: which events go to which webhook or Lambda."
    requires_system_checks = []  # they are about the code, not the installation: tests run them

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the actions."""
        actions = parser.add_subparsers(
            dest="action", required=True, metavar="add|edit|list|status|replay|remove|enable|disable|rotate|credentials"
        )
        add = actions.add_parser("add", help="Make a rule and print its signing secret, this once.")
        add.add_argument("--name", required=True)
        add.add_argument("--when", default=When.AFTER, help="before: its verdict decides; after: it is told.")
        rule_arguments.declare(add)
        edit = actions.add_parser("edit", help="Change a rule. What no option names stays as it is.")
        edit.add_argument("--name", dest="new_name", metavar="NEW", help="Another name.")
        rule_arguments.declare(edit)
        actions.add_parser("list", help="Show all rules, without their secrets.")
        status = actions.add_parser("status", help="Show how rules are doing: rate, success, backlog, breaker.")
        status.add_argument("--minutes", type=int, default=15, help="Rates and times of the last so many minutes.")
        replay = actions.add_parser("replay", help="Send dead letters again, in their order, under their webhook ids.")
        rule_replay.declare(replay)
        remove = actions.add_parser("remove", help="Delete a rule with everything that it owes and its history.")
        enable = actions.add_parser("enable", help="Switch a rule on; what it owes goes out.")
        disable = actions.add_parser("disable", help="Switch a rule off; what it owes stays.")
        rotate = actions.add_parser("rotate", help="Give a rule a new signing secret and print it.")
        rotate.add_argument(
            "--overlap", type=float, metavar="SECONDS", help="So long calls are signed by the former secret too."
        )
        credentials = actions.add_parser("credentials", help="Store AWS keys with a rule, sealed, or forget them.")
        for action in (edit, replay, remove, enable, disable, rotate, credentials):
            action.add_argument("rule", metavar="NAME")
        _declare_credentials(credentials)
        for action in actions.choices.values():
            action.add_argument("--json", action="store_true", help="Print JSON.")

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
        """Create a rule."""
        spec = rule_arguments.changed(rules.RuleSpec(name=options["name"], when=options["when"]), options)
        rule, secret = rules.add(spec, now=timezone.now())
        self._print(options, {**describe(rule), "secret": secret}, f"{rule.name}: {secret}")
        if not options["json"]:
            self.stderr.write("Keep this secret now: it verifies the calls, and is not shown again.")

    def edit(self, options: dict[str, Any]) -> None:
        """Change a rule."""
        before = rules.spec_of(rules.find(options["rule"]))
        spec = rule_arguments.changed(before, options)
        if options["new_name"]:
            spec = replace(spec, name=options["new_name"])
        rule = rules.edit(options["rule"], spec, now=timezone.now())
        self._print(options, describe(rule), summary(rule))

    def list(self, options: dict[str, Any]) -> None:
        """Show the rules in their order."""
        found = IntegrationRule.objects.select_related("shadow_of")
        lines = "\n".join(map(summary, found))
        self._print(options, [*map(describe, found)], lines or "There are no rules. `manage.py rule add` makes one.")

    def status(self, options: dict[str, Any]) -> None:
        """Show figures of rules and workers."""
        now = timezone.now()
        found = figures.of_rules(now=now, minutes=min(max(options["minutes"], 1), 24 * 60))
        workers = figures.workers()
        shape = {
            "rules": [rule_status.describe(one, now=now) for one in found],
            "workers": [rule_status.describe_worker(one) for one in workers],
        }
        self._print(options, shape, rule_status.table(found, workers, now=now))

    def replay(self, options: dict[str, Any]) -> None:
        """Send finished deliveries again."""
        now = timezone.now()
        count = outbox.replay(rule_replay.query_of(rules.find(options["rule"]), options, now=now), now=now)
        self._print(options, {"replayed": count}, f"{count} on their way again." if count else "Nothing to send again.")

    def remove(self, options: dict[str, Any]) -> None:
        """Delete a rule."""
        rules.remove(options["rule"], now=timezone.now())
        self._print(options, {"removed": options["rule"]}, f"{options['rule']} is removed.")

    def enable(self, options: dict[str, Any]) -> None:
        """Switch a rule on."""
        rule = rules.switch(options["rule"], enabled=True, now=timezone.now())
        self._print(options, describe(rule), f"{rule.name} is on.")

    def disable(self, options: dict[str, Any]) -> None:
        """Switch a rule off."""
        rule = rules.switch(options["rule"], enabled=False, now=timezone.now())
        self._print(options, describe(rule), f"{rule.name} is off.")

    def rotate(self, options: dict[str, Any]) -> None:
        """Rotate a rule's signing secret."""
        overlap = None if options["overlap"] is None else timedelta(seconds=options["overlap"])
        secret = rules.rotate_secret(options["rule"], now=timezone.now(), overlap=overlap)
        self._print(options, {"name": options["rule"], "secret": secret}, secret)

    def credentials(self, options: dict[str, Any]) -> None:
        """Store AWS keys with a rule, or forget them."""
        if options["forget"]:
            rules.forget_credentials(options["rule"], now=timezone.now())
            self._print(options, {"name": options["rule"], "ownCredentials": False}, "The keys are forgotten.")
        else:
            rules.store_credentials(options["rule"], **_read_credentials(options["file"]), now=timezone.now())
            self._print(options, {"name": options["rule"], "ownCredentials": True}, "The keys are stored, sealed.")

    def _print(self, options: dict[str, Any], shape: Any, text: str) -> None:
        self.stdout.write(json.dumps(shape) if options["json"] else text)


def _declare_credentials(parser: ArgumentParser) -> None:
    either = parser.add_mutually_exclusive_group(required=True)
    # Never as arguments, which anybody sees who lists processes.
    either.add_argument(
        "--file", help='JSON with "accessKeyId", "secretAccessKey" and perhaps "sessionToken"; -: standard input.'
    )
    either.add_argument("--forget", action="store_true", help="Use those of the environment or the instance again.")


def _read_credentials(path: str) -> dict[str, str]:
    """Return the AWS keys in a file. Raises ChatError 40003."""
    names = {"accessKeyId": "access_key_id", "secretAccessKey": "secret_access_key", "sessionToken": "session_token"}
    try:
        read = json.loads(sys.stdin.read() if path == "-" else Path(path).read_text())
        return {names[label]: str(part) for label, part in dict(read).items()}
    except OSError as error:
        raise ChatError(Code.INVALID_PARAMETER, f"The file cannot be read: {error.strerror}.") from None
    except (ValueError, TypeError, KeyError):
        raise ChatError(
            Code.INVALID_PARAMETER, "The file holds a JSON object with accessKeyId, secretAccessKey, sessionToken."
        ) from None
