"""Serves the REST API without the pages' middleware and asynchronously, so that a waiting publish holds no thread.

Sessions, CSRF and the like are for people's browsers, and Django runs them in a thread for each request that
stays until its answer is sent; a publish waits for a Lambda. Keys and tokens need none of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from corsheaders.middleware import CorsMiddleware
from django.core.exceptions import RequestAborted
from django.core.handlers.asgi import ASGIHandler, get_script_prefix
from django.core.handlers.exception import convert_exception_to_response
from django.urls import set_script_prefix

from rooms.page.content_security import content_security

PATHS = ("/channels", "/time")  # and everything below them: see rooms.rest.urls


def is_api(scope: dict[str, Any]) -> bool:
    """Return whether an HTTP request is for the REST API's asynchronous views."""
    path = scope.get("path", "")
    return any(path == api or path.startswith(api + "/") for api in PATHS)


class ApiHandler(ASGIHandler):
    """Django's handler with the API's own middleware and without a thread for each request."""

    def load_middleware(self, is_async: bool = False) -> None:
        """Build the API's middleware: errors become responses, and scripts of other sites may read them."""
        self._view_middleware: list[Any] = []
        self._template_response_middleware: list[Any] = []
        self._exception_middleware: list[Any] = []
        chain: Any = convert_exception_to_response(self._get_response_async)  # type: ignore[attr-defined]
        for middleware in (content_security, CorsMiddleware):
            chain = convert_exception_to_response(middleware(chain))
        self._middleware_chain = chain

    async def __call__(
        self,
        scope: dict[str, Any],
        receive: Callable[[], Awaitable[Any]],
        send: Callable[[Any], Awaitable[None]],
    ) -> None:
        """Serve one request. A message whose sender has gone is published all the same."""
        try:
            body_file = await self.read_body(receive)
        except RequestAborted:
            return
        with body_file:
            set_script_prefix(get_script_prefix(scope))
            request, response = self.create_request(scope, body_file)
            if request is not None:
                response = await self.get_response_async(request)
            assert response is not None
            await self.send_response(response, send)
            response.close()
