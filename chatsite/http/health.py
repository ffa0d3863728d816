"""GET /healthz: says whether this gateway can do its work."""

from __future__ import annotations

from django.db import connection
from django.http import HttpRequest, JsonResponse

from rooms import faults
from rooms.faults import POSTGRES_AWAY


def healthz(request: HttpRequest) -> JsonResponse:
    """Answer 200 where Postgres answers, 503 where not. Redis only speeds things up: its absence is no fault."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except POSTGRES_AWAY:
        return _unavailable()
    except Exception:
        faults.record("health check")
        return _unavailable()
    return JsonResponse({"status": "ok"})


def _unavailable() -> JsonResponse:
    return JsonResponse({"status": "unavailable", "postgres": "does not answer"}, status=503)
