"""The SAM template of the starter folder."""

from __future__ import annotations

from pathlib import Path

from cfnlint.api import lint
from cfnlint.config import ManualArgs

TEMPLATE = Path(__file__).parents[3] / "integrations" / "lambda_kit" / "template.yaml"


def complaints(text: str) -> list[str]:
    """What the command `cfn-lint` would say."""
    return [str(match) for match in lint(text, config=ManualArgs(regions=["us-east-1"]))]


def test_cfn_lint_accepts_the_template_and_would_see_a_mistake() -> None:
    text = TEMPLATE.read_text()
    assert complaints(text) == []
    assert complaints(text.replace("FunctionUrlAuthType: NONE", "FunctionUrlAuthType: OPEN"))
