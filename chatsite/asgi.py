"""The ASGI application: WebSockets to the consumer, HTTP to Django behind a bound on what is under way."""

from __future__ import annotations

import os
from collections.abc import Coroutine
from importlib import import_module
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")

from django.conf import settings
from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

# These import models, which exist only after Django is set up.
from chatsite.http.admission import Admission, Receive, Send  # noqa: E402
from chatsite.http.api import ApiHandler, is_api  # noqa: E402
from rooms.connection.consumer import ChatConsumer  # noqa: E402

# With the addresses come all views and the admin pages. The first request would import them in the event loop
# otherwise, for half a second.
import_module(settings.ROOT_URLCONF)

api_application = ApiHandler()


async def http_application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Serve an HTTP request: the REST API's by its own handler, pages and admin by Django's."""
    await (api_application if is_api(scope) else django_application)(scope, receive, send)


admitted_http = Admission(http_application)


def serve(scope: dict[str, Any], receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
    """Return the coroutine that serves a connection. A coroutine here would be kept for as long as that one."""
    match scope["type"]:
        case "websocket":
            served: Coroutine[Any, Any, None] = ChatConsumer()(scope, receive, send)
            return served
        case "http":
            return admitted_http(scope, receive, send)
        case kind:
            raise ValueError(f"This application serves no {kind}.")


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """Serve a connection: the entry point for any other ASGI server."""
    await serve(scope, receive, send)
