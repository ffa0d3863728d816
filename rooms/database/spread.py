"""Many rows as the parameters of one statement: a column that is the same in all of them travels once, as most do."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec


class Spread(msgspec.Struct, frozen=True):
    """What a statement selects for each column, from where, and its parameters, which are in this order."""

    selected: dict[str, str]  # SQL by column
    source: str  # the FROM item; `new.place` is the row's number
    values: list[Any]


def spread(columns: Mapping[str, Sequence[Any]], types: Mapping[str, str], *, many: Collection[str] = ()) -> Spread:
    """Return columns of at least one row as parameters. Those in `many` come from `new` in any case."""
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
