"""The house rules that a reader feels first: no file or function is longer than one person holds in mind."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "influence_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 350
MOST_FUNCTION_LINES = 60
MOST_PARAMETERS = 7
INTERFACES = {"api", "commands"}
"""Folders whose parameters are the user's keywords and options."""

LONG = {"commands/groundtruth.py groundtruth", "commands/influence.py influence", "commands/select/__init__.py select"}
"""Functions that break the rule still: shorten the set, never lengthen it."""


@pytest.fixture(params=FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def path(request: pytest.FixtureRequest) -> Path:
    return request.param


def functions(path: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of the file, under its path and name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{path.relative_to(PACKAGE).as_posix()} {node.name}", node


def is_command(function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(mark, ast.Name) and mark.id == "command" for mark in function.decorator_list)


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.arg]:
    taken = function.args
    extra = [one for one in (taken.vararg, taken.kwarg) if one is not None]
    every = [*taken.posonlyargs, *taken.args, *taken.kwonlyargs, *extra]
    return [one for one in every if one.arg not in ("self", "cls")]


def test_a_file_is_one_thing(path):
    count = len(path.read_text(encoding="utf-8").splitlines())
    assert count <= MOST_LINES, f"{count} lines: split it by meaning"


def test_a_function_is_one_thought(path):
    for name, function in functions(path):
        first = function.body[0].lineno if is_command(function) else function.lineno  # options are not counted
        count = (function.end_lineno or first) - first + 1
        assert count <= MOST_FUNCTION_LINES or name in LONG, f"{name}: {count} lines"


def test_a_function_takes_few_parameters(path):
    if path.relative_to(PACKAGE).parts[0] in INTERFACES:
        return
    for name, function in functions(path):
        count = len(parameters(function))
        assert count <= MOST_PARAMETERS, f"{name}: {count} parameters: a dataclass holds what belongs"


def test_every_function_is_annotated(path):
    for name, function in functions(path):
        bare = [one.arg for one in parameters(function) if one.annotation is None]
        assert not bare, f"{name}: {bare}"
        assert function.returns is not None or function.name == "__init__", f"{name}: no type of its result"


def test_imports_are_absolute(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        assert not isinstance(node, ast.ImportFrom) or not node.level, f"line {node.lineno}"


def test_no_text_points_to_a_document_that_is_not_here(path):
    assert "DESIGN" not in path.read_text(encoding="utf-8"), "docs/design.md is where docstrings point"
