"""Tests of library internals that we rely on share a sentence that says what to do, and a search for private parts."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def hint(module: str, part: object) -> str:
    """Return what to do when a new release of a library breaks what we rely on."""
    return (
        f"{part}: a new release changed this part of a library that {module} relies on. Adapt that module, which is "
        "the only one that names such parts, to the new release, or keep the release out by its upper bound in "
        "pyproject.toml. Then run the tests of that folder and tests/conformance/test_handshakes.py, and raise the "
        "bound once they pass."
    )


def missing(methods: Mapping[type, tuple[str, ...]]) -> list[str]:
    """Return those methods that a class does not have."""
    return [
        f"{kind.__module__}.{kind.__name__}.{name}"
        for kind, names in methods.items()
        for name in names
        if not callable(getattr(kind, name, None))
    ]


def overridden_by_chance(kind: type, ours: str) -> list[str]:
    """Return private names of our classes that a library's base class has too, although no module of ours means it."""
    found = []
    for base in kind.__mro__:
        if base.__module__.startswith(ours) and not base.__module__.endswith("library_internals"):
            theirs = [other for other in base.__mro__ if not other.__module__.startswith(("chatsite", "builtins"))]
            names = [name for name in vars(base) if name.startswith("_") and not name.startswith("__")]
            found += [f"{base.__name__}.{name}" for name in names if any(name in vars(other) for other in theirs)]
    return found


def private_uses(folder: Path) -> Iterator[str]:
    """Yield each use of a private name that no module of the folder defines, library_internals apart."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("**/*.py"))}
    trees = {path: tree for path, tree in trees.items() if path.stem != "library_internals"}
    defined = {name for tree in trees.values() for name in _defined(tree)}
    for path, tree in trees.items():
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            names += [node.attr] if isinstance(node, ast.Attribute) else []
            for name in names:
                if name.startswith("_") and not name.startswith("__") and name not in defined:
                    yield f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}: {name}"


def _defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and ast.unparse(node.value) == "self":
            yield node.attr


def parameters(function: object) -> list[str]:
    """Return the names of a function's parameters."""
    return list(inspect.signature(function).parameters)  # type: ignore[arg-type]
