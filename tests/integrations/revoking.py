"""What tests of revocations share: tokens of a key, and the call that ends them."""

from __future__ import annotations

import base64
import json
import time
from typing import Any

import jwt
from django.test import Client

from integrations.access import keys, opaque_tokens
from integrations.access.keys import NewKey
from rooms.access.capabilities import Capability

ANYTHING = Capability.parse('{"*":["*"]}')


def token_of(new: NewKey, client_id: str = "alice", *, issued: float | None = None) -> str:
    key = keys.find([new.row.name])[new.row.name]
    at = int((time.time() if issued is None else issued) * 1000)
    return opaque_tokens.issue(key, capability=None, client_id=client_id, issued=at, life=60_000).token


def jwt_of(new: NewKey, **changes: Any) -> str:
    now = time.time()
    claims = {"iat": now, "exp": now + 60, "x-ably-capability": '{"team:*":["*"]}'} | changes
    name, secret = keys.split_key(new.text)
    return jwt.encode(claims, secret, algorithm="HS256", headers={"kid": name})


def ask(new: NewKey, *targets: str, key: str | None = None, **wanted: Any) -> Any:
    """Call the endpoint as an SDK does."""
    return Client().post(
        f"/keys/{new.row.name}/revokeTokens",
        json.dumps({"targets": targets} | wanted),
        content_type="application/json",
        headers={"Authorization": "Basic " + base64.b64encode((key or new.text).encode()).decode()},
    )
