"""The REST callback: where a Lambda that takes its time sends its verdict."""

from __future__ import annotations

from datetime import UTC, datetime

from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from integrations import late_verdicts


class VerdictView(APIView):
    """`POST /integrations/verdict` with `Authorization: Bearer <callback token>` and a verdict as JSON."""

    def post(self, request: Request) -> Response:
        """Apply the verdict."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
        return Response(late_verdicts.take(token, request.body, now=datetime.now(UTC)))
