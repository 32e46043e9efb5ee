"""A real dask scheduler with workers, and the bits of two results: for tests and benchmarks of passes on workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import h5py
import numpy as np


class Crew:
    """A scheduler and its workers as processes of their own, on this machine alone."""

    def __init__(self, folder: Path, workers: int):
        self._folder, file = folder, folder / "scheduler.json"
        self.workers: dict[int, subprocess.Popen] = {}
        self.scheduler = self._start("scheduler", "--port", "0", "--scheduler-file", str(file))
        _until(lambda: file.exists() and file.read_text(encoding="utf-8").endswith("}"))
        self.address = json.loads(file.read_text(encoding="utf-8"))["address"]
        for _ in range(workers):
            self.reinforce()
        if workers:
            import distributed

            with distributed.Client(self.address, set_as_default=False) as client:
                client.wait_for_workers(workers, timeout=60)

    def reinforce(self) -> None:
        place = str(self._folder / f"w{len(self.workers)}")
        worker = self._start("worker", self.address, "--nthreads", "1", "--no-nanny", "--local-directory", place)
        self.workers[worker.pid] = worker

    def _start(self, *arguments: str) -> subprocess.Popen:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        command = [sys.executable, "-m", "dask", *arguments, "--host", "127.0.0.1", "--no-dashboard"]
        with (self._folder / f"{arguments[0]}.log").open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, env=environment)

    def close(self) -> None:
        for process in (*self.workers.values(), self.scheduler):
            process.kill()
            process.wait()


def _until(true) -> None:
    end = monotonic() + 60
    while not true():
        assert monotonic() < end, "a process of dask did not start"
        sleep(0.02)


def figures(path: Path) -> dict[str, np.ndarray]:
    found = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, one: found.update({name: one[()]}) if isinstance(one, h5py.Dataset) else None)
    return {name: one for name, one in found.items() if "seconds" not in name and one.dtype.kind in "fiub"}


def same_bits(one: Path, other: Path) -> None:
    first, second = figures(one), figures(other)
    assert set(first) - {"gradients/residuals"} == set(second) - {"gradients/residuals"}
    for name in set(first) & set(second):
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
