"""What is declared in one place is documented, and what is documented exists."""

from __future__ import annotations

import re
from pathlib import Path

from chatsite.environment import REGISTERED
from rooms.errors import Code

ROOT = Path(__file__).resolve().parents[2]


def test_every_setting_is_in_its_table_with_its_default() -> None:
    text = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (.*?) \|", text, re.MULTILINE))

    assert sorted(rows) == sorted(REGISTERED)
    computed = {"PORT", "PUBLIC_URL", "CSRF_TRUSTED_ORIGINS", "WEBHOOK_ALLOW_PRIVATE"}
    for name, setting in REGISTERED.items():
        if name not in computed and setting.default:
            assert rows[name] == f"`{setting.default}`", name


def test_every_error_code_is_explained() -> None:
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    documented: set[int] = set()
    for row in re.findall(r"^\| ([\d, to]+) \|", text, re.MULTILINE):
        numbers = [int(number) for number in re.findall(r"\d{5}", row)]
        documented |= set(range(numbers[0], numbers[-1] + 1)) if " to " in row else set(numbers)

    assert {int(code) for code in Code} <= documented


def test_links_between_the_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)", document.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name}: {target}"
