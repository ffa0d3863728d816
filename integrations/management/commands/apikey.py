"""`manage.py apikey create | list | revoke`: the API keys of this server."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import OperationalError, ProgrammingError
from django.utils import timezone

from integrations import keys
from integrations.models import ApiKey
from rooms.capabilities import Capability
from rooms.errors import ChatError

EXAMPLE = """'{"*":["*"]}' or '{"chat:*":["subscribe","history"]}'"""


class Command(BaseCommand):
    """Parses, calls integrations.keys, prints."""

    help = "Make, list and revoke API keys (appId.keyId:secret)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the three actions."""
        actions = parser.add_subparsers(dest="action", required=True, metavar="create|list|revoke")
        create = actions.add_parser("create", help="Make a key and print it, this once.")
        create.add_argument("--capability", required=True, metavar="JSON", help=f"What it may do, such as {EXAMPLE}.")
        create.add_argument("--label", default="", help="What it is for, to recognise it later.")
        listing = actions.add_parser("list", help="Show all keys, without their secrets.")
        revoke = actions.add_parser("revoke", help="End a key and every token of it, within a second.")
        revoke.add_argument("name", metavar="NAME", help="appId.keyId, as `list` shows it.")
        for action in (create, listing, revoke):
            action.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Do one action. Raises CommandError with a sentence on what to do."""
        try:
            getattr(self, options["action"])(options)
        except ChatError as error:
            raise CommandError(error.message) from None
        except (OperationalError, ProgrammingError) as error:
            raise CommandError(
                f"The database does not answer as expected. Start the server first (make run). {type(error).__name__}"
            ) from None

    def create(self, options: dict[str, Any]) -> None:
        """Make a key."""
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
            self.stdout.write(f"{row['name']}  {state}  {json.dumps(row['capability'])}  {row['label']}".rstrip())
        if not rows:
            self.stderr.write(f"There are no keys. Make one: manage.py apikey create --capability {EXAMPLE}")

    def revoke(self, options: dict[str, Any]) -> None:
        """End a key."""
        row = describe(keys.revoke(options["name"], timezone.now()))
        if options["json"]:
            self.stdout.write(json.dumps(row))
        else:
            self.stdout.write(f"{row['name']} is revoked since {row['revokedAt']}.")


def describe(row: ApiKey) -> dict[str, Any]:
    """Return what may be shown of a key."""
    return {
        "name": row.name,
        "label": row.label,
        "capability": row.capability,
        "createdAt": row.created_at.isoformat(timespec="seconds"),
        "revokedAt": row.revoked_at.isoformat(timespec="seconds") if row.revoked_at else None,
    }
