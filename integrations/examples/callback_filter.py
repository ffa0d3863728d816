"""A chat filter for AWS Lambda that answers through the REST callback instead of its response.

This is the way of a filter that takes longer than a webhook may wait, or hands its work to something else: it says
202 ("the verdict follows") and posts the verdict with the token of the call. The token is good for these messages
alone, and for one verdict each, so the function never needs a key of the chat server.

Environment: BANNED_WORDS, WEBHOOK_SECRET as in `word_filter.py`. Without WEBHOOK_SECRET the function believes
anybody who knows its URL, and would post wherever that caller says: set it for anything but a try.
"""

import base64
import hashlib
import hmac
import json
import os
import re
import time
import urllib.request
from typing import Any

Json = dict[str, Any]

WORDS = [word for word in re.split(r"[,\s]+", os.environ.get("BANNED_WORDS", "potato,cabbage")) if word]
BANNED = re.compile("|".join(map(re.escape, WORDS)) or r"(?!)", re.IGNORECASE)
CALLBACK_SECONDS = 2.0
MAX_AGE_SECONDS = 300


def handler(event: Json, context: object) -> Json:
    """The function's entry point: judges the messages, posts the verdicts, and says that they are posted."""
    body = event.get("body") or ""
    raw = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    secret = os.environ.get("WEBHOOK_SECRET", "")
    if secret and not is_signed(raw, event.get("headers") or {}, secret):
        return {"statusCode": 401}
    envelope = json.loads(raw)
    verdicts = [{"id": message["id"], **judge(message)} for message in envelope["messages"]]
    post(envelope["callback"], verdicts[0] if len(verdicts) == 1 else {"verdicts": verdicts})
    return {"statusCode": 202}


def judge(message: Json) -> Json:
    """The verdict on one message; only text is looked at."""
    data = message.get("data")
    if not isinstance(data, str) or message.get("encoding"):
        return {"action": "accept"}
    clean = BANNED.sub(lambda match: "*" * len(match[0]), data)
    return {"action": "accept"} if clean == data else {"action": "modify", "message": {"data": clean}}


def post(callback: Json, verdict: Json) -> None:
    """Send the verdict. An error is raised, and so becomes a failed call, which the chat server tries again."""
    headers = {"authorization": f"Bearer {callback['token']}", "content-type": "application/json"}
    request = urllib.request.Request(callback["url"], json.dumps(verdict).encode(), headers, method="POST")
    with urllib.request.urlopen(request, timeout=CALLBACK_SECONDS) as response:
        response.read()


def is_signed(body: bytes, headers: Json, secret: str) -> bool:
    """Whether the body carries a fresh signature by the Standard Webhooks scheme."""
    message_id, sent = str(headers.get("webhook-id", "")), str(headers.get("webhook-timestamp", ""))
    if not re.fullmatch(r"[0-9]{1,12}", sent) or abs(time.time() - int(sent)) > MAX_AGE_SECONDS:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, b".".join([message_id.encode(), sent.encode(), body]), hashlib.sha256).digest()
    expected = f"v1,{base64.b64encode(digest).decode()}".encode()
    given = str(headers.get("webhook-signature", "")).split()
    return any(hmac.compare_digest(signature.encode(), expected) for signature in given)
