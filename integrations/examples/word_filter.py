"""A chat filter for AWS Lambda: stars out banned words and turns image links into embedded images.

One file, standard library only: deploy it as it is (handler `word_filter.handler`) behind a Function URL, or run
it here with `manage.py lambda integrations/examples/word_filter.py`. It answers with its verdict.

Environment: BANNED_WORDS (comma-separated), WEBHOOK_SECRET (`whsec_...`; several, separated by spaces, while a
secret is being changed; without it no signature is asked for).
"""

import base64
import binascii
import hashlib
import hmac
import json
import os
import re
import time
from typing import Any

Json = dict[str, Any]

WORDS = [word for word in re.split(r"[,\s]+", os.environ.get("BANNED_WORDS", "potato,cabbage")) if word]
# Longest first: with "cab" and "cabbage" banned, all of "cabbage" goes.
BANNED = re.compile("|".join(map(re.escape, sorted(WORDS, key=len, reverse=True))) or r"(?!)", re.IGNORECASE)
LINK = re.compile(r"https://[^\s<>\"'`\\]+")
IMAGE_PATH = re.compile(r"https://[^/?#]+/[^?#]*\.(?:png|jpe?g|gif|webp)(?:[?#]|\Z)", re.IGNORECASE)
PUNCTUATION = ".,;:!?)]"  # what may stand behind a link in a sentence
MAX_EMBEDS = 4
MAX_LINK_CHARACTERS = 2048
MAX_AGE_SECONDS = 300


def handler(event: Json, context: object) -> Json:
    """The function's entry point: checks the signature, judges each message, answers with the verdicts."""
    body = event.get("body") or ""
    raw = base64.b64decode(body) if event.get("isBase64Encoded") else body.encode()
    secrets = os.environ.get("WEBHOOK_SECRET", "").split()
    if secrets and not is_signed(raw, event.get("headers") or {}, secrets, now=time.time()):
        return answer(401, {"error": "the webhook signature is missing, wrong or too old"})
    try:
        messages = json.loads(raw)["messages"]
        verdicts = [{"id": message.get("id"), **judge(message)} for message in messages]
    except (ValueError, KeyError, TypeError, AttributeError):
        return answer(400, {"error": "the body is no envelope of messages"})
    return answer(200, verdicts[0] if len(verdicts) == 1 else {"verdicts": verdicts})


def judge(message: Json) -> Json:
    """The verdict on one message: accepted as it is, or modified."""
    data, extras = message.get("data"), message.get("extras") or {}
    clean, text = filter_data(data, message.get("encoding") or "")
    embeds = [{"type": "image", "url": url} for url in find_images(text)]
    # Whatever the sender claimed to embed is replaced: only what this filter found is shown.
    decorated = {
        **{key: value for key, value in extras.items() if key != "embeds"},
        **({"embeds": embeds} if embeds else {}),
    }
    if clean == data and decorated == extras:
        return {"action": "accept"}
    return {"action": "modify", "message": {"data": clean, **({"extras": decorated} if decorated != extras else {})}}


def filter_data(data: Any, encoding: str) -> tuple[Any, str]:
    """The data without banned words, and its text for the search of links. Bytes and ciphers are left alone."""
    if encoding == "json":
        content = json.loads(data)
        clean, text = filter_data(content, "")
        return data if clean == content else json.dumps(clean, ensure_ascii=False, separators=(",", ":")), text
    if encoding not in ("", "utf-8"):
        return data, ""
    if isinstance(data, str):
        return BANNED.sub(lambda match: "*" * len(match[0]), data), data
    if isinstance(data, list):
        pairs = [filter_data(item, "") for item in data]
        return [clean for clean, _ in pairs], " ".join(text for _, text in pairs)
    if isinstance(data, dict):
        by_key = {key: filter_data(value, "") for key, value in data.items()}
        return {key: clean for key, (clean, _) in by_key.items()}, " ".join(text for _, text in by_key.values())
    return data, ""


def find_images(text: str) -> list[str]:
    """The image links in a text, each once, in order. One with a banned word in it is left out."""
    links = dict.fromkeys(link.rstrip(PUNCTUATION) for link in LINK.findall(text))
    return [link for link in links if is_image(link)][:MAX_EMBEDS]


def is_image(link: str) -> bool:
    """Whether a link may be shown as an image."""
    return len(link) <= MAX_LINK_CHARACTERS and bool(IMAGE_PATH.match(link)) and not BANNED.search(link)


def is_signed(body: bytes, headers: Json, secrets: list[str], *, now: float) -> bool:
    """Whether the body carries a fresh signature by the Standard Webhooks scheme, by any of the secrets."""
    message_id, sent = str(headers.get("webhook-id", "")), str(headers.get("webhook-timestamp", ""))
    if not re.fullmatch(r"[0-9]{1,12}", sent) or abs(now - int(sent)) > MAX_AGE_SECONDS:
        return False
    given = [part[3:] for part in str(headers.get("webhook-signature", "")).split() if part.startswith("v1,")]
    return any(
        hmac.compare_digest(sign(secret, message_id, sent, body).encode(), signature.encode())
        for secret in secrets
        for signature in given
    )


def sign(secret: str, message_id: str, sent: str, body: bytes) -> str:
    """The base64 of HMAC-SHA256 over `id.timestamp.body`."""
    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error:
        key = secret.encode()
    content = b".".join([message_id.encode(), sent.encode(), body])
    return base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def answer(status: int, body: Json) -> Json:
    """A Function URL response."""
    return {"statusCode": status, "headers": {"content-type": "application/json"}, "body": json.dumps(body)}
