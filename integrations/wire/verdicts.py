"""Parses the answers of rules before publish into verdicts. Pure.

    {"action": "accept" | "reject" | "modify" | "hold", "message": {"data", "name", "extras"},
     "reason": "...", "rejectionDetail": {...}}      or, for a batch, {"verdicts": [{"id": "...", "action": ...}, ...]}

An empty answer, or JSON without `action`, holds no verdict: it comes by callback later, or the deadline decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from rooms.errors import ChatError, Code
from rooms.log.content import Content
from rooms.protocol.wire import Message
from rooms.publishing.payload import INTEGERS, read_content
from rooms.review.contract import Verdict, VerdictAction

# `publish` and `replace` are this server's own names of the public actions `accept` and `modify`.
ACTIONS: Mapping[str, VerdictAction] = {
    "accept": VerdictAction.PUBLISH,
    "publish": VerdictAction.PUBLISH,
    "modify": VerdictAction.REPLACE,
    "replace": VerdictAction.REPLACE,
    "reject": VerdictAction.REJECT,
    "hold": VerdictAction.HOLD,
}
REASON_MAX_CHARACTERS = 500
DETAIL_MAX_DEPTH = 16


class BadAnswer(Exception):
    """The answer does not have the documented shape. The text says what is wrong without quoting the answer."""


class OtherMessage(BadAnswer):
    """The answer names a message that the call was not about."""


class NewContent(msgspec.Struct, kw_only=True):
    """New content of a message. Fields that are left out keep their values."""

    data: Any = UNSET
    encoding: str | UnsetType | None = UNSET
    name: str | UnsetType | None = UNSET
    extras: dict[str, Any] | UnsetType | None = UNSET


class Judgement(msgspec.Struct, kw_only=True, rename="camel"):
    """One verdict in its public shape."""

    action: str
    id: str | None = None
    message: NewContent | None = None
    reason: str | None = None
    rejection_detail: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class AskedMessage:
    """A message of a call: the ids by which an answer may name it, and its payload (public JSON text)."""

    key: int
    ids: frozenset[str]
    payload: str


def parse(body: bytes, asked: Sequence[AskedMessage], *, max_bytes: int) -> dict[int, Verdict]:
    """Return the verdicts of an answer by `AskedMessage.key`, as far as it has any. Raises BadAnswer."""
    found: dict[int, Verdict] = {}
    for judgement in _judgements(body):
        subject = _subject(judgement, asked)
        if subject.key in found:
            raise BadAnswer("The answer has two verdicts on one message.")
        found[subject.key] = _verdict(judgement, subject.payload, max_bytes)
    return found


def as_text(verdict: Verdict) -> str:
    """Return a verdict as canonical JSON: equal verdicts are equal texts."""
    return msgspec.json.encode(verdict, order="sorted").decode()


def read_payload(payload: str) -> Message:
    """Return the public message of a delivery's payload."""
    return msgspec.json.decode(payload, type=Message)


def _judgements(body: bytes) -> list[Judgement]:
    if not body.strip():
        return []
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        raise BadAnswer("The answer is not valid JSON.") from None
    if not isinstance(answer, dict):
        return []
    if "verdicts" in answer:
        return _convert(answer["verdicts"], "verdicts")
    return _convert([answer], "answer") if "action" in answer else []


def _convert(value: Any, label: str) -> list[Judgement]:
    try:
        return msgspec.convert(value, list[Judgement])
    except (msgspec.ValidationError, RecursionError) as error:
        raise BadAnswer(f"The {label} has a wrong shape: {error}"[:300]) from None


def _subject(judgement: Judgement, asked: Sequence[AskedMessage]) -> AskedMessage:
    if judgement.id is None:
        if len(asked) != 1:
            raise BadAnswer("The call was about several messages: each verdict needs the id of its own.")
        return asked[0]
    named = [subject for subject in asked if judgement.id in subject.ids]
    if not named:
        raise OtherMessage("A verdict names a message that the call was not about.")
    if len(named) > 1:
        raise BadAnswer("An id is ambiguous.")
    return named[0]


def _verdict(judgement: Judgement, payload: str, max_bytes: int) -> Verdict:
    action = ACTIONS.get(judgement.action.lower())
    if action is None:
        raise BadAnswer(f"The action is one of {', '.join(ACTIONS)}.")
    reason = _reason(judgement.reason)
    if action is VerdictAction.REJECT:
        detail = judgement.rejection_detail
        for value in _values(detail, DETAIL_MAX_DEPTH):
            if isinstance(value, str) and "\0" in value:
                raise BadAnswer("The rejectionDetail holds a NUL character.")
            if isinstance(value, int) and value not in INTEGERS:
                raise BadAnswer("The rejectionDetail holds an integer of more than 64 bits; send it as text.")
        return Verdict(
            action=action, code=Code.REJECTED_BY_RULE, reason=reason or "The message was refused.", detail=detail
        )
    if action is VerdictAction.HOLD:
        return Verdict(action=action, reason=reason)
    if judgement.message is None:
        if action is VerdictAction.REPLACE:
            raise BadAnswer("The action modify needs a message with the new data.")
        return Verdict(action=VerdictAction.PUBLISH, reason=reason)
    return _replacement(judgement.message, payload, reason, max_bytes)


def _replacement(change: NewContent, payload: str, reason: str, max_bytes: int) -> Verdict:
    original = read_payload(payload)
    changed = Message(
        client_id=original.client_id,
        name=original.name if change.name is UNSET else change.name,
        extras=original.extras if change.extras is UNSET else change.extras,
    )
    content = _read(changed, change, original, max_bytes)
    if content == read_content(original, max_bytes=max_bytes * 2):
        return Verdict(action=VerdictAction.PUBLISH, reason=reason)
    return Verdict(action=VerdictAction.REPLACE, content=content, reason=reason)


def _read(changed: Message, change: NewContent, original: Message, max_bytes: int) -> Content:
    """Return the new content. Data without an encoding gets that of the original data, if it fits."""
    if change.data is UNSET:
        candidates = [(original.data, original.encoding)]
    elif change.encoding is not UNSET:
        candidates = [(change.data, change.encoding)]
    else:
        candidates = [(change.data, None)]
        if isinstance(change.data, str) and original.encoding and _fits(change.data, original.encoding):
            candidates.insert(0, (change.data, original.encoding))
    problem = ""
    for changed.data, changed.encoding in candidates:
        try:
            return read_content(changed, max_bytes=max_bytes)
        except ChatError as error:
            problem = problem or error.message
    raise BadAnswer(f"The new message cannot be published: {problem}")


def _fits(data: str, encoding: str) -> bool:
    if encoding.split("/")[-1] != "json":
        return True
    try:
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        return False
    return True


def _reason(reason: str | None) -> str:
    if reason and "\0" in reason:
        raise BadAnswer("The reason holds a NUL character.")
    return (reason or "")[:REASON_MAX_CHARACTERS]


def _values(value: Any, depth: int) -> Iterable[Any]:
    if depth == 0:
        raise BadAnswer(f"The rejectionDetail is nested deeper than {DETAIL_MAX_DEPTH} levels.")
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _values(inner, depth - 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _values(inner, depth - 1)
    else:
        yield value
