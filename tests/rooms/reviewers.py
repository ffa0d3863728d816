"""Reviewers for tests: they do what the text of a message asks for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from msgspec.structs import replace

from rooms.log.content import Draft
from rooms.review.contract import AwaitedVerdict, Deferral, Verdict, VerdictAction


class Obedient:
    """ "defer", "reject", "hold" or "replace" at the start of a text is done; anything else passes.

    "defer twice" asks for a second step once the first has let the message pass. Refused at the first's deadline,
    unless "open" (published) or "human" (held) is in the text.
    """

    name = "obedient"

    def __init__(self) -> None:
        self.deferred: list[tuple[int, str]] = []

    def review(self, drafts: Sequence[Draft]) -> list[Verdict | Deferral | None]:
        return [self._review(draft) for draft in drafts]

    def defer(self, awaited: Sequence[AwaitedVerdict]) -> None:
        self.deferred += [(one.message, one.step) for one in awaited]

    def _review(self, draft: Draft) -> Verdict | Deferral | None:
        text = draft.content.text or ""
        if text.startswith("defer") and not draft.passed:
            at_deadline = (
                VerdictAction.PUBLISH
                if "open" in text
                else VerdictAction.HOLD
                if "human" in text
                else VerdictAction.REJECT
            )
            return Deferral(step="one", budget=timedelta(seconds=10), at_deadline=at_deadline)
        if text.startswith("defer twice") and draft.passed == "one":
            return Deferral(step="two", budget=timedelta(seconds=10), at_deadline=VerdictAction.HOLD)
        if text.startswith("reject"):
            return Verdict(action=VerdictAction.REJECT, code=42213, reason="as asked", detail={"why": "test"})
        if text.startswith("hold"):
            return Verdict(action=VerdictAction.HOLD, reason="look at it")
        if text.startswith("replace"):
            return Verdict(action=VerdictAction.REPLACE, content=replace(draft.content, text="replaced"))
        return None
