from __future__ import annotations

import asyncio
import signal
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from integrations.worker.worker import Worker, make_outgoing
from rooms.database.patience import limit_statements


class Command(BaseCommand):
    """Runs one delivery worker until SIGTERM or Ctrl-C."""

    help = "Deliver webhooks and collect verdicts. Any number of workers may run."
    requires_system_checks = []  # they are about the code, not the installation: tests run them

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare the options."""
        parser.add_argument("--name", help="What deliveries and attempts say about who made them.")

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the worker."""
        limit_statements()
        asyncio.run(serve(options["name"]))


async def serve(name: str | None) -> None:
    """Run a worker until a signal ends it."""
    outgoing = make_outgoing()
    worker = Worker(outgoing, name=name)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)
    try:
        await worker.run()
    finally:
        await outgoing.close()
