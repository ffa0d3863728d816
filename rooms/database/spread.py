"""Turns many rows into the parameters of one statement; a column with one value in all rows is sent once."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """The parts of a statement that inserts many rows: an expression for each column, a FROM item, the parameters."""

    selected: dict[str, str]  # SQL by column
    source: str  # the FROM item; `new.place` is the row's number
    values: list[Any]  # the parameters of `selected`, then of `source`


def spread(columns: Mapping[str, Sequence[Any]], types: Mapping[str, str], *, many: Collection[str] = ()) -> Spread:
    """Return the columns of at least one row as parameters. Columns in `many` are always sent for each row."""
    selected: dict[str, str] = {}
    once: list[Any] = []
    each: dict[str, Sequence[Any]] = {}
    for name, column in columns.items():
        if name not in many and column.count(column[0]) == len(column):
            selected[name] = f"%b::{types[name]}"
            once.append(column[0])
        else:
            selected[name] = f'new."{name}"'
            each[name] = column
    arrays = ", ".join(f"%b::{types[name]}[]" for name in each) or "array[1]"
    names = ", ".join(f'"{name}"' for name in each) or "one"
    return Spread(selected, f"unnest({arrays}) WITH ORDINALITY AS new ({names}, place)", [*once, *each.values()])
