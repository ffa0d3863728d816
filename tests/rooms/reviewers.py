"""Reviewers for tests: they do what the text of a message asks for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from msgspec.structs import replace

from rooms.review.contract import Action, Deferral, Submission, Verdict


class Obedient:
    """ "defer", "reject", "hold" or "replace" at the start of a text is done; anything else passes.

    "defer twice" asks for a second step once the first has let the message pass. Refused at the first's deadline,
    unless "open" (published) or "human" (held) is in the text.
    """

    name = "obedient"

    def __init__(self) -> None:
        self.deferred: list[tuple[int, str]] = []

    def review(self, submissions: Sequence[Submission]) -> list[Verdict | Deferral | None]:
        return [self._review(submission) for submission in submissions]

    def defer(self, deferred: Sequence[tuple[int, Submission, Deferral]]) -> None:
        self.deferred += [(message, deferral.step) for message, _, deferral in deferred]

    def _review(self, submission: Submission) -> Verdict | Deferral | None:
        text = submission.content.text or ""
        if text.startswith("defer") and not submission.passed:
            at_deadline = Action.PUBLISH if "open" in text else Action.HOLD if "human" in text else Action.REJECT
            return Deferral(step="one", budget=timedelta(seconds=10), at_deadline=at_deadline)
        if text.startswith("defer twice") and submission.passed == "one":
            return Deferral(step="two", budget=timedelta(seconds=10), at_deadline=Action.HOLD)
        if text.startswith("reject"):
            return Verdict(action=Action.REJECT, code=42213, reason="as asked", detail={"why": "test"})
        if text.startswith("hold"):
            return Verdict(action=Action.HOLD, reason="look at it")
        if text.startswith("replace"):
            return Verdict(action=Action.REPLACE, content=replace(submission.content, text="replaced"))
        return None
