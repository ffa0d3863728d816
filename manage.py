#!/usr/bin/env python
"""Django's command line for this project; `--data DIR` anywhere names the instance to work on."""

from __future__ import annotations

import os
import sys


def take_data_option(arguments: list[str]) -> list[str]:
    """Return the arguments without `--data DIR`: it goes to the environment, before settings are read."""
    remaining: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument == "--data":
            value = next(rest, "")
        elif argument.startswith("--data="):
            value = argument.removeprefix("--data=")
        else:
            remaining.append(argument)
            continue
        if not value:
            sys.exit("manage.py: --data needs a folder, such as --data .data")
        os.environ["DATA"] = value
    return remaining


def main() -> None:
    """Run the command that the arguments name."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")
    arguments = take_data_option(sys.argv)
    if arguments[1:2] == ["up"]:
        # It starts processes and needs nothing of Django: not loading it halves the time to a running server.
        from chatsite.up.command_line import main as up

        sys.exit(up(arguments[2:]))
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is missing in this Python. `make run` installs it; then use .venv/bin/python.")
    try:
        execute_from_command_line(arguments)
    except ImproperlyConfigured as error:
        sys.exit(explain(error))


def explain(error: Exception) -> str:
    """Return what a person can do about settings that do not work."""
    if "supply the ENGINE value" in str(error):
        folder = os.environ.get("DATA", ".data")
        return (
            f"No instance runs on {folder}. Start one with `make run DATA={folder}`, name another with --data DIR, "
            "or set DATABASE_URL."
        )
    return f"{error}"


if __name__ == "__main__":
    main()
