"""`--data DIR` chooses the instance, wherever it stands on the command line."""

from __future__ import annotations

import os
from importlib import import_module

import pytest
from django.core.management import call_command

from manage import take_data_option


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA", "before")


@pytest.mark.parametrize(
    "arguments",
    [
        ["manage.py", "--data", "x", "up", "--port", "1"],
        ["manage.py", "up", "--port", "1", "--data", "x"],
        ["manage.py", "up", "--data=x", "--port", "1"],
    ],
)
def test_the_data_option_works_anywhere(arguments: list[str]) -> None:
    assert take_data_option(arguments) == ["manage.py", "up", "--port", "1"]
    assert os.environ["DATA"] == "x"


def test_without_the_option_nothing_changes() -> None:
    assert take_data_option(["manage.py", "check"]) == ["manage.py", "check"]
    assert os.environ["DATA"] == "before"


@pytest.mark.parametrize("arguments", [["manage.py", "up", "--data"], ["manage.py", "up", "--data="]])
def test_an_option_without_a_folder_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit, match="--data needs a folder"):
        take_data_option(arguments)


@pytest.mark.django_db
def test_djangos_checks_find_nothing() -> None:
    import_module("chatsite.urls")  # and with it the admin pages
    call_command("check", "--fail-level", "WARNING")
