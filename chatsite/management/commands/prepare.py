"""`manage.py prepare`: bring the database up to date and make the demo; safe to repeat."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand

from chatsite.demo import make_demo


class Command(BaseCommand):
    help = "Migrate the database, then make the demo's room, rule, admin and API key where they are missing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--lambda-url", required=True, help="Function URL of the demo's word filter")
        parser.add_argument("--json", action="store_true", help="print the demo's facts as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", interactive=False, verbosity=0)
        demo = make_demo(settings.DATA, lambda_url=options["lambda_url"])
        if options["json"]:
            self.stdout.write(json.dumps(demo))
        else:
            for name, value in demo.items():
                self.stdout.write(f"{name}: {value}")
