"""What every benchmark shares: the problem, timing side by side, the environment, one way to print.

Machines are noisy, so what counts is the ratio of two things measured in turn in one run; medians are reported.  Peak
memory is the whole process's, read after our own part has run and before the peer's does.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np
import scipy
from threadpoolctl import threadpool_info

from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.glm import Glm
from influence_cli.data.dataset import Dataset
from influence_cli.data.load import load

PAUSE = 0.2
"""Seconds."""


def options(description: str | None) -> argparse.ArgumentParser:
    """The arguments that every script takes."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--data", default="digits", help="as ginf train --data; MNIST as a folder of its IDX files")
    parser.add_argument("--l2", type=float, default=1e-3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", help="also append the result to this file, one JSON object a line")
    return parser


def problem(chosen: argparse.Namespace) -> tuple[Dataset, Glm]:
    """The data and the logistic regression on it."""
    dataset = load(chosen.data, task="classification")
    classes = len(dataset.classes)
    family = Logistic() if classes == 2 else Softmax(classes)
    return dataset, Glm(dataset.X_train, dataset.y_train, family, l2=chosen.l2)


def seconds(work: Callable[[], Any]) -> float:
    start = perf_counter()
    work()
    return perf_counter() - start


def in_turn(repeats: int, **works: Callable[[], Any]) -> dict[str, float]:
    """Median seconds of each, run A B A B ... so that a machine that drifts drifts for all.

    In a pause before each, BLAS's threads end their waiting for more work, which keeps the processors busy.
    """
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            sleep(PAUSE)
            times[name].append(seconds(work))
    return {name: median(values) for name, values in times.items()}


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    scale = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


@dataclass
class Report:
    """Rows of one benchmark: what was measured beside what, the ratio, the target."""

    title: str
    arguments: argparse.Namespace
    rows: list[dict[str, Any]] = field(default_factory=list)

    def add(self, what: str, ours: float, peer: float, beside: str, target: str, unit: str = "s", **more: Any) -> None:
        """``ratio`` is peer / ours: how many times less ours takes."""
        self.rows.append(
            {"what": what, "ours": ours, "beside": beside, "peer": peer, "unit": unit, "ratio": peer / ours}
            | {"target": target, **more}
        )

    def memory(self, X: np.ndarray) -> None:
        """Call after our own part and before the peer's."""
        used = peak_bytes()
        self.rows.append(
            {"what": "peak memory of our part", "ours": used / 1e6, "beside": "X in float64", "peer": X.size * 8 / 1e6}
            | {"unit": "MB", "ratio": used / (X.size * 8), "target": "<= 3.5"}
        )

    def finish(self) -> None:
        print(self.title)
        print(f"  {environment()}")
        for row in self.rows:
            print(
                f"  {row['what']}: {row['ours']:.4g} {row['unit']}; {row['beside']}: {row['peer']:.4g} {row['unit']};"
                f" ratio {row['ratio']:.3g} (target {row['target']})"
            )
        if self.arguments.json:
            record = {"title": self.title, "environment": environment(), "arguments": vars(self.arguments)}
            with open(self.arguments.json, "a", encoding="utf-8") as file:  # noqa: PTH123
                file.write(json.dumps(record | {"rows": self.rows}) + "\n")


def environment() -> str:
    """Interpreter, libraries, processors, BLAS and its threads."""
    blas = next((pool for pool in threadpool_info() if pool["user_api"] == "blas"), {})
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"Python {platform.python_version()}, numpy {np.__version__}, scipy {scipy.__version__}, {cores} processors,"
        f" {blas.get('internal_api', 'no BLAS found')} {blas.get('version', '')},"
        f" {blas.get('num_threads', '?')} threads"
    )


__all__ = ["Report", "in_turn", "options", "peak_bytes", "problem", "seconds"]
