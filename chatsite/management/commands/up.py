"""`manage.py up` for callers that have loaded Django already; manage.py runs chatsite.up.command_line without it."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from chatsite.up import command_line


class Command(BaseCommand):
    """Runs chatsite.up.command_line with the options of the command."""

    help = command_line.HELP
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options of chatsite.up.command_line."""
        command_line.add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the instance until a signal stops it."""
        try:
            command_line.run(options)
        except command_line.UpFailed as error:
            raise CommandError(str(error)) from error
