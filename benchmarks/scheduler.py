"""Passes on two workers of a dask scheduler on this machine: the bits of one machine, what a pass costs beside its
work, and workers that are killed.

    python benchmarks/scheduler.py [--rows 1000000] [--columns 50] [--kills 10] [--results FILE.md]

Every command runs once with the rows read in every pass here, and once on the workers.  The overhead of a pass is the
time of one whose work is nothing.  Then a worker is killed (SIGKILL) at a random moment of a command, and another one
joins, so many times for each; the result must have the same bits.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, sleep

import numpy as np
from harness import environment, options
from processes import ginf

sys.path.append(str(Path(__file__).parent.parent / "tests"))
from crew import Crew, same_bits

from influence_cli.core.rows.streamed_design import StreamedDesign
from influence_cli.data.load import load
from influence_cli.engines.dask import connected

COMMANDS = {
    "train": (),
    "influence": ("--group", "random:1%x20", "--test", "0:3", "--method", "first,second,newton"),
    "groundtruth": ("--group", "random:1%x8", "--test", "0:3"),
    "select": ("--test", "2", "--size", "0.1%"),
}
PASSES = 40


def asked(command: str, folder: Path, name: str) -> list[str]:
    given = ["--data", str(folder / "d.npz")] if command == "train" else ["--model", str(folder / f"train-{name}.h5")]
    out = str(folder / f"{command}-{name}.h5")
    return [command, *given, *COMMANDS[command], "--force", "--quiet", "--format", "csv", "-o", out]


def nothing(rows: slice) -> int:
    return rows.start


def no_sum(span: Sequence[slice], out: np.ndarray) -> None:
    """A sum of nothing."""


def overhead(address: str, data: Path) -> dict[str, list[float]]:
    """Seconds of passes that do nothing with their blocks: of pieces in order, and of sums of 51 x 8 numbers."""
    taken: dict[str, list[float]] = {"pieces": [], "sums": []}
    with connected(address):
        design = StreamedDesign(load(str(data), task="classification").X_train, True)
        blocks = list(design.blocks(8))
        passes = {
            "pieces": lambda: list(design.each(nothing, 1)),
            "sums": lambda: design.total(no_sum, blocks, (51, 8), design.operations(8)),
        }
        for _ in range(PASSES):
            for name, one in passes.items():
                start = perf_counter()
                one()
                taken[name].append(perf_counter() - start)
    return taken


def killed(crew: Crew, command: str, folder: Path, seconds: float, draw: random.Random) -> None:
    """Raises AssertionError where a command whose worker is killed on the way fails, or has other bits."""
    far = [*asked(command, folder, "far"), "--scheduler", crew.address]
    with subprocess.Popen([sys.executable, "-m", "influence_cli", *far], stdout=subprocess.DEVNULL) as run:
        sleep(draw.uniform(0.2, 0.9) * seconds)
        victim = next(one for one in crew.workers.values() if one.poll() is None)
        victim.kill()
        victim.wait()
        crew.reinforce()
        assert run.wait() == 0, command
    same_bits(folder / f"{command}-own.h5", folder / f"{command}-far.h5")


def main() -> int:
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--columns", type=int, default=50)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--memory", default="600MB", help="of the commands that run here")
    parser.add_argument("--results", type=Path, help="Markdown file to write")
    chosen = parser.parse_args()
    lines = ["| command | here, s | on two workers, s | bits | killed workers, same bits |", "|---|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as place:
        folder, rng, draw = Path(place), np.random.default_rng(0), random.Random(0)
        X = rng.normal(size=(chosen.rows, chosen.columns))
        y = (X @ rng.normal(size=chosen.columns) + rng.logistic(size=chosen.rows) > 0).astype(np.int64)
        np.savez(folder / "d.npz", X=X, y=y)
        del X, y
        crew = Crew(folder, 2)
        try:
            empty = overhead(crew.address, folder / "d.npz")
            for command in COMMANDS:
                here = ginf(*asked(command, folder, "own"), "--memory", chosen.memory, "--threads", "2")
                far = ginf(*asked(command, folder, "far"), "--memory", chosen.memory, "--scheduler", crew.address)
                same_bits(folder / f"{command}-own.h5", folder / f"{command}-far.h5")
                kills = 0 if command == "select" else chosen.kills
                for _ in range(kills):
                    killed(crew, command, folder, far.seconds, draw)
                lines.append(f"| {command} | {here.seconds:.2f} | {far.seconds:.2f} | same | {kills or '-'} |")
                print(lines[-1], flush=True)
        finally:
            crew.close()
    head = f"# {chosen.rows:,} rows x {chosen.columns} columns on two workers"
    beside = [
        f"An empty pass of {name}: {1e3 * min(one):.1f} ms at the least, {1e3 * median(one):.1f} in the median of"
        f" {len(one)}."
        for name, one in empty.items()
    ]
    text = "\n".join([head, "", environment(), "", *beside, "", *lines])
    print(text)
    if chosen.results:
        chosen.results.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
