"""A verdict as the admin shows it."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from integrations.admin.deliveries.request_view import pretty
from integrations.admin.tones import VERDICT_TONES
from rooms.admin.journey import WORDS, Tone
from rooms.review.contract import Verdict

SHOWN_CHARACTERS = 4000


@dataclass(frozen=True, kw_only=True)
class VerdictView:
    """The verdict of a rule on a message, as shown."""

    action: str
    title: str
    tone: Tone = Tone.PLAIN
    reason: str = ""
    code: int | None = None
    text: str = ""  # the new content
    detail: str = ""


def of_verdict(verdict: Verdict) -> VerdictView:
    """Return a verdict for the admin."""
    content = verdict.content
    text = ""
    if content is not None:
        text = f"({len(content.binary):,} bytes)" if content.binary is not None else (content.text or "(no data)")
    return VerdictView(
        action=verdict.action.value,
        title=WORDS[verdict.action.value][0],
        tone=VERDICT_TONES[verdict.action.value],
        reason=verdict.reason,
        code=verdict.code,
        text=text[:SHOWN_CHARACTERS],
        detail=pretty(msgspec.json.encode(verdict.detail))[:SHOWN_CHARACTERS] if verdict.detail else "",
    )


def read(answer: str) -> VerdictView | None:
    """Return the verdict in Delivery.answer for the admin, None without one."""
    if not answer:
        return None
    try:
        return of_verdict(msgspec.json.decode(answer, type=Verdict))
    except (msgspec.MsgspecError, RecursionError):
        return None
