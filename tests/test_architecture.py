"""docs/architecture.md names what exists, and the house is as it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "architecture.md"
APPS = ("rooms", "integrations", "moderation", "chatsite")
MAX_MODULES = 15
# Named as the place of what is not built yet.
PLANNED = {"rooms/reactions/"}


def packages(app: str) -> list[Path]:
    return [path.parent for path in sorted((ROOT / app).rglob("__init__.py")) if "migrations" not in path.parts]


@pytest.mark.parametrize("document", sorted((ROOT / "docs").glob("*.md")), ids=lambda path: path.name)
def test_every_path_in_the_documents_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:rooms|integrations|moderation|chatsite|tests|templates|static)/[\w./-]*)`", text))
    assert {path for path in named - PLANNED if not (ROOT / path).exists()} == set()


def test_every_module_in_the_documents_exists() -> None:
    for document in (ROOT / "docs").glob("*.md"):
        for name in re.findall(r"`((?:rooms|integrations|moderation|chatsite)(?:\.[a-z_]+)+)", document.read_text()):
            path = ROOT.joinpath(*name.split("."))
            holders = [path, path.parent]  # the module itself, or a function in it
            assert any(one.is_dir() or one.with_suffix(".py").exists() for one in holders), f"{document.name}: {name}"


@pytest.mark.parametrize("app", APPS)
def test_every_package_of_an_app_is_on_the_map(app: str) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    start = text.index(f"| **{app}**")
    end = text.find("| **", start + 5)
    section = text[start : end if end > 0 else text.index("The folders of tests mirror")]
    named = {name for cell in re.findall(r"`([\w./]+)`", section) for name in [cell.strip("/").split("/")[0]]}
    existing = {path.name for path in packages(app) if path.parent == ROOT / app}
    assert existing - named - {"formats", "templatetags"} == set()  # Django finds these two by their names


def test_every_file_named_beside_its_app_exists() -> None:
    """The first table names most files without their app: the row says it."""
    app = ""
    for row in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"\| \*\*(\w+)\*\*", row):
            app = match[1]
        if row.startswith("Tests mirror") or row.startswith("The folders of tests"):
            break
        if row.startswith("| ") and app:
            package, names = "", re.findall(r"`([\w/]+/|[\w/]+\.py)`", row)
            for name in names:
                package = name if name.endswith("/") else package
                places = [ROOT / app / name, ROOT / app / package / name, ROOT / name]
                assert any(place.exists() for place in places), f"{app}: {name}"


def test_no_folder_holds_more_modules_than_one_can_look_over() -> None:
    counts = {
        str(package.relative_to(ROOT)): len([path for path in package.glob("*.py") if path.name != "__init__.py"])
        for app in APPS
        for package in packages(app)
    }
    assert {name: count for name, count in counts.items() if count > MAX_MODULES} == {}


def test_every_package_says_what_it_holds() -> None:
    silent = [
        str(package.relative_to(ROOT))
        for app in APPS
        for package in packages(app)
        if package.parent != ROOT and package.name not in ("management", "commands", "templatetags")
        if not (package / "__init__.py").read_text(encoding="utf-8").startswith('"""')
    ]
    assert silent == []
