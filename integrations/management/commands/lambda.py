"""`manage.py lambda HANDLER`: an AWS Lambda function on this machine, at a Function URL."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from integrations.lambda_runtime.command_line import add_options, run
from integrations.lambda_runtime.execution.faults import FaultError
from integrations.lambda_runtime.execution.function import FunctionError


class Command(BaseCommand):
    """Serves one handler file until SIGTERM or Ctrl-C. Needs no database."""

    help = "Serve a Lambda handler (.py, .mjs, .cjs, .js) at a Function URL on this machine."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        """The options are declared beside what they mean."""
        add_options(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run until told to stop."""
        try:
            run(options, print_line=self._print)
        except (FunctionError, FaultError, OSError) as error:
            raise CommandError(str(error)) from error

    def _print(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()
