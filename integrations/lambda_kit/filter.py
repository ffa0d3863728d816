"""A filter to begin with: handler `filter.handler`. Change `judge`; chat_hook.py says what it may return."""

from chat_hook import Event, Message, Verdict, accept, data_of, filter_handler, modify, reject, texts_of


def judge(message: Message, event: Event) -> Verdict:
    """The verdict on one message."""
    data = data_of(message)
    text = " ".join(texts_of(data))
    if "http://" in text:
        return reject("Only links with https, please.")
    if isinstance(data, str) and len(text) > 20 and text.isupper():
        return modify(data=data.lower())
    return accept()


handler = filter_handler(judge)
