"""Reads REST requests and writes their responses, in JSON and MessagePack; errors have the public shape."""

from __future__ import annotations

import base64
import binascii
import logging
import re
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

import msgspec
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from rooms import faults
from rooms.access.grants import Credentials
from rooms.errors import ChatError, Code
from rooms.faults import POSTGRES_AWAY
from rooms.protocol.wire import Format, Message

logger = logging.getLogger(__name__)

CONTENT_TYPES = {Format.JSON: "application/json", Format.MSGPACK: "application/x-msgpack"}
MAX_HEADER_CHARACTERS = 500
View = Callable[..., Coroutine[Any, Any, HttpResponse]]


def rest(*methods: str) -> Callable[[View], View]:
    """Turn a coroutine into a view of the REST API: allowed methods, errors in the public shape, no caching."""

    def decorate(view: View) -> View:
        @csrf_exempt
        @wraps(view)
        async def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            request.GET  # noqa: B018 - raises for a query of too many fields, which Django answers
            try:
                if request.method not in methods:
                    raise ChatError(Code.METHOD_NOT_ALLOWED, f"This address takes {' and '.join(methods)}.")
                response = await view(request, *args, **kwargs)
            except ChatError as error:
                response = error_response(request, error)
            except POSTGRES_AWAY as error:
                logger.warning("a REST request was refused: Postgres is away (%s)", type(error).__name__)
                away = ChatError(Code.UNAVAILABLE, "The server cannot do this right now. Try again.", status=503)
                response = error_response(request, away)
            except Exception:
                faults.record("REST request")
                response = error_response(request, ChatError(Code.INTERNAL, "The request could not be handled."))
            response["Cache-Control"] = "no-store"
            response["X-Content-Type-Options"] = "nosniff"
            return response

        return wrapper

    return decorate


def credentials_of(request: HttpRequest) -> Credentials:
    """Return a request's credentials: Basic (a key) or Bearer (a token), else from the query's parameters."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    client_id = _client_id(request.headers.get("X-Ably-ClientId"))
    if scheme.lower() == "basic":
        return Credentials(key=_basic(value), client_id=client_id)
    if scheme.lower() == "bearer":
        return Credentials(token=_bearer(value.strip()), client_id=client_id)
    query = request.GET
    return Credentials(
        key=query.get("key") or None,
        token=query.get("access_token") or query.get("accessToken") or None,
        client_id=client_id or query.get("clientId") or None,
    )


def format_of(request: HttpRequest) -> Format:
    """Return the format that the client wants to read."""
    wanted = request.GET.get("format") or request.headers.get("Accept", "")
    return Format.MSGPACK if "msgpack" in wanted else Format.JSON


def answer(request: HttpRequest, shape: Any, *, status: int = 200) -> HttpResponse:
    """Return a response in the format that the client wants."""
    wire_format = format_of(request)
    encode = msgspec.json.encode if wire_format is Format.JSON else msgspec.msgpack.encode
    return HttpResponse(encode(shape), status=status, content_type=CONTENT_TYPES[wire_format])


def error_response(request: HttpRequest, error: ChatError) -> HttpResponse:
    """Return the response of an error: the public shape, with code and message in headers too."""
    response = answer(request, {"error": error.as_dict()}, status=error.status)
    response["X-Ably-Errorcode"] = str(error.code)
    # A reason may be a moderator's or a Lambda's text: line feeds would end the header, and the request in a 500.
    response["X-Ably-Errormessage"] = re.sub(r"[^\x20-\x7e]+", " ", error.message)[:MAX_HEADER_CHARACTERS]
    if error.status == 401:
        response["WWW-Authenticate"] = 'Basic realm="chat"'
    return response


def whole_number(request: HttpRequest, name: str, default: int) -> int:
    """Return a parameter that is a whole number, not negative. Raises ChatError 40003, which names it."""
    value = request.GET.get(name)
    if value is None:
        return default
    if not value.isascii() or not value.isdigit() or len(value) > 15:
        raise ChatError(Code.INVALID_PARAMETER, f"The parameter {name} is a whole number.")
    return int(value)


def read_messages(request: HttpRequest) -> list[Message]:
    """Return the messages of a body, one or a list. Raises ChatError 40001."""
    try:
        body = request.body
    except RequestDataTooBig:
        limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
        raise ChatError(Code.MESSAGE_TOO_LARGE, f"A request has at most {limit} bytes.", status=413) from None
    decoder = msgspec.msgpack if "msgpack" in (request.content_type or "") else msgspec.json
    try:
        return (
            decoder.decode(body, type=list[Message])
            if _is_list(body, decoder)
            else [decoder.decode(body, type=Message)]
        )
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        hint = f": {error}"[:200] if isinstance(error, msgspec.ValidationError) else ""
        raise ChatError(Code.INVALID_BODY, f"The body is not a message or a list of messages{hint}.") from None


def _is_list(body: bytes, decoder: Any) -> bool:
    if decoder is msgspec.json:
        return body.lstrip()[:1] == b"["
    return bool(body) and (0x90 <= body[0] <= 0x9F or body[0] in (0xDC, 0xDD))


def _basic(value: str) -> str:
    try:
        return base64.b64decode(value.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise ChatError(Code.INVALID_CREDENTIALS, "The Authorization header holds no key in base64.") from None


def _bearer(value: str) -> str:
    """Return a bearer token, decoded from the base64 that SDKs wrap it in (RSA3b)."""
    if "." in value:
        return value
    try:
        return base64.b64decode(value, validate=True).decode()
    except (binascii.Error, ValueError):
        return value


def _client_id(header: str | None) -> str | None:
    if not header:
        return None
    try:
        return base64.b64decode(header, validate=True).decode()
    except (binascii.Error, ValueError):
        raise ChatError(Code.INVALID_CLIENT_ID, "The X-Ably-ClientId header is not base64.") from None
