"""Adds the Content-Security-Policy to every page: only our own scripts and styles, nothing inline."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

HEADER = "Content-Security-Policy"

View = Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]


def policy(sockets: str) -> str:
    """Return the policy; `sockets` are our own WebSocket origins. Embedded images may live elsewhere."""
    directives = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' https: data:",
        "connect-src": f"'self' {sockets}".rstrip(),
        "font-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {sources}" for name, sources in directives.items())


@sync_and_async_middleware
def content_security(get_response: View) -> View:
    """Add the policy to responses without one. As sync and async middleware, it needs no thread hop."""
    if iscoroutinefunction(get_response):

        async def answer_async(request: HttpRequest) -> HttpResponseBase:
            return protect(request, await get_response(request))

        return answer_async

    def answer(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        assert isinstance(response, HttpResponseBase)
        return protect(request, response)

    return answer


def protect(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Set the header of a response that has none, and return the response."""
    if HEADER not in response:
        response.headers[HEADER] = policy(own_sockets(request))
    return response


def own_sockets(request: HttpRequest) -> str:
    """Return our WebSocket origins, which older Safari does not count as 'self'. Empty for a refused Host."""
    try:
        host = request.get_host()
    except DisallowedHost:
        return ""
    return f"ws://{host} wss://{host}"
