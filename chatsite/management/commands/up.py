"""`manage.py up` where Django is loaded already; manage.py itself takes the short way to the same."""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from chatsite.up import command_line


class Command(BaseCommand):
    """Hands its options on."""

    help = command_line.HELP
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        """The options are declared beside what they mean."""
        command_line.add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until told to stop."""
        try:
            command_line.run(options)
        except command_line.UpFailed as error:
            raise CommandError(str(error)) from error
