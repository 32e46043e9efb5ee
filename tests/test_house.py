"""The house rules that a reader feels first: no file or function is longer than one person holds in mind."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "influence_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 350
MOST_FUNCTION_LINES = 60
MOST_PARAMETERS = 7
INTERFACES = {"api", "commands"}
"""Folders whose parameters are the user's keywords and options."""


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}


def functions() -> Iterator[tuple[Path, str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of the package, with its file, and under its path and name."""
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield path, f"{path.relative_to(PACKAGE).as_posix()} {node.name}", node


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "command" for mark in function.decorator_list)


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    taken = function.args
    extra = [one for one in (taken.vararg, taken.kwarg) if one is not None]
    every = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs, *extra]
    return [one for one in every if one.arg not in ("self", "cls")]


def test_a_file_is_one_thing():
    counts = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert not {path: count for path, count in counts.items() if count > MOST_LINES}, "split it by meaning"


def test_a_function_is_one_thought():
    found = set()
    for _, name, function in functions():
        first = function.body[0].lineno if is_command(function) else function.lineno  # options are not counted
        if (function.end_lineno or first) - first + 1 > MOST_FUNCTION_LINES:
            found.add(name)
    assert not found


def test_a_function_takes_few_parameters():
    inside = [each for each in functions() if each[0].relative_to(PACKAGE).parts[0] not in INTERFACES]
    wide = {name for _, name, function in inside if len(parameters(function)) > MOST_PARAMETERS}
    assert not wide, "a dataclass holds what belongs together"


def test_every_function_is_annotated():
    for _, name, function in functions():
        bare = [one.arg for one in parameters(function) if one.annotation is None]
        assert not bare, f"{name}: {bare}"
        assert function.returns is not None or function.name == "__init__", f"{name}: no type of its result"


def test_imports_are_absolute():
    for path, tree in trees().items():
        for node in ast.walk(tree):
            assert not isinstance(node, ast.ImportFrom) or not node.level, f"{path}:{node.lineno} imports relatively"


def test_no_text_points_to_a_document_that_is_not_here():
    named = [path for path in FILES if "DESIGN" in path.read_text(encoding="utf-8")]
    assert not named, "docs/design.md is where docstrings point"
