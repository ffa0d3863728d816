"""The colours and badges of states, the same on every page."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.safestring import SafeString

from integrations.models import BreakerState, CallbackResult, DeliveryState, IntegrationRule, NoticeLevel
from rooms.admin.cells import badge
from rooms.admin.journey import Tone

STATE_TONES: Mapping[str, Tone] = {
    DeliveryState.PENDING: Tone.WAITING,
    DeliveryState.DELIVERING: Tone.WAITING,
    DeliveryState.DELIVERED: Tone.GOOD,
    DeliveryState.DEAD: Tone.BAD,
    DeliveryState.CANCELLED: Tone.PLAIN,
}
BREAKER_TONES: Mapping[str, Tone] = {
    BreakerState.CLOSED: Tone.GOOD,
    BreakerState.HALF_OPEN: Tone.WAITING,
    BreakerState.OPEN: Tone.BAD,
}
CALLBACK_TONES: Mapping[str, Tone] = {
    CallbackResult.APPLIED: Tone.GOOD,
    CallbackResult.REPEATED: Tone.PLAIN,
    CallbackResult.LATE: Tone.WAITING,
    CallbackResult.REFUSED: Tone.BAD,
}
NOTICE_TONES: Mapping[str, Tone] = {
    NoticeLevel.INFO: Tone.PLAIN,
    NoticeLevel.WARNING: Tone.WAITING,
    NoticeLevel.ERROR: Tone.BAD,
}
VERDICT_TONES: Mapping[str, Tone] = {
    "publish": Tone.GOOD,
    "replace": Tone.WAITING,
    "hold": Tone.WAITING,
    "reject": Tone.BAD,
}


def kind_of(rule: IntegrationRule) -> str:
    """Return the kind of a rule: shadow, stand-in, before or after publish."""
    if rule.is_shadow:
        return "stand-in" if rule.stands_in else "shadow"
    return f"{rule.when} publish"


def state_badge(state: str) -> SafeString:
    """Return the state of a delivery as a badge."""
    return badge("dead letter" if state == DeliveryState.DEAD else state, STATE_TONES[state])


def status_badge(status: int | None) -> SafeString:
    """Return an HTTP status as a badge; None means no answer."""
    if status is None:
        return badge("no answer", Tone.BAD)
    return badge(str(status), Tone.GOOD if 200 <= status < 300 else Tone.BAD)
