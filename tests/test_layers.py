"""The architecture as a test: dependencies point downwards, and each heavy library has one user."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "influence_cli"

BELOW = {
    "errors": set(),
    "results": set(),
    "core": {"errors"},
    "data": {"errors"},
    "conditions": {"errors"},
    "groups": {"conditions", "errors"},
    "drawing": {"conditions", "groups", "errors"},
    "testrows": {"groups", "errors"},
    "artifacts": {"data", "results", "errors", "__init__"},
    "modeling": {"core", "data", "errors"},
    "weighting": {"data", "errors"},
    "sklearn_models": {"core", "data", "modeling", "weighting", "errors"},
    "foreign": {"data", "modeling", "sklearn_models", "weighting", "errors"},
    "linking": {"data", "modeling", "weighting", "foreign"},
    "named_groups": {"data", "drawing", "groups", "errors"},
    "api": {
        *("errors", "results", "core", "data", "drawing", "modeling", "weighting"),
        *("analysis", "named_groups", "sklearn_models"),
    },
    "analysis": {"core", "drawing", "modeling", "results", "errors"},
    "agreement": {"core", "results", "errors"},
    "report": {"errors"},
    "plots": {"results", "errors"},
    "plots_select": {"plots", "errors"},
    "commands": {
        *("errors", "results", "core", "data", "groups", "drawing", "testrows"),
        *("artifacts", "modeling", "weighting", "foreign", "linking", "sklearn_models", "analysis", "agreement"),
        *("report", "plots", "plots_select"),
    },
    "streams": set(),
    "cli": {"commands", "streams", "errors", "__init__"},
    "__main__": {"cli"},
    "__init__": {"api"},
}
OWNERS = {
    "h5py": {"artifacts", "data"},
    "polars": {"data", "results"},
    "rich": {"report"},
    "matplotlib": {"plots", "plots_select"},
    "typer": {"cli", "commands"},
    "sklearn": {"analysis", "data", "drawing", "sklearn_models"},
    "skops": {"sklearn_models"},
    "pandas": {"data", "results"},
    "threadpoolctl": {"core", "commands", "drawing", "sklearn_models"},
}
CORE_USES = {
    *("numpy", "scipy", "__future__", "abc", "collections", "dataclasses", "typing", "time", "os", "math"),
    *("copy", "itertools", "functools", "threading", "concurrent", "threadpoolctl"),
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


def layer(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_dependencies_point_downwards(path):
    here = layer(path)
    assert here in BELOW, f"{here} is a new layer: say in this test what stands below it"
    for name in imports(path):
        if name[0] == "influence_cli":
            there = name[1] if len(name) > 1 else "__init__"
            if there.startswith("__version__"):
                there = "__init__"
            assert there == here or there in BELOW[here], f"{here} must not import {there}"
        else:
            assert here in OWNERS.get(name[0], {here}), f"{name[0]} has its users: {OWNERS[name[0]]}"
            if here == "core":
                assert name[0] in CORE_USES, f"core must not import {name[0]}"


def test_the_graph_has_no_cycle():
    done: set[str] = set()
    while len(done) < len(BELOW):
        ready = {name for name, below in BELOW.items() if below <= done} - done
        assert ready, f"a cycle among {set(BELOW) - done}"
        done |= ready


def test_the_check_sees_relative_and_late_imports(tmp_path, monkeypatch):
    package = tmp_path / "influence_cli"
    (package / "core").mkdir(parents=True)
    file = package / "core" / "x.py"
    file.write_text("def f():\n    from ..commands import train\n    from .. import report\n    import h5py.x\n")
    monkeypatch.setattr(f"{__name__}.PACKAGE", package)
    assert {("influence_cli", "commands"), ("influence_cli", "report"), ("h5py", "x")} <= imports(file)
