"""The view for callbacks: a Lambda sends a verdict here that it did not give in its answer."""

from __future__ import annotations

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from integrations.callbacks import late_verdicts
from integrations.rest import errors

REPEATED_HEADER = "Idempotent-Replayed"


class CallbackView(APIView):
    """`POST /integrations/verdict` with `Authorization: Bearer <callback token>` and a verdict as JSON."""

    def post(self, request: Request) -> Response:
        """Apply the verdict once; a repeated request gets the first reply again."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        address = str(request.META.get("REMOTE_ADDR") or "")
        taken = late_verdicts.apply_callback(token, request.body, now=datetime.now(UTC), address=address)
        response = Response(taken.shape) if taken.error is None else errors.answer(taken.error)
        if taken.is_repeated:
            response[REPEATED_HEADER] = "true"
        return response
