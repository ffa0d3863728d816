"""Errors as clients get them: a public code, an HTTP status, and a sentence that says what to do.

Codes are the public ones (repository ably/ably-common, protocol/errors.json).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any


class Code(IntEnum):
    """The public error codes that this server uses. The HTTP status is the first three digits below 60000."""

    BAD_REQUEST = 40000
    INVALID_BODY = 40001
    INVALID_PARAMETER = 40003
    MESSAGE_TOO_LARGE = 40009
    INVALID_ROOM_NAME = 40010
    INVALID_CLIENT_ID = 40012
    INVALID_DATA = 40013
    INVALID_MESSAGE_ID = 40031
    INVALID_EXTRAS = 40032
    TOO_MANY_MESSAGES = 40034
    INVALID_FILTER = 40035
    UNAUTHORIZED = 40100
    INVALID_CREDENTIALS = 40101
    INCOMPATIBLE_CREDENTIALS = 40102
    TIMESTAMP_NOT_CURRENT = 40104
    NONCE_REPLAYED = 40105
    NO_CREDENTIALS = 40106
    KEY_UNKNOWN = 40130
    KEY_REVOKED = 40131
    TOKEN_REVOKED = 40141
    TOKEN_EXPIRED = 40142
    TOKEN_UNKNOWN = 40143
    TOKEN_INVALID = 40144
    OPERATION_NOT_PERMITTED = 40160
    NOT_WITH_A_TOKEN = 40162
    MODE_NOT_ATTACHED = 40165
    FORBIDDEN = 40300
    NOT_FOUND = 40400
    METHOD_NOT_ALLOWED = 40500
    CONFLICT = 40900
    REJECTED_BY_RULE = 42211
    REJECTED_BY_VALIDATION = 42212
    REJECTED_BY_MODERATION = 42213
    TOO_MANY_PUBLISHES = 42910
    INTERNAL = 50000
    TIMEOUT = 50003
    BUSY = 50004
    UNAVAILABLE = 50005
    DISCONNECTED = 80003
    PROTOCOL_ERROR = 80013
    CONNECTION_CLOSED = 80017
    INVALID_CONNECTION_KEY = 80018
    FELL_BEHIND = 80020
    CONTINUITY_LOST = 90003
    TOO_MANY_ROOMS = 90010


class ChatError(Exception):
    """An error whose code and message are sent to the client; other exceptions never reach it."""

    def __init__(
        self, code: Code | int, message: str, *, status: int | None = None, detail: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = int(code)
        self.message = message
        self.status = status or status_of(self.code)
        self.detail = detail

    def as_dict(self) -> dict[str, Any]:
        """Return the error as the public ErrorInfo."""
        shape: dict[str, Any] = {"code": self.code, "statusCode": self.status, "message": self.message}
        if self.detail:
            shape["detail"] = self.detail
        return shape


def status_of(code: int) -> int:
    """Return the HTTP status that goes with a public code: its first three digits, 400 for the 8xxxx and 9xxxx."""
    return code // 100 if code < 60000 else 400
