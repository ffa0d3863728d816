"""A chat filter for AWS Lambda: stars out banned words and turns image links into embedded images.

Deploy it with chat_hook.py (handler `word_filter.handler`) behind a Function URL, or run it here with
`manage.py lambda integrations/examples/word_filter.py`. It answers with its verdict.

Environment: BANNED_WORDS (comma-separated); WEBHOOK_SECRET as chat_hook.py says.
"""

import json
import os
import re
from typing import Any

from chat_hook import Event, Message, Verdict, accept, filter_handler, modify

WORDS = [word for word in re.split(r"[,\s]+", os.environ.get("BANNED_WORDS", "potato,cabbage")) if word]
# Longest first: with "cab" and "cabbage" banned, all of "cabbage" goes.
BANNED = re.compile("|".join(map(re.escape, sorted(WORDS, key=len, reverse=True))) or r"(?!)", re.IGNORECASE)
LINK = re.compile(r"https://[^\s<>\"'`\\]+")
IMAGE_PATH = re.compile(r"https://[^/?#]+/[^?#]*\.(?:png|jpe?g|gif|webp)(?:[?#]|\Z)", re.IGNORECASE)
PUNCTUATION = ".,;:!?)]"  # what may stand behind a link in a sentence
MAX_EMBEDS = 4
MAX_LINK_CHARACTERS = 2048


def judge(message: Message, event: Event) -> Verdict:
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
        return accept()
    return modify(data=clean, extras=decorated) if decorated != extras else modify(data=clean)


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


handler = filter_handler(judge)
