"""The state of a message changes in one module: a walk through the code finds no other assignment."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LIFECYCLE = "rooms/log/lifecycle.py"
STATE = {"status", "serial", "created_serial", "awaiting", "deadline", "at_deadline", "published_at", "changed_at"}
STATE |= {"error_code"}
# Other apps have rows of their own (rules, deliveries) that also have a status or a time of change.
OF_MESSAGES = {"serial", "created_serial", "awaiting"}


def modules(*apps: str) -> Iterator[tuple[str, ast.Module]]:
    for app in apps:
        for path in sorted((ROOT / app).rglob("*.py")):
            if "migrations" not in path.parts:
                yield str(path.relative_to(ROOT)), ast.parse(path.read_text())


def targets_of(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.Assign(targets=targets):
            for target in targets:
                yield from target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            yield target


def assignments(tree: ast.Module, names: Collection[str] = STATE) -> Iterator[str]:
    for node in ast.walk(tree):
        for target in targets_of(node):
            if not isinstance(target, ast.Attribute) or target.attr not in names:
                continue
            if not (isinstance(target.value, ast.Name) and target.value.id == "self"):
                yield ast.unparse(target)


def test_only_the_lifecycle_assigns_the_state_of_a_message() -> None:
    found = {path: list(assignments(tree)) for path, tree in modules("rooms")}
    found |= {path: list(assignments(tree, OF_MESSAGES)) for path, tree in modules("moderation", "integrations")}
    assert {path for path, targets in found.items() if targets} == {LIFECYCLE}


def test_a_row_with_a_state_of_its_own_is_made_by_the_lifecycle_or_read_from_the_table() -> None:
    makers = {
        path
        for path, tree in modules("rooms", "moderation", "integrations", "chatsite")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Row"
    }
    assert makers == {LIFECYCLE, "rooms/log/rows.py"}


def test_the_tables_of_the_log_are_written_by_the_modules_that_are_known_for_it() -> None:
    """SQL and the ORM alike; `end_waits` moves a deadline, which rows in memory need not be read for."""
    sql = re.compile(r"(?:INSERT INTO|UPDATE|DELETE FROM) rooms_(message|room)\b", re.IGNORECASE)
    orm = re.compile(r"\b(?:Message|Room)\.objects\b.*\.(?:update|create|bulk_create|get_or_create|delete)\(")
    writers = {}
    for app in ("rooms", "moderation", "integrations", "chatsite"):
        for path in sorted((ROOT / app).rglob("*.py")):
            text = path.read_text()
            if "migrations" not in path.parts and (sql.search(text) or orm.search(text)):
                writers[str(path.relative_to(ROOT))] = sorted({match[0] for match in sql.finditer(text)})
    assert writers.pop("rooms/log/message_queries.py") == ["UPDATE rooms_message"]
    assert writers.pop("rooms/log/room_locks.py") == ["UPDATE rooms_room"]
    assert writers.pop("rooms/publishing/accept_queries.py") == ["INSERT INTO rooms_message"]
    assert writers.pop("rooms/review/deadline_queries.py") == ["UPDATE rooms_message"]
    # Rooms without a message: nothing of the log.
    assert writers.pop("rooms/occupancy/unused_rooms.py") == ["DELETE FROM rooms_room", "UPDATE rooms_room"]
    assert set(writers) <= {"rooms/log/directory.py", "chatsite/up/demo.py", "chatsite/management/commands/prepare.py"}


@pytest.mark.parametrize("text", ["row.status = 1", "row.serial, x = 1, 2", "row.serial: int = 3", "row.serial += 1"])
def test_the_walk_sees_every_kind_of_assignment(text: str) -> None:
    assert list(assignments(ast.parse(text)))
