"""Builds the journey of a message, the steps that moderators see. Apps that build on rooms register further steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from django.db.models.functions import Left

from rooms.models import Message, MessageAction, Status
from rooms.protocol.serials import encode
from rooms.review.contract import VerdictAction

MAX_STEPS_OF_A_KIND = 100
PREVIEW_CHARACTERS = 400


class Tone(StrEnum):
    """The colour of a step."""

    PLAIN = "plain"
    WAITING = "waiting"
    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One event in a message's journey, or one that is awaited (then `at` is its deadline).

    A step with a duration lasts from `began` to `at`. `is_call`: the time was spent outside of this server.
    """

    at: datetime | None
    title: str
    began: datetime | None = None
    detail: str = ""
    quote: str = ""  # content, to be escaped
    tone: Tone = Tone.PLAIN
    is_ahead: bool = False
    is_call: bool = False
    is_part: bool = False  # of an earlier step
    is_aside: bool = False  # the message did not wait for it
    link: str = ""  # the address of a page with details

    @property
    def start(self) -> datetime | None:
        """The time at which it began, or happened."""
        return self.began or self.at


WORDS = {
    VerdictAction.PUBLISH.value: ("Let through", Tone.GOOD),
    VerdictAction.REPLACE.value: ("Content replaced", Tone.GOOD),
    VerdictAction.REJECT.value: ("Refused", Tone.BAD),
    VerdictAction.HOLD.value: ("Held for a moderator", Tone.WAITING),
}

Source = Callable[[Message], Iterable[Step]]
# Returns readable names for those of the review steps ("integrations:rule-7") that it knows.
Namer = Callable[[Iterable[str]], Mapping[str, str]]
_sources: list[Source] = []
_namers: list[Namer] = []


def register(source: Source) -> Source:
    """Add a source of steps. Usable as a decorator."""
    _sources.append(source)
    return source


def register_names(namer: Namer) -> Namer:
    """Add a source of names for review steps. Usable as a decorator."""
    _namers.append(namer)
    return namer


def names_of(steps: Iterable[str]) -> Mapping[str, str]:
    """Return readable names of review steps; a step that no namer knows keeps its own name."""
    names = {step: step for step in steps}
    for namer in _namers:
        names |= namer(names)
    return names


def journey_of(message: Message) -> list[Step]:
    """Return all steps of a message in the order of time, awaited ones last."""
    steps = [step for source in _sources for step in source(message)]
    return sorted(steps, key=lambda step: (step.is_ahead, step.start is None, step.start or message.accepted_at))


@register
def acceptance(message: Message) -> Iterable[Step]:
    """Yield the step of acceptance."""
    author = f"from {message.client_id}" if message.client_id else "from an anonymous client"
    yield Step(at=message.accepted_at, title="Accepted", detail=f"{author}, as {message.message_id}")


@register
def verdicts(message: Message) -> Iterable[Step]:
    """Yield a step for each verdict of a reviewer or moderator."""
    latest = list(reversed(message.verdicts.order_by("-id")[:MAX_STEPS_OF_A_KIND]))
    names = names_of(verdict.step for verdict in latest)
    for verdict in latest:
        title, tone = WORDS.get(verdict.action, (verdict.action, Tone.PLAIN))
        by = f"by {names[verdict.step]}"
        detail = f"{by}: {verdict.reason}" if verdict.reason else by
        yield Step(at=verdict.decided_at, title=title, detail=detail, tone=tone)


@register
def standing(message: Message) -> Iterable[Step]:
    """Yield the current state: published, rejected, or waiting."""
    if message.status == Status.PUBLISHED:
        assert message.created_serial is not None
        serial = encode(message.room.epoch, message.created_serial)
        yield Step(at=message.published_at, title="Published", detail=f"at serial {serial}", tone=Tone.GOOD)
    elif message.status == Status.REJECTED:
        detail = f"{message.reason} (code {message.error_code})" if message.error_code else message.reason
        yield Step(at=None, title="Rejected", detail=detail, tone=Tone.BAD)
    elif message.status == Status.HELD:
        yield Step(at=None, title="Waits for a moderator", detail=message.reason, tone=Tone.WAITING, is_ahead=True)
    elif message.status == Status.ACCEPTED:
        detail = f"at the deadline: {message.at_deadline}"
        awaited = names_of([message.awaiting])[message.awaiting]
        yield Step(at=message.deadline, title=f"Waits for {awaited}", detail=detail, tone=Tone.WAITING, is_ahead=True)
    else:
        detail = "An earlier message of the same author is not decided yet."
        yield Step(at=None, title="Approved, waits its turn", detail=detail, tone=Tone.WAITING, is_ahead=True)


@register
def changes(message: Message) -> Iterable[Step]:
    """Yield a step for each edit or hiding, with the content that it replaced."""
    versions = list(
        message.versions.order_by("-serial")
        .defer("text", "binary", "extras")
        .annotate(start=Left("text", PREVIEW_CHARACTERS))[:MAX_STEPS_OF_A_KIND]
    )
    # A version holds the content before a change; the change's action is stored with the version after it.
    action = message.action
    for version in versions:
        is_hidden = action == MessageAction.DELETE
        yield Step(
            at=version.replaced_at,
            title="Hidden" if is_hidden else "Edited",
            detail=f"by {version.replaced_by}; before, it said:" if version.replaced_by else "before, it said:",
            quote=version.start or "(no text)",
            tone=Tone.BAD if is_hidden else Tone.PLAIN,
        )
        action = version.action
