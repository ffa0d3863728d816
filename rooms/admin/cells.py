"""The cells of admin lists: columns of a line each, and the pieces of HTML that they show."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString


def column(
    description: str, show: Callable[[Any], Any], *, ordering: str | None = None, boolean: bool = False
) -> Callable[[Any, Any], Any]:
    """Return a column for the body of a model admin's class: `show` makes the cell of a row."""

    @admin.display(description=description, ordering=ordering, boolean=boolean)
    def cell(_admin: Any, row: Any) -> Any:
        return show(row)

    return cell


def moment_of(field: str, label: str) -> Callable[[Any], SafeString]:
    """Return a column for `list_display` that shows a time."""

    @admin.display(description=label)
    def column(row: Any) -> SafeString:
        return moment(getattr(row, field))

    return column


def badge(label: str, tone: str) -> SafeString:
    """Return a word in a coloured pill."""
    return format_html('<span class="badge {}">{}</span>', tone, label)


def quiet(text: str = "-") -> SafeString:
    """Return the dash of an empty cell, or another text in grey."""
    return format_html('<span class="quiet">{}</span>', text)


def said(text: str, note: str = "") -> SafeString:
    """Return foreign text, escaped and isolated: its bidi characters cannot turn the text around it."""
    return format_html('<bdi class="said" dir="auto">{}</bdi>{}', text, format_html(" <small>{}</small>", note))


def isolated(text: str) -> SafeString:
    """Return a name that somebody chose, escaped and isolated."""
    return format_html("<bdi>{}</bdi>", text)


def code(text: str) -> SafeString:
    """Return a pattern or other code, escaped and isolated."""
    return format_html("<code>{}</code>", isolated(text))


def shortened(text: str, limit: int) -> str:
    """Return at most so many characters of a text, with an ellipsis if some are left out."""
    return text[:limit] + ("…" if len(text) > limit else "")


def link(page: str, text: object, *keys: object, **query: str) -> SafeString:
    """Return a link to a page of the admin: `link("rooms_message_change", "hello", message.pk)`."""
    return format_html('<a href="{}">{}</a>', reverse(f"admin:{page}", args=keys, query=query or None), text)


def moment(at: datetime | None) -> SafeString:
    """Return a time of the current year without the year, in UTC, with the second."""
    if at is None:
        return quiet()
    at = at.astimezone(UTC)
    day = f"{at.day} {at:%b}" if at.year == datetime.now(UTC).year else f"{at.day} {at:%b %Y}"
    return format_html('<time datetime="{}">{}, {}</time>', at.isoformat(), day, f"{at:%H:%M:%S}")


def size(count: int) -> str:
    """Return a number of bytes in a readable unit."""
    if count < 1000:
        return f"{count} B"
    return f"{count / 1000:.1f} KB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"


def plural(number: int, noun: str) -> str:
    """Return `1 message`, `2 messages`, `2 deliveries`."""
    if number == 1:
        return f"1 {noun}"
    many = f"{noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{noun}s"
    return f"{number:,} {many}"
