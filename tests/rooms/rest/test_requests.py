"""Answers of the REST API, whatever texts are in them."""

from __future__ import annotations

import json

from django.db import OperationalError
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from rooms.errors import ChatError, Code
from rooms.rest.requests import error_response, rest


def test_a_reason_of_several_lines_is_an_answer_and_no_fault_of_the_server() -> None:
    error = ChatError(Code.REJECTED_BY_MODERATION, "First line\r\nSet-Cookie: a=b — ünd more" + "x" * 1000)
    response = error_response(RequestFactory().get("/"), error)

    assert response["X-Ably-Errormessage"].startswith("First line Set-Cookie: a=b ")
    assert len(response["X-Ably-Errormessage"]) <= 500
    assert response.status_code == 422


async def test_who_asks_while_postgres_is_away_is_told_to_try_again() -> None:
    @rest("GET")
    async def view(request: HttpRequest) -> HttpResponse:
        raise OperationalError("canceling statement due to statement timeout")

    response = await view(RequestFactory().get("/"))
    assert (response.status_code, json.loads(response.content)["error"]["code"]) == (503, Code.UNAVAILABLE)
