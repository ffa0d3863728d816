"""The ASGI application: WebSockets to the consumer, HTTP to Django behind a bound on what is under way."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

django_application = get_asgi_application()

# These import models, which exist only after Django is set up.
from chatsite.admission import Admission  # noqa: E402
from rooms.consumer import ChatConsumer  # noqa: E402

application = ProtocolTypeRouter({"http": Admission(django_application), "websocket": ChatConsumer.as_asgi()})
