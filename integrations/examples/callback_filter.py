"""A chat filter for AWS Lambda that answers through the REST callback instead of its response.

This is the way of a filter that takes longer than a webhook may wait, or that the Invoke API calls asynchronously:
it says 202 ("the verdict follows") and posts each verdict with the token of its message. The token is good for that
message alone, so the function never needs a key of the chat server.

Environment: BANNED_WORDS (comma-separated); WEBHOOK_SECRET as chat_hook.py says. Deploy it with that file.
"""

import os
import re

from chat_hook import Event, Message, Verdict, accept, data_of, filter_handler, modify

WORDS = [word for word in re.split(r"[,\s]+", os.environ.get("BANNED_WORDS", "potato,cabbage")) if word]
BANNED = re.compile("|".join(map(re.escape, WORDS)) or r"(?!)", re.IGNORECASE)


def judge(message: Message, event: Event) -> Verdict:
    """The verdict on one message; only text is looked at."""
    data = data_of(message)
    if not isinstance(data, str):
        return accept()
    clean = BANNED.sub(lambda match: "*" * len(match[0]), data)
    return accept() if clean == data else modify(data=clean)


handler = filter_handler(judge, by_callback=True)
