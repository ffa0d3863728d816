"""Assumes a role: the request to AWS's Security Token Service (STS), and its answer. Pure."""

from __future__ import annotations

from datetime import datetime
from typing import Final
from urllib.parse import urlencode
from xml.etree import ElementTree

from integrations.egress.answers import Answer, CallFailed
from integrations.egress.aws.signing import AwsCredentials

DURATION_SECONDS = 3600  # the maximum for a role assumed by a role; every role allows it
HEADERS: Final = {"content-type": "application/x-www-form-urlencoded; charset=utf-8", "accept": "text/xml"}
NAMESPACE = "{https://sts.amazonaws.com/doc/2011-06-15/}"
ERROR_MAX_CHARACTERS = 300


def assume_role(role: str, *, external_id: str, session: str) -> bytes:
    """Return the body of a request for a role's credentials. `session` is a name for AWS's logs."""
    form = {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleArn": role,
        "RoleSessionName": session,
        "DurationSeconds": str(DURATION_SECONDS),
    }
    return urlencode(form | ({"ExternalId": external_id} if external_id else {})).encode()


def read(answer: Answer) -> AwsCredentials:
    """Return the credentials of an answer. Raises CallFailed with the error of STS."""
    try:
        root = ElementTree.fromstring(answer.body)
    except ElementTree.ParseError:
        raise CallFailed(f"STS answered HTTP {answer.status}, and no XML.") from None
    if answer.status != 200:
        raise CallFailed(f"The role cannot be assumed: {_text(root, 'Code')}: {_text(root, 'Message')}")
    key, secret, token = (_text(root, name) for name in ("AccessKeyId", "SecretAccessKey", "SessionToken"))
    expires = _text(root, "Expiration")
    try:
        expires_at = datetime.fromisoformat(expires)
    except ValueError:
        expires_at = None
    if not (key and secret and token and expires_at and expires_at.tzinfo):
        raise CallFailed("STS answered without credentials, or without the time of their end.")
    return AwsCredentials(access_key_id=key, secret_access_key=secret, session_token=token, expires_at=expires_at)


def _text(root: ElementTree.Element, name: str) -> str:
    """Return the text of the first element with a name, in STS's namespace or in none."""
    for element in root.iter():
        if element.tag in (name, NAMESPACE + name) or element.tag.rpartition("}")[2] == name:
            return (element.text or "").strip()[: ERROR_MAX_CHARACTERS if name == "Message" else None]
    return ""
