"""What AWS does with a call: it makes the signature anew from what arrived, and compares."""

from __future__ import annotations

from datetime import UTC, datetime

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from tests.integrations.receiver import Received

KEY = "AKIDEXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
REGION = "eu-central-1"
MAX_AGE_SECONDS = 300


class Refused(Exception):
    """What AWS would answer with a 403; the text is the exception's name."""


def verify(
    request: Received,
    *,
    secrets: dict[str, str] | None = None,
    service: str = "lambda",
    tokens: dict[str, str] | None = None,
    now: datetime | None = None,
) -> list[str]:
    """Return the names of the headers that are signed. Raises Refused."""
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    parts = dict(part.strip().split("=", 1) for part in rest.split(","))
    if scheme != "AWS4-HMAC-SHA256":
        raise Refused("MissingAuthenticationTokenException")
    key, date, region, of_service, end = parts["Credential"].split("/")
    stamp = request.headers["x-amz-date"]
    age = (now or datetime.now(UTC)) - datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    if abs(age.total_seconds()) > MAX_AGE_SECONDS or not stamp.startswith(date):
        raise Refused("InvalidSignatureException")
    secret = (secrets or {KEY: SECRET}).get(key)
    token = request.headers.get("x-amz-security-token")
    if secret is None or (region, of_service, end) != (REGION, service, "aws4_request"):
        raise Refused("UnrecognizedClientException")
    if token != (tokens or {}).get(key):
        raise Refused("ExpiredTokenException")
    signed = parts["SignedHeaders"].split(";")
    if not {"host", "x-amz-date"} <= set(signed):
        raise Refused("IncompleteSignatureException")
    if _signature(request, signed, ReadOnlyCredentials(key, secret, token), service, stamp) != parts["Signature"]:
        raise Refused("InvalidSignatureException")
    return signed


def _signature(request: Received, signed: list[str], credentials: ReadOnlyCredentials, service: str, stamp: str) -> str:
    again = AWSRequest(
        method="POST",
        url=f"http://{request.headers['host']}{request.path}",
        data=request.body,
        headers={name: request.headers[name] for name in signed},
    )
    again.context["timestamp"] = stamp
    auth = SigV4Auth(credentials, service, REGION)
    return str(auth.signature(auth.string_to_sign(again, auth.canonical_request(again)), again))
