"""Views that issue and revoke tokens: the public requestToken and revokeTokens, and /auth for the server's own page."""

from __future__ import annotations

import base64
from typing import Any, cast

import msgspec
from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone
from rest_framework.authentication import SessionAuthentication
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from integrations.access import page_tokens, revocation_requests, token_requests
from integrations.access.revocation_requests import RevocationRequest
from integrations.access.token_requests import TokenRequest
from integrations.access.tokens import TokenDetails
from integrations.rest.formats import JsonParser, JsonRenderer, MsgPackParser, MsgPackRenderer
from rooms.access.guests import person_of
from rooms.errors import ChatError, Code

# Values of Sec-Fetch-Site for requests by another site's page; the same host on another port is "same-site".
OTHER_SITES = {"cross-site", "same-site"}


class RequestToken(APIView):
    """`POST /keys/{keyName}/requestToken`: a signed token request, or any with the key by Basic authentication."""

    http_method_names = ["post"]
    parser_classes = [MsgPackParser, JsonParser]
    renderer_classes = [JsonRenderer, MsgPackRenderer]

    def post(self, request: Request, key_name: str) -> Response:
        """Answer with TokenDetails."""
        wanted = TokenRequest.parse(request.data)
        details = token_requests.answer(key_name, wanted, shown_key(request), timezone.now())
        return show(details, status=201)


class RevokeTokens(APIView):
    """`POST /keys/{keyName}/revokeTokens`: with the key by Basic authentication."""

    http_method_names = ["post"]
    parser_classes = [MsgPackParser, JsonParser]
    renderer_classes = [JsonRenderer, MsgPackRenderer]

    def post(self, request: Request, key_name: str) -> Response:
        """Answer with a result for each target, in order."""
        if request.headers.get("Authorization", "").lower().startswith("bearer "):
            raise ChatError(Code.NOT_WITH_A_TOKEN, "Tokens are revoked with the key itself, by Basic authentication.")
        wanted = RevocationRequest.parse(request.data)
        result = revocation_requests.answer(key_name, wanted, shown_key(request), timezone.now())
        return Response(msgspec.to_builtins(result), status=201, headers={"Cache-Control": "no-store"})


class PageSession(SessionAuthentication):
    """Reads the session and, unlike its base, refuses writes without a CSRF token to guests too."""

    def authenticate(self, request: Request) -> tuple[Any, None]:
        """Return the user of the session, who may be anonymous. Raises PermissionDenied."""
        page = page_request(request)
        # Django's own request: it reads forms, whatever this view's parsers are.
        self.enforce_csrf(cast(Request, page))
        return page.user, None


class PageToken(APIView):
    """`/auth`: the token of the signed-in person or guest of the page; it is the SDK's `authUrl` there."""

    http_method_names = ["get", "post"]
    authentication_classes = [PageSession]
    parser_classes = [JsonParser]
    renderer_classes = [JsonRenderer]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Refuse other sites before anything else. Raises ChatError 40300."""
        refuse_other_sites(page_request(request))
        super().initial(request, *args, **kwargs)

    def get(self, request: Request) -> Response:
        """Answer with TokenDetails."""
        page = page_request(request)
        person = person_of(page)
        if person is None:
            raise ChatError(
                Code.UNAUTHORIZED, f"Sign in or pick a name at {settings.PUBLIC_URL}/sign-in/ first, then ask again."
            )
        is_staff = not person.is_guest and page.user.is_staff
        return show(page_tokens.issue_for(person.client_id, is_staff=is_staff, now=timezone.now()), status=200)

    def post(self, request: Request) -> Response:
        """Answer with TokenDetails."""
        return self.get(request)


def show(details: TokenDetails, *, status: int) -> Response:
    """Return a token in its public shape, never to be cached."""
    return Response(msgspec.to_builtins(details), status=status, headers={"Cache-Control": "no-store"})


def shown_key(request: Request) -> str | None:
    """Return the key of the Authorization header or the query string. Raises ChatError 40101."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return request.query_params.get("key")
    try:
        return base64.b64decode(value.strip(), validate=True).decode()
    except ValueError:
        raise ChatError(Code.INVALID_CREDENTIALS, "The Authorization header is not valid Basic.") from None


def refuse_other_sites(request: HttpRequest) -> None:
    """Raise ChatError 40300 if another site's page makes this request with a visitor's cookie."""
    origin = request.headers.get("Origin")
    ours = {f"{request.scheme}://{request.get_host()}", *settings.CSRF_TRUSTED_ORIGINS}
    if request.headers.get("Sec-Fetch-Site") in OTHER_SITES or (origin is not None and origin not in ours):
        raise ChatError(
            Code.FORBIDDEN, "Only this server's own page gets tokens here. Other sites ask their own token server."
        )


def page_request(request: Request) -> HttpRequest:
    """Return Django's request inside DRF's, with the session's user."""
    return request._request
