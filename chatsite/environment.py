"""Typed readers of environment variables, which refuse values that make no sense.

Each reader registers what it reads, so that docs/settings.md can be checked against the code.
A value may also come from a file: `SECRET_KEY_FILE=/run/secrets/key` is read where `SECRET_KEY` is not set.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One documented environment variable."""

    name: str
    default: str
    doc: str


REGISTERED: dict[str, Setting] = {}


def text(name: str, default: str, doc: str) -> str:
    """Return the variable's text."""
    REGISTERED[name] = Setting(name=name, default=default, doc=doc)
    value = os.environ.get(name)
    if value is not None:
        return value
    if path := os.environ.get(f"{name}_FILE"):
        return Path(path).read_text(encoding="utf-8").strip()
    return default


def integer(name: str, default: int, doc: str, *, minimum: int = 0, maximum: int = 2**31) -> int:
    """Return a whole number between minimum and maximum. Raises ImproperlyConfigured."""
    value = text(name, str(default), doc)
    try:
        number = int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}.") from None
    if not minimum <= number <= maximum:
        raise ImproperlyConfigured(f"{name} must be between {minimum} and {maximum}, not {number}.")
    return number


def seconds(name: str, default: float, doc: str, *, minimum: float = 0.0, maximum: float = 1e9) -> float:
    """Return a duration in seconds between minimum and maximum. Raises ImproperlyConfigured."""
    value = text(name, f"{default:.12g}", doc)
    try:
        number = float(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a number of seconds, not {value!r}.") from None
    if not minimum <= number <= maximum:
        raise ImproperlyConfigured(f"{name} must be between {minimum:g} and {maximum:g}, not {number:g}.")
    return number


def flag(name: str, doc: str, *, default: bool) -> bool:
    """Return a truth value written as 1/0, true/false, yes/no or on/off. Raises ImproperlyConfigured."""
    value = text(name, "1" if default else "0", doc).lower()
    if value in {"1", "true", "yes", "on"}:
        return True
    if value in {"0", "false", "no", "off", ""}:
        return False
    raise ImproperlyConfigured(f"{name} must be 1 or 0, not {value!r}.")


def listing(name: str, default: str, doc: str) -> list[str]:
    """Return the comma-separated values, without blanks."""
    return [part.strip() for part in text(name, default, doc).split(",") if part.strip()]
