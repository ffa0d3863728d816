"""The content of a shadow rule's page: how often it agrees with its main rule, and the differences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from integrations.admin.rules.overview import share, success_tone
from integrations.admin.tones import VERDICT_TONES
from integrations.models import IntegrationRule
from integrations.monitoring import comparisons
from integrations.monitoring.comparisons import Comparison
from rooms.admin.journey import Tone
from rooms.admin.waterfall import Fact

NO_VERDICT = "no verdict"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """The number of messages with one pair of verdicts."""

    count: int
    percent: str
    tone: str


@dataclass(frozen=True, kw_only=True)
class PairRow:
    """A row of the table of pairs: one verdict of the main rule."""

    label: str
    cells: Sequence[Cell]


def comparison_context(shadow: IntegrationRule) -> dict[str, Any]:
    """Return the variables of the template."""
    found = comparisons.compare(shadow)
    actions = [*VERDICT_TONES, comparisons.NOTHING]
    present = [action for action in actions if any(action in pair for pair in found.actions)]
    return {
        "main": shadow.shadow_of,
        "comparison": found,
        "most": comparisons.COMPARED,
        "facts": _facts(found),
        "heads": [action or NO_VERDICT for action in present],
        "lines": [_line(found, action, present) for action in present],
        "differences": found.differences,
    }


def _facts(found: Comparison) -> list[Fact]:
    differing = found.compared - found.unanswered - found.agreed
    return [
        Fact(label="the same verdict", value=share(found.agreement), tone=success_tone(found.agreement)),
        Fact(label="messages compared", value=f"{found.compared:,}"),
        Fact(label="differing", value=f"{differing:,}", tone=Tone.WAITING if differing else Tone.GOOD),
        Fact(label="without a verdict of one", value=f"{found.unanswered:,}"),
        Fact(label="both replaced, differently", value=f"{found.rewritten:,}"),
    ]


def _line(found: Comparison, main: str, present: Sequence[str]) -> PairRow:
    cells = []
    for shadow in present:
        count = found.actions.get((main, shadow), 0)
        tone = "none" if not count else "same" if main == shadow else "other"
        cells.append(Cell(count=count, percent=share(count / found.compared) if found.compared else "", tone=tone))
    return PairRow(label=main or NO_VERDICT, cells=cells)
