"""Wakes the worker when deliveries are added: a connection that LISTENs to Postgres. Without it the worker polls."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import psycopg
from django.db import connection
from psycopg import sql

logger = logging.getLogger(__name__)

CHECK_SECONDS = 10.0  # a connection that is silent for so long is checked
RECONNECT_SECONDS = 1.0


async def listen(channel: str, wake: Callable[[], None]) -> None:
    """Call `wake` at each notification, and once after each connect, until cancelled."""
    while True:
        try:
            async with asyncio.timeout(CHECK_SECONDS):
                listening = await psycopg.AsyncConnection.connect(**connect_parameters(), autocommit=True)
            async with listening:
                await _hear(listening, channel, wake)
        except (psycopg.Error, OSError, TimeoutError) as error:
            logger.warning("Listening to Postgres was interrupted (%s); polling goes on.", type(error).__name__)
        await asyncio.sleep(RECONNECT_SECONDS)


async def _hear(listening: psycopg.AsyncConnection[Any], channel: str, wake: Callable[[], None]) -> None:
    async with asyncio.timeout(CHECK_SECONDS):
        await listening.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
    while True:
        wake()
        async for _ in listening.notifies(timeout=CHECK_SECONDS, stop_after=1):
            wake()
        async with asyncio.timeout(CHECK_SECONDS):
            await listening.execute("SELECT 1")


def connect_parameters() -> dict[str, Any]:
    """Return the connection parameters of the settings' database for psycopg."""
    parameters = connection.get_connection_params()
    for django_only in ("context", "cursor_factory", "server_side_binding", "pool"):
        parameters.pop(django_only, None)
    return parameters
