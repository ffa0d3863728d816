"""Turns exceptions of REST views into answers in the public shape of errors."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from traceback import format_tb
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import InterfaceError, OperationalError
from django.http import Http404, UnreadablePostError
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from rooms.errors import ChatError, Code

logger = logging.getLogger(__name__)

MAX_HEADER_CHARACTERS = 500
# The first match counts. Sentence None: the exception's own text, which DRF wrote for the peer.
KNOWN: tuple[tuple[type[Exception] | tuple[type[Exception], ...], Code, int, str | None], ...] = (
    (exceptions.ParseError, Code.INVALID_BODY, 400, None),
    (exceptions.ValidationError, Code.INVALID_PARAMETER, 400, "A parameter is not valid."),
    (exceptions.AuthenticationFailed, Code.INVALID_CREDENTIALS, 401, None),
    (exceptions.NotAuthenticated, Code.NO_CREDENTIALS, 401, None),
    ((exceptions.PermissionDenied, PermissionDenied), Code.FORBIDDEN, 403, "You may not do this."),
    ((exceptions.NotFound, Http404), Code.NOT_FOUND, 404, "There is nothing at this address."),
    (exceptions.MethodNotAllowed, Code.METHOD_NOT_ALLOWED, 405, None),
    (exceptions.NotAcceptable, Code.BAD_REQUEST, 406, "Answers are application/json or application/x-msgpack."),
    (exceptions.UnsupportedMediaType, Code.BAD_REQUEST, 415, None),
    (exceptions.Throttled, Code.TOO_MANY_PUBLISHES, 429, None),
    (RequestDataTooBig, Code.MESSAGE_TOO_LARGE, 413, "The body is too large."),
    ((SuspiciousOperation, UnreadablePostError), Code.BAD_REQUEST, 400, "The request cannot be read."),
    ((OperationalError, InterfaceError), Code.UNAVAILABLE, 503, "The server cannot do this right now. Try again."),
)


def handle(error: Exception, context: Mapping[str, Any]) -> Response:
    """Return the answer for any exception of a view (setting EXCEPTION_HANDLER)."""
    set_rollback()
    known = error if isinstance(error, ChatError) else translate(error)
    if known is None:
        report(error, context)
        known = ChatError(Code.INTERNAL, "Something went wrong on the server; it is in its log.")
    return answer(known)


def answer(error: ChatError) -> Response:
    """Return the answer for an error: code and sentence in the body and in headers."""
    return Response({"error": error.as_dict()}, status=error.status, headers=headers_of(error))


def headers_of(error: ChatError) -> dict[str, str]:
    """Return the headers with code and sentence. No WWW-Authenticate: browsers would ask for a password."""
    sentence = re.sub(r"[^\x20-\x7e]+", " ", error.message)[:MAX_HEADER_CHARACTERS]
    return {"X-Ably-Errorcode": str(error.code), "X-Ably-Errormessage": sentence, "Cache-Control": "no-store"}


def translate(error: Exception) -> ChatError | None:
    """Return the public error for an exception that Django or DRF raises on purpose, None for any other."""
    for kinds, code, status, sentence in KNOWN:
        if isinstance(error, kinds):
            return ChatError(code, sentence or str(error), status=status)
    return None


def report(error: Exception, context: Mapping[str, Any]) -> None:
    """Log the traceback of an unexpected exception, without its text: that may quote a row or a message."""
    view = type(context.get("view")).__name__
    logger.error("Unexpected %s in %s\n%s", type(error).__name__, view, "".join(format_tb(error.__traceback__)))
