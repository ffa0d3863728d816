"""Reads the parameters in the query of a WebSocket's address (RTN2). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rooms.access.grants import Credentials
from rooms.protocol.wire import Format


@dataclass(frozen=True, kw_only=True, slots=True)
class Opening:
    """The parameters of a new connection: credentials, format, options, and the key to resume from."""

    credentials: Credentials
    format: Format
    echo: bool
    heartbeats: bool
    resume: str | None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> Opening:
        """Read the query's parameters. Unknown ones are ignored."""
        return cls(
            credentials=Credentials(
                key=query.get("key") or None,
                token=query.get("accessToken") or query.get("access_token") or None,
                client_id=query.get("clientId") or None,
            ),
            format=Format.MSGPACK if query.get("format") == "msgpack" else Format.JSON,
            echo=query.get("echo") != "false",
            heartbeats=query.get("heartbeats") == "true",
            resume=query.get("resume") or query.get("recover") or None,
        )
