"""`manage.py swarm`: how much a server carries, and whether every message reaches every member once, in order."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

import msgspec
from django.core.management.base import BaseCommand, CommandError

from chatsite.swarm.arguments import declare
from chatsite.swarm.plan import SwarmFailed
from chatsite.swarm.results.text import lines_of
from chatsite.swarm.run import run


class Command(BaseCommand):
    """Carries out one run and prints its report."""

    help = "Put members into rooms, publish, and report speed, losses and cost. Ends with 1 if anything failed."
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare what a run is made of."""
        declare(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run once. Raises CommandError, and SystemExit 1 after a report that is not good."""
        try:
            report = run(options)
        except SwarmFailed as error:
            raise CommandError(str(error)) from None
        self.stdout.write(json.dumps(msgspec.to_builtins(report)) if options["json"] else "\n".join(lines_of(report)))
        if not report.ok:
            raise SystemExit(1)
