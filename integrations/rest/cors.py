"""Pages of other sites may use the public REST API: it takes keys and tokens, never a cookie."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

# Everything else (the page, the admin, /auth) lives by cookies and stays closed to other sites.
PUBLIC = re.compile(r"/(?:keys|channels|messages|presence|stats|time)(?:/|$)")
REQUESTED_HEADERS = re.compile(r"[A-Za-z0-9, -]{1,1000}", re.ASCII)
METHODS = "GET, POST, PUT, PATCH, DELETE, OPTIONS"
EXPOSED = "Link, X-Ably-Errorcode, X-Ably-Errormessage, X-Ably-Serverid, Retry-After"
PREFLIGHT_SECONDS = "7200"

Answer = HttpResponseBase | Awaitable[HttpResponseBase]


@sync_and_async_middleware
def public_api(get_response: Callable[[HttpRequest], Answer]) -> Callable[[HttpRequest], Answer]:
    """Middleware: answer preflight requests for the public API, and let every origin read its answers."""
    if iscoroutinefunction(get_response):

        async def respond_async(request: HttpRequest) -> HttpResponseBase:
            if is_preflight(request):
                return permit(request)
            answer = await cast(Awaitable[HttpResponseBase], get_response(request))
            return open_up(request, answer)

        return respond_async

    def respond(request: HttpRequest) -> HttpResponseBase:
        if is_preflight(request):
            return permit(request)
        return open_up(request, cast(HttpResponseBase, get_response(request)))

    return respond


def is_preflight(request: HttpRequest) -> bool:
    """Tell whether a browser asks if another site's page may call the public API."""
    asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
    return asks and PUBLIC.match(request.path) is not None


def permit(request: HttpRequest) -> HttpResponse:
    """Return the answer to a preflight request: the headers that it asked for are fine."""
    answer = HttpResponse(status=204)
    answer["Access-Control-Allow-Origin"] = "*"
    answer["Access-Control-Allow-Methods"] = METHODS
    answer["Access-Control-Max-Age"] = PREFLIGHT_SECONDS
    wanted = request.headers.get("Access-Control-Request-Headers", "")
    if REQUESTED_HEADERS.fullmatch(wanted):
        answer["Access-Control-Allow-Headers"] = wanted
    return answer


def open_up(request: HttpRequest, answer: HttpResponseBase) -> HttpResponseBase:
    """Return the answer, readable by every origin if it is one of the public API."""
    if PUBLIC.match(request.path):
        answer["Access-Control-Allow-Origin"] = "*"
        answer["Access-Control-Expose-Headers"] = EXPOSED
    return answer
