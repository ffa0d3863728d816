"""`manage.py prepare`: bring the database up to date and make the demo; safe to repeat."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from time import monotonic, sleep
from typing import Any

import psycopg
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from chatsite.up.demo import make_demo

DATABASE_SECONDS = 60.0  # `up` starts this beside Postgres, which may be making its files or recovering


class Command(BaseCommand):
    help = "Migrate the database, then make the demo's room, rule, admin and API key where they are missing."
    requires_system_checks = []  # they are about the code, not the installation: tests run them

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--lambda-url", required=True, help="Function URL of the demo's word filter")
        parser.add_argument("--json", action="store_true", help="print the demo's facts as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        wait_for_database()
        call_command("migrate", interactive=False, verbosity=0)
        demo = make_demo(settings.DATA, lambda_url=options["lambda_url"])
        if options["json"]:
            self.stdout.write(json.dumps(demo))
        else:
            for name, value in demo.items():
                self.stdout.write(f"{name}: {value}")


def wait_for_database() -> None:
    """Return when the database answers. Raises psycopg.OperationalError when it does not in time."""
    deadline = monotonic() + DATABASE_SECONDS
    while True:
        try:
            # Not through Django's connection: its pool would wait and log every refusal.
            psycopg.connect(settings.DATABASE_URL, connect_timeout=5).close()
            return
        except psycopg.OperationalError:
            if monotonic() > deadline:
                raise
            sleep(0.03)
