"""Serves static files by WhiteNoise, which is asked about no other request.

WhiteNoise's middleware is synchronous: around an asynchronous view it would hold a thread for as long as that
view waits, and a publish waits for a Lambda. So it is asked only about addresses under STATIC_URL.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import cast

from asgiref.sync import iscoroutinefunction, sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponseNotFound
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware
from whitenoise.middleware import WhiteNoiseMiddleware

Response = HttpResponseBase | Awaitable[HttpResponseBase]


@sync_and_async_middleware
def static_files(get_response: Callable[[HttpRequest], Response]) -> Callable[[HttpRequest], Response]:
    """Middleware that serves files under STATIC_URL and passes all other requests on."""
    whitenoise = WhiteNoiseMiddleware(lambda request: HttpResponseNotFound("There is no such file."))
    prefix = "/" + settings.STATIC_URL.strip("/") + "/"

    if iscoroutinefunction(get_response):
        serve = sync_to_async(whitenoise, thread_sensitive=False)

        async def respond_async(request: HttpRequest) -> HttpResponseBase:
            if request.path_info.startswith(prefix):
                return cast(HttpResponseBase, await serve(request))
            return await cast(Awaitable[HttpResponseBase], get_response(request))

        return respond_async

    def respond(request: HttpRequest) -> HttpResponseBase:
        if request.path_info.startswith(prefix):
            return cast(HttpResponseBase, whitenoise(request))
        return cast(HttpResponseBase, get_response(request))

    return respond
