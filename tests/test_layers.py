"""The architecture as a test: dependencies point downwards, and each heavy library has one user."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "influence_cli"

# From the bottom up: a layer may import whatever stands above it in this list, and nothing below.
ORDER = (
    *("errors", "memory", "tabular", "results", "grammars", "core", "data", "engines", "artifacts", "models", "specs"),
    *("analysis", "present", "commands", "api", "process", "cli", "__main__"),
)
GRAMMARS = {"groups", "columns", "tests", "names", "lists", "files", "keys"}  # specs that know no data
SEPARATE = {
    "grammars": {"tabular", "results"},
    "core": {"grammars", "tabular", "results"},
    "data": {"grammars", "core", "tabular", "results"},
    "engines": {"grammars", "tabular", "results"},
    "artifacts": {"grammars"},
    "api": {"commands"},
    "process": set(ORDER) - {"process", "errors", "core"},
    "cli": {"api"},
}
"""Layers that stand above another one and must not import it all the same."""
OWNERS = {
    "h5py": {"artifacts", "data"},
    "polars": {"data", "tabular"},
    "rich": {"present"},
    "jinja2": {"present"},
    "matplotlib": {"present"},
    "typer": {"cli", "commands"},
    "sklearn": {"analysis", "data", "specs", "models"},
    "skops": {"models"},
    "pandas": {"data", "tabular"},
    "distributed": {"engines"},
    "cloudpickle": {"engines"},
    "threadpoolctl": {"engines", "core", "commands", "specs", "models"},
}
CORE_USES = {
    *("numpy", "scipy", "__future__", "abc", "collections", "dataclasses", "typing", "time", "os", "math"),
    *(
        "copy",
        "itertools",
        "functools",
        "threading",
        "concurrent",
        "contextlib",
        "contextvars",
        "enum",
        "threadpoolctl",
    ),
}


def imports(path: Path) -> set[tuple[str, ...]]:
    """Absolute dotted names that a file imports, anywhere in it."""
    own = path.relative_to(PACKAGE.parent).with_suffix("").parts
    package = own[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = (*base, *(node.module or "").split(".")) if node.module else base
            found |= {module if node.module else (*module, alias.name) for alias in node.names}
            if not node.module:
                continue
            found |= {(*module, alias.name) for alias in node.names if module == ("influence_cli",)}
    return found


def layer(parts: tuple[str, ...]) -> str:
    """The layer of a module, by its path below the package."""
    if parts[:1] == ("specs",) and len(parts) > 1 and parts[1] in GRAMMARS:
        return "grammars"
    return parts[0] if parts else "__init__"


def below(here: str) -> set[str]:
    """The layers that ``here`` may import."""
    return set(ORDER[: ORDER.index(here)]) - SEPARATE.get(here, set())


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_dependencies_point_downwards(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if parts == ("__init__",):
        assert {name for name in imports(path) if name[0] == "influence_cli"} == {("influence_cli", "api")}
        return
    here = layer(parts)
    assert here in ORDER, f"{here} is a new layer: say in this test where it stands"
    for name in imports(path):
        if name[0] == "influence_cli":
            there = layer(name[1:])
            if there in ("__version__", "__init__") or (parts[0] == "specs" and there == "specs"):
                continue
            assert there == here or there in below(here), f"{here} must not import {there}"
        else:
            assert parts[0] in OWNERS.get(name[0], {parts[0]}), f"{name[0]} has its users: {OWNERS[name[0]]}"
            if here == "core":
                assert name[0] in CORE_USES, f"core must not import {name[0]}"


def test_every_room_stands_in_the_order():
    rooms = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if not path.name.startswith("__pycache__")}
    assert rooms - {"__init__"} <= set(ORDER), "a new room: say in this test where it stands"


def test_the_check_sees_relative_and_late_imports(tmp_path, monkeypatch):
    package = tmp_path / "influence_cli"
    (package / "core").mkdir(parents=True)
    file = package / "core" / "x.py"
    file.write_text("def f():\n    from ..commands import train\n    from .. import report\n    import h5py.x\n")
    monkeypatch.setattr(f"{__name__}.PACKAGE", package)
    assert {("influence_cli", "commands"), ("influence_cli", "report"), ("h5py", "x")} <= imports(file)
