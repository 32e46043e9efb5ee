"""Runs that are ended from outside, and runs in surroundings that are not as they should be."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import h5py
import numpy as np
from cli_tools import GINF, environment, save_blobs

from fuzz.campaigns import make_artifacts, make_data
from fuzz.harness import Outcome, Tally, load_everything, verdict
from influence_cli.artifacts.lock import NEW_SECONDS

ENDS = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129, "SIGKILL": -9}
ALLOWED = 2.0
"""Seconds from the signal to the end of the process."""
SAVED = "-o o.h5 --force --quiet"
COMMANDS = {
    "train": f"train --data b.npz {SAVED}",
    "influence": f"influence --model m.h5 --group random:20%x40 --test 0:6 {SAVED}",
    "groundtruth": f"groundtruth --model m.h5 --group random:20%x1200 --test 0:3 {SAVED}",
    "factor": "influence --model f.h5 --group random:20% --test 0 --method first --quiet",
    "select": f"select --model m.h5 --test 0 --size 5,10 {SAVED}",
}
"""What writes a file."""
WRITES = {"train": "o.h5", "influence": "o.h5", "groundtruth": "o.h5", "factor": "f.h5", "select": "o.h5"}


def content(path: Path) -> dict[str, bytes] | None:
    """What a file of ginf's holds, but for times; None where there is none."""
    if not path.exists():
        return None
    found: dict[str, bytes] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and not name.endswith("seconds"):
            found[name] = np.asarray(item[()]).tobytes()

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def signals(folder: Path, seed: int, numbers: Iterable[int]) -> Tally:
    """INT, TERM, HUP and KILL at random moments of every command that writes, two in five of them inside a save.

    A file under the name of the result must be the old one, the right one, or of groundtruth one that --resume brings
    to the right end; nothing else may stay but what a KILL leaves, which the next run removes.
    """
    make_artifacts(folder)
    load_everything()
    _without_factor(folder)
    old = (folder / "i.h5").read_bytes()
    bare = (folder / "f.h5").read_bytes()
    right: dict[str, dict[str, bytes] | None] = {}
    for name in COMMANDS:
        (folder / "f.h5").write_bytes(bare)
        code, _, _, _ = _started(folder, name, 0, 0.0, inside=None)
        assert code in (0, 4), name
        right[name] = content(folder / WRITES[name])
        (folder / "o.h5").unlink(missing_ok=True)
    tally = Tally("signals")
    for number in numbers:
        draw = random.Random(f"{seed} signals {number}")
        name, sent = draw.choice(sorted(COMMANDS)), draw.choice(sorted(ENDS))
        inside = draw.randrange(1, 60) if draw.random() < 0.4 else None
        (folder / "f.h5").write_bytes(bare)
        (folder / "o.h5").write_bytes(old)
        after = draw.uniform(0.0, 1.0 if name == "groundtruth" else 0.25)
        for _ in range(4):  # earlier, where the run was over before
            code, err, took, came = _started(folder, name, getattr(signal, sent), after, inside=inside)
            if came:
                break
            after, inside = after / 3, inside and max(1, inside // 3)
            (folder / "f.h5").write_bytes(bare)
            (folder / "o.h5").write_bytes(old)
        problem = None
        came = came and not (code == 0 and content(folder / WRITES[name]) == right[name])  # it was over already
        if came and code != ENDS[sent] and not (sent == "SIGKILL" and code == -9):
            problem = f"exit {code} after {sent}"
        elif not came and code not in (0, 4):
            problem = f"exit {code}"
        elif came and took > ALLOWED:
            problem = f"{took:.1f} s"
        elif came and sent != "SIGKILL" and "kept" not in err and "complete" not in err:
            problem = "without a word"
        problem = problem or _left(folder, name, sent, old, right, bare)
        tally.count(
            f"{number} {sent} {name} {inside or ''}", Outcome(code if code >= 0 else 0, "", err, took, 0), problem
        )
    return tally


def _left(
    folder: Path, name: str, sent: str, old: bytes, right: dict[str, dict[str, bytes] | None], bare: bytes
) -> str | None:
    """What is wrong with what the run left behind."""
    path = folder / WRITES[name]
    leftovers = [entry.name for entry in folder.iterdir() if entry.name.startswith(".ginf-")]
    if leftovers and sent != "SIGKILL":
        return f"{leftovers} left"
    before = bare if name == "factor" else old
    if path.read_bytes() != before and content(path) != right[name]:
        if name != "groundtruth":
            return "a wrong file"
        code, _, _, _ = _started(folder, name, 0, 0.0, inside=None, extra=("--resume",))
        if code not in (0, 4) or content(path) != right[name]:
            return "lost groups"
    if leftovers:
        time.sleep(NEW_SECONDS)  # which an empty file may be about to be locked
        _started(folder, "influence", 0, 0.0, inside=None)
        leftovers = [entry.name for entry in folder.iterdir() if entry.name.startswith(".ginf-")]
        if leftovers:
            return f"{leftovers} left by the next run"
    return None


def _without_factor(folder: Path) -> None:
    subprocess.run(
        [*GINF, "train", "--data", "b.npz", "--solver", "cg", "-o", "f.h5", "--quiet"], cwd=folder, env=environment(),
        stdout=subprocess.DEVNULL, check=True, timeout=120,
    )  # fmt: skip


def _started(
    folder: Path, name: str, number: int, after: float, *, inside: int | None, extra: tuple[str, ...] = ()
) -> tuple[int, str, float, bool]:
    """Exit code, stderr, seconds from the signal to the end, and whether the signal came: after some seconds of a run,
    or as its write number ``inside`` to a file begins."""
    read, write = os.pipe()
    err = folder / "stderr"
    child = os.fork()
    if child == 0:
        os.close(read)
        _child(folder, [*COMMANDS[name].split(), *extra], err, number if inside else 0, inside or 0, write)
    os.close(write)
    came, sent_at = False, time.monotonic()
    os.read(read, 1)  # the handlers are there
    if number and not inside:
        time.sleep(after)
        if os.waitpid(child, os.WNOHANG)[0] == 0:
            os.kill(child, number)
            came, sent_at = True, time.monotonic()
        else:
            os.close(read)
            return 0, err.read_text(errors="replace"), 0.0, False
    elif inside and number:
        mark = os.read(read, 1)  # "s" as the signal is raised, nothing where there were fewer writes
        came, sent_at = mark == b"s", time.monotonic()
    _, status = os.waitpid(child, 0)
    took = time.monotonic() - sent_at
    os.close(read)
    return os.waitstatus_to_exitcode(status), err.read_text(errors="replace"), took, came


def _child(folder: Path, arguments: list[str], err: Path, number: int, inside: int, ready: int) -> None:
    """The command line of a forked process, from its first line on."""
    code = 1
    try:
        os.chdir(folder)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(os.open(os.devnull, os.O_RDWR), 1)
        os.dup2(os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
        sys.stdin, sys.stdout, sys.stderr = (open(n, "w" if n else "r", closefd=False) for n in range(3))  # noqa: SIM115
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            signal.signal(getattr(signal, name), signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL)
        from influence_cli import __main__, cli, process
        from influence_cli.artifacts import atomic
        from influence_cli.core import stopping

        whole, count = atomic.Sink.write, 0

        def counted(sink: atomic.Sink, buffer: bytes) -> int:
            nonlocal count
            count += 1
            if count == inside:
                os.write(ready, b"s")
                os.kill(os.getpid(), number)
            return whole(sink, buffer)

        atomic.Sink.write = counted  # type: ignore[assignment,method-assign]
        atomic._swept.clear()  # what the parent has done is not this process's
        stopping.begin()
        process.prepare()
        process.watch_signals(__main__._clean_up)
        os.write(ready, b"r")
        if not inside:
            os.close(ready)
        sys.argv = ["ginf", *arguments]
        cli.main()
    except SystemExit as end:
        code = int(end.code or 0)
    finally:
        sys.stderr.flush()
        os._exit(code)


# --- surroundings ---

STREAMS = (
    "",
    ">&-",
    "2>&-",
    "<&-",
    ">/dev/full",
    "2>/dev/full",
    "| head -n 1",
    "| true",
    "2>&1 | true",
    "<pipe",
    "</dev/zero",
)
VARIABLES: tuple[dict[str, str | None], ...] = (
    {},
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"LC_ALL": "POSIX"},
    {"LANG": "tr_TR.UTF-8"},
    {"PYTHONIOENCODING": "ascii"},
    {"HOME": None},
    {"HOME": "/nowhere"},
    {"TERM": "dumb"},
    {"TERM": "nonsense", "COLUMNS": "1"},
    {"COLUMNS": "x"},
    {"NO_COLOR": "1"},
    {"FORCE_COLOR": "1"},
    {"TZ": "Nowhere/Town"},
    {"OMP_NUM_THREADS": "x"},
    {"GINF_MODEL": "pipe"},
    {"GINF_MODEL": ""},
    {"TMPDIR": "/nowhere"},
    {"PYTHONWARNINGS": "error"},
    {"PATH": "/usr/bin:/bin"},
)
LIMITS = (
    *("", "", "ulimit -v 700000;", "ulimit -v 1500000;", "ulimit -n 16;", "ulimit -f 4;", "ulimit -f 0;"),
    *("ulimit -s 256;", "umask 777;", "trap '' INT HUP PIPE;", "mkdir -p gone; cd gone; rmdir ../gone;"),
    *("ulimit -c 0;", "nice -n 19 true;"),
)
WORK = (
    "--help",
    "train --help",
    "--version",
    "train --data $D/b.npz -o o.h5 --force",
    "train --data $D/t.csv --label label --drop id -o o.h5 --force",
    "influence --model $D/m.h5 --group random:5 --test 0",
    "influence --model $D/m.h5 --group random:5 --test 0 -o o.h5 --force --format json",
    "groundtruth --model $D/m.h5 --group random:5x3 --test 0 -o o.h5 --force",
    "compare $D/i.h5 $D/t.h5 --fail-under first=0.99999999 --bootstrap 50",
    "select --model $D/m.h5 --test 0 --size 3 --format rows",
    "influence --model $D/m.h5 --groups - --test 0",
    "influence --group coherent:1 --test 0",
)


def surroundings(folder: Path, seed: int, numbers: Iterable[int]) -> Tally:
    """Real processes by a shell, with streams, variables and limits as nobody means them to be."""
    make_artifacts(folder)
    (folder / "t.csv").write_bytes(make_data(folder)["t.csv"][0])
    save_blobs(folder / "b.npz")
    tally = Tally("surroundings")
    for number in numbers:
        draw = random.Random(f"{seed} surroundings {number}")
        limit, stream, variables, work = (
            draw.choice(LIMITS),
            draw.choice(STREAMS),
            draw.choice(VARIABLES),
            draw.choice(WORK),
        )
        line = f"set -o pipefail; {limit} $ginf {work} {stream}"
        if stream == "<pipe":
            line = line.replace("<pipe", "<$D/pipe & sleep 0.2; : >$D/pipe; wait $!")
        started = time.monotonic()
        try:
            done = subprocess.run(
                ["bash", "-c", f"ginf='{' '.join(GINF)}'; D='{folder}'; {line}"], cwd=folder,
                env=environment(**variables), stdin=subprocess.DEVNULL, capture_output=True, timeout=120,
            )  # fmt: skip
            code, err = done.returncode, done.stderr.decode(errors="replace")
        except subprocess.TimeoutExpired:
            code, err = -signal.SIGALRM, ""
        outcome = Outcome(code, "", err, 0.0, 0)
        problem = _judged(outcome, stream, work)
        tally.count(f"{number} [{limit} {work} {stream} {variables}]", outcome, problem)
        tally.seconds = max(tally.seconds, time.monotonic() - started)
        for name in ("o.h5", "ginf.h5"):
            (folder / name).unlink(missing_ok=True)
    return tally


def _judged(outcome: Outcome, stream: str, work: str) -> str | None:
    """As ``verdict``, for what a shell tells: 128 + n of a process that a signal ended, and nothing where stderr goes
    elsewhere."""
    if outcome.code in (141, 129 + 12):
        return None  # the pipe's other end, not ginf
    if outcome.code > 128:
        return f"crash ({outcome.code - 128})"
    if stream.startswith("2>") and outcome.code in (2, 3, 4, 5):
        return None
    return verdict(outcome)
