"""`manage.py apikey create | list | rotate | revoke | revoke-tokens`: the API keys of this server, and their tokens."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError
from django.utils import timezone

from integrations.access import authentication, keys, revocations
from integrations.access.revocations import RevocationTarget
from integrations.models import ApiKey, Revocation, RevocationSubject
from rooms.access.capabilities import Capability
from rooms.errors import ChatError

EXAMPLE = """'{"*":["*"]}' or '{"chat:*":["subscribe","history"]}'"""

MAX_OVERLAP_SECONDS = 31_536_000
BY = "manage.py apikey"


class Command(BaseCommand):
    """Parses, calls integrations.access.keys and integrations.access.revocations, prints."""

    help = "Make, list, rotate and revoke API keys (appId.keyId:secret), and revoke tokens."
    requires_system_checks = []  # they are about the code, not the installation: tests run them

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the actions."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|rotate|revoke|revoke-tokens")
        create = actions.add_parser("create", help="Make a key and print it, this once.")
        create.add_argument("--capability", required=True, metavar="JSON", help=f"What it may do, such as {EXAMPLE}.")
        create.add_argument("--label", default="", help="What it is for, to recognise it later.")
        listing = actions.add_parser("list", help="Show all keys, without their secrets.")
        revoke = actions.add_parser("revoke", help="End a key and every token of it, within a second.")
        revoke.add_argument("name", metavar="NAME", help="appId.keyId, as `list` shows it.")
        rotate = actions.add_parser("rotate", help="Give a key a new secret and print the key, this once.")
        rotate.add_argument("name", metavar="NAME", help="appId.keyId, as `list` shows it.")
        rotate.add_argument(
            "--overlap",
            type=float,
            metavar="SECONDS",
            help="How long the former secret stays good, with what it signed (default: API_KEY_OVERLAP_SECONDS). "
            "0 ends it, every token of it and every connection within a second.",
        )
        tokens = actions.add_parser("revoke-tokens", help="End tokens that were issued until now, within a second.")
        add_targets(tokens)
        for action in (create, listing, revoke, rotate, tokens):
            action.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do one action. Raises CommandError with a sentence on what to do."""
        try:
            getattr(self, options["action"].replace("-", "_"))(options)
        except ChatError as error:
            raise CommandError(error.message) from None
        except (OperationalError, ProgrammingError) as error:
            raise CommandError(
                f"The database does not answer as expected. Start the server first (make run). {type(error).__name__}"
            ) from None

    def create(self, options: dict[str, Any]) -> None:
        """Create a key and print it."""
        label = options["label"]
        if len(label) > keys.MAX_LABEL_CHARACTERS:
            raise CommandError(f"A label has at most {keys.MAX_LABEL_CHARACTERS} characters.")
        try:
            capability = Capability.parse(options["capability"])
        except ChatError as error:
            raise CommandError(f"{error.message} Example: --capability {EXAMPLE}") from None
        new = keys.create(capability, label=label)
        if options["json"]:
            self.stdout.write(json.dumps({"key": new.text}))
        else:
            self.stdout.write(new.text)
            self.stderr.write("Keep this key now: its secret is not shown again.")

    def list(self, options: dict[str, Any]) -> None:
        """Show the keys, the newest first."""
        rows = [describe(row) for row in ApiKey.objects.all()]
        if options["json"]:
            self.stdout.write(json.dumps(rows))
            return
        for row in rows:
            state = f"revoked {row['revokedAt']}" if row["revokedAt"] else "valid"
            if not row["revokedAt"] and row["formerSecretUntil"]:
                state += f" (former secret until {row['formerSecretUntil']})"
            self.stdout.write(f"{row['name']}  {state}  {json.dumps(row['capability'])}  {row['label']}".rstrip())
        if not rows:
            self.stderr.write(f"There are no keys. Make one: manage.py apikey create --capability {EXAMPLE}")

    def revoke(self, options: dict[str, Any]) -> None:
        """Revoke a key."""
        row = describe(keys.revoke(options["name"], timezone.now()))
        if options["json"]:
            self.stdout.write(json.dumps(row))
        else:
            self.stdout.write(f"{row['name']} is revoked since {row['revokedAt']}.")

    def rotate(self, options: dict[str, Any]) -> None:
        """Give a key a new secret."""
        seconds = options["overlap"]
        if seconds is not None and not 0 <= seconds <= MAX_OVERLAP_SECONDS:
            raise CommandError(f"--overlap is a number of seconds from 0 to {MAX_OVERLAP_SECONDS}.")
        overlap = None if seconds is None else timedelta(seconds=seconds)
        new = keys.rotate(options["name"], timezone.now(), overlap=overlap)
        until = new.row.former_secret_until
        if options["json"]:
            self.stdout.write(json.dumps({"key": new.text, "formerSecretUntil": _moment(until)}))
            return
        self.stdout.write(new.text)
        self.stderr.write("Keep this key now: its secret is not shown again.")
        self.stderr.write(f"The former secret is good until {_moment(until)}." if until else "The former secret ended.")

    def revoke_tokens(self, options: dict[str, Any]) -> None:
        """Revoke tokens of one key, or of every key in use."""
        now = timezone.now()
        targets = [
            RevocationTarget.parse(f"{kind}:{value}")
            for kind in RevocationSubject.values
            for value in options[kind] or ()
        ]
        key = options["key"]
        if options["token"]:
            text = sys.stdin.readline().strip() if options["token"] == "-" else options["token"]
            key, target = identify(text)
            targets.append(target)
        if not targets:
            raise CommandError("Say whose tokens: --client-id, --token-id, --token, --revocation-key or --channel.")
        if key is None:
            rows = revocations.revoke_everywhere(targets, now=now, by=BY)
        else:
            rows = revocations.revoke(keys.row_of(key), targets, now=now, by=BY)
        if options["json"]:
            self.stdout.write(json.dumps([describe_revocation(row) for row in rows]))
            return
        for row in rows:
            self.stdout.write(f"{row.key.name}  {row}  issued before {_moment(row.issued_before)}")


def add_targets(parser: ArgumentParser) -> None:
    """Declare the options that name the tokens to revoke."""
    parser.add_argument("--key", metavar="NAME", help="Only tokens of this key; default: of every key in use.")
    parser.add_argument("--token", help="This token; - reads it from standard input, which no history keeps.")
    for subject, option, text in (
        (RevocationSubject.CLIENT, "--client-id", "Tokens of this client id."),
        (RevocationSubject.TOKEN, "--token-id", "The token with this id: a JWT's jti."),
        (RevocationSubject.REVOCATION_KEY, "--revocation-key", "JWTs that carry this x-ably-revocation-key."),
        (
            RevocationSubject.CHANNEL,
            "--channel",
            "Tokens whose capability names this room, or pattern, in these very words.",
        ),
    ):
        parser.add_argument(option, dest=subject.value, action="append", metavar="TEXT", help=f"{text} Repeatable.")


def identify(token: str) -> tuple[str, RevocationTarget]:
    """Return the key of a token, and the target that names this token alone. Raises ChatError 4014x."""
    name = authentication.name_key(token)
    found, key = authentication.read_token(token, keys.find([name]).get(name), time.time())
    return key.name, RevocationTarget(subject=RevocationSubject.TOKEN, value=found.id)


def describe_revocation(row: Revocation) -> dict[str, Any]:
    """Return a revocation for output."""
    return {
        "key": row.key.name,
        "target": str(row),
        "issuedBefore": row.issued_before.isoformat(timespec="milliseconds"),
        "appliesAt": row.applies_at.isoformat(timespec="milliseconds"),
    }


def _moment(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def describe(row: ApiKey) -> dict[str, Any]:
    """Return a key for output, without its secret."""
    return {
        "name": row.name,
        "label": row.label,
        "capability": row.capability,
        "createdAt": row.created_at.isoformat(timespec="seconds"),
        "revokedAt": _moment(row.revoked_at),
        "formerSecretUntil": _moment(row.former_secret_until if row.has_former_secret(timezone.now()) else None),
    }
