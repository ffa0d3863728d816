"""Signs requests to AWS by Signature Version 4, with botocore. Pure, except for the clock that botocore reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

SERVICE_LAMBDA = "lambda"
SERVICE_STS = "sts"


@dataclass(frozen=True, kw_only=True)
class AwsCredentials:
    """AWS credentials. `expires_at` is None for those of a user, which do not expire."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    expires_at: datetime | None = None


def load() -> None:
    """Import the parts of botocore that sign. It takes a third of a second: call it in a thread."""
    import botocore.auth
    import botocore.awsrequest
    import botocore.credentials  # noqa: F401


def sign(
    credentials: AwsCredentials, *, url: str, body: bytes, headers: Mapping[str, str], service: str, region: str
) -> dict[str, str]:
    """Return all headers of a POST with its signature, which is valid for a few minutes."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import ReadOnlyCredentials

    request = AWSRequest(method="POST", url=url, data=body, headers=dict(headers))
    frozen = ReadOnlyCredentials(
        credentials.access_key_id, credentials.secret_access_key, credentials.session_token or None
    )
    SigV4Auth(frozen, service, region).add_auth(request)
    return {name.lower(): value for name, value in request.headers.items()}
