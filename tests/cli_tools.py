"""Running the command line in tests: within the process where that is enough, else as a process of its own."""

from __future__ import annotations

import atexit
import csv
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from influence_cli.cli import run

GINF = [sys.executable, "-m", "influence_cli"]
ALL_METHODS = "first-koh,first,second,second-full,newton,rif"


def environment(**changes: str | None) -> dict[str, str]:
    """The environment without anything that steers ginf or its output, and with these changes (None: without)."""
    steering = ("GINF", "PYTHONIO", "PYTHONUTF8", "PYTHONUNBUFFERED", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(steering)}
    kept |= {"PYTHONPATH": str(Path(__file__).parent.parent)}
    return {key: value for key, value in (kept | changes).items() if value is not None}


@cache
def preloaded() -> list[str]:
    """What ``GINF`` is, but forked from a process that has imported the package: see ``preloaded.py``."""
    here, place = Path(__file__).parent, Path(tempfile.mkdtemp(prefix="ginf-tests-")) / "socket"
    server = subprocess.Popen([sys.executable, here / "preloaded.py", place], stdin=subprocess.PIPE, env=environment())
    atexit.register(server.communicate)  # the end of its input is its end
    wait_for(lambda: place.exists() or server.poll() is not None)
    return [sys.executable, "-IS", str(here / "preloaded_client.py"), str(place)]


def ginf(*arguments: str, cwd: Path, stdin: str | None = None, **changes: str | None) -> subprocess.CompletedProcess:
    """One command as a process, in a folder; keyword arguments change its environment."""
    started = any(name.startswith(("LC_", "LANG", "PYTHON")) for name in changes)  # these steer the interpreter's start
    return subprocess.run(
        [*(GINF if started else preloaded()), *arguments],
        cwd=cwd,
        env=environment(**changes),
        input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=60,
    )


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    """Until it holds, or an AssertionError."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def train(data: str, path: Path, *options: str) -> str:
    """A model file, made within the process; its path."""
    assert run(["train", "--data", data, "-o", str(path), "--quiet", *options]) == 0
    return str(path)


def rows_of(text: str) -> list[dict[str, str]]:
    """CSV output as records of text."""
    return list(csv.DictReader(io.StringIO(text)))


def values_of(text: str, key: str) -> np.ndarray:
    """One column of CSV output as numbers."""
    return np.array([float(row[key]) for row in rows_of(text)])


def leftovers(folder: Path) -> list[str]:
    """Names of temporary files that a command left behind."""
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def save_blobs(path: Path, *, classes: int = 3, rows: int = 60, test: int = 12, seed: int = 0) -> str:
    """A small classification problem, with a split of its own, as .npz."""
    X, y = _blobs(classes, rows + test, seed)
    np.savez(path, X_train=X[:rows], y_train=y[:rows], X_test=X[rows:], y_test=y[rows:])
    return str(path)


def _blobs(classes: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    return rng.normal(size=(classes, 3))[y] + rng.normal(size=(rows, 3)), y


def save_regression(path: Path, *, rows: int = 50, test: int = 8, seed: int = 0) -> str:
    """A small regression problem, with a split of its own, as .npz."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows + test, 4)) + 0.5
    y = X @ [1.0, -2.0, 0.5, 0.0] + 3.0 + rng.normal(size=rows + test)
    np.savez(path, X_train=X[:rows], y_train=y[:rows], X_test=X[rows:], y_test=y[rows:])
    return str(path)
