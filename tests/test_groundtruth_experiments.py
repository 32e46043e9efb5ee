"""The paper's experiments as scripts: a small version of each runs through, and goes on where it stopped."""

from __future__ import annotations

import csv
import os
import subprocess
from pathlib import Path

import pytest
from cli_tools import preloaded

ROOT = Path(__file__).parent.parent
METHODS = {"first-koh", "first", "second", "second-full", "newton", "newton exact", "refined"}
SMALL = {"DRAWS": "4", "SIZES": "10% 36%", "COHERENT": "5%", "TESTS": "misclassified:2", "L2S": "1e-3"}


def environment(folder, body):
    """Where ``ginf`` is that shell script."""
    launcher = folder / "bin" / "ginf"
    launcher.parent.mkdir(exist_ok=True)
    launcher.write_text(f"#!/bin/sh\n{body}\n")
    launcher.chmod(0o755)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GINF")}
    return kept | SMALL | {"PATH": f"{launcher.parent}:{os.environ['PATH']}"}


def real(folder):
    return environment(folder, f'exec {" ".join(preloaded())} "$@"')


def recorded(folder):
    """A ``ginf`` that does nothing but note what it was asked for."""
    return environment(folder, f'echo "$@" >> {folder / "asked"}')


def script(name, *arguments, **settings):
    command = ["bash", str(ROOT / "benchmarks" / name), *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **settings)


def cells(table):
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert {row["method"] for row in rows} == METHODS
    assert all(row["pearson"] for row in rows)
    return {(row["kind"], row["size"]) for row in rows}


def asked(folder):
    """Each command's name and, of those that write a result, its file."""
    found = [line.split() for line in (folder / "asked").read_text().splitlines()]
    (folder / "asked").unlink()
    return [(words[0], Path(words[words.index("-o") + 1]).name if "-o" in words else "") for words in found]


def test_the_mnist_experiment_on_small_images(tmp_path):
    results = tmp_path / "results"
    done = script("experiment_mnist.sh", "sample_data/digits", results, env=real(tmp_path))
    assert done.returncode == 0, done.stderr
    here = results / "1e-3"
    found = cells(here / "table.csv")
    assert [kind for kind, _ in sorted(found)] == ["", "coherent", "coherent", "random", "random"]
    assert done.stdout == (here / "table.txt").read_text()
    assert all((here / name).stat().st_size > 1000 for name in ("figure1.svg", "figure2.svg"))
    assert "22 groups for each lambda of 1e-3" in done.stderr
    # cut off behind the first estimates: what is there stays, what is missing is made
    (here / "exact.h5").unlink()
    again = script("experiment_mnist.sh", "sample_data/digits", results, env=recorded(tmp_path))
    assert again.returncode == 0, again.stderr
    made = [("influence", "exact.h5"), ("groundtruth", "truth.h5"), *[("compare", "")] * 3]
    assert asked(tmp_path) == made
    assert "orders.h5 exists" in again.stderr


@pytest.mark.parametrize(
    ("name", "first", "estimates"),
    [("experiment_synthetic.sh", [], 3), ("experiment_mnist.sh", ["sample_data/digits"], 4)],
)
def test_a_folder_holds_one_experiment(name, first, estimates, tmp_path):
    results = tmp_path / "results"
    settings = recorded(tmp_path)
    assert script(name, *first, results, env=settings).returncode == 0
    commands = [command for command, _ in asked(tmp_path)]
    assert commands == ["train", *["influence"] * estimates, "groundtruth", *["compare"] * 3]
    other = script(name, *first, results, env=settings | {"DRAWS": "5"})
    assert other.returncode == 2
    assert "was begun with DRAWS=4 SIZES='10% 36%'" in other.stderr
    assert not (tmp_path / "asked").exists()


@pytest.mark.parametrize("name", ["experiment_synthetic.sh", "experiment_mnist.sh"])
def test_without_arguments_the_usage(name):
    done = script(name)
    assert done.returncode != 0
    assert f"usage: {ROOT / 'benchmarks' / name} " in done.stderr
