"""Rows that are read from their file in every pass: the same figures as in memory, within the memory that was said."""

from __future__ import annotations

import csv
import errno
import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import h5py
import numpy as np
import polars as pl
import pytest
from cli_tools import environment
from threadpoolctl import threadpool_limits

from influence_cli.artifacts import model as model_file
from influence_cli.cli import run
from influence_cli.commands import session
from influence_cli.core.objectives.families.gaussian import Gaussian
from influence_cli.core.objectives.families.logistic import Logistic
from influence_cli.core.objectives.families.poisson import Poisson
from influence_cli.core.objectives.families.softmax import Softmax
from influence_cli.core.objectives.fused import FusedGlm
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.removal import removal
from influence_cli.core.rows import streamed_design
from influence_cli.core.training import train as fitted
from influence_cli.data import stored as stored_rows
from influence_cli.data.readers import hdf5, in_place, npz
from influence_cli.data.stored import PlainPart, ReadSoFar, StoredRows
from influence_cli.errors import ExitCode

M, D = 30_000, 7
ESTIMATORS = ("logistic", "linear", "poisson", "softmax")
FAMILIES = {"logistic": Logistic(), "linear": Gaussian(), "poisson": Poisson(), "softmax": Softmax(3)}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GINF_MODEL", raising=False)
    return tmp_path


@pytest.fixture
def streaming(monkeypatch):
    """No file is small enough for memory."""
    monkeypatch.setattr(in_place, "is_large", lambda needed, split: True)


def problem(kind: str, rows: int = M, columns: int = D, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, columns)) * np.linspace(0.5, 2.0, columns) + 0.2
    eta = 0.4 * X @ rng.normal(size=(columns, 3)) + rng.normal(size=(rows, 3))
    own = {"linear": eta[:, 0], "poisson": rng.poisson(np.exp(0.3 * eta[:, 0])), "softmax": eta.argmax(axis=1)}
    return X, own.get(kind, (eta[:, 0] > 0).astype(int))


def stored(path: Path, *parts: np.ndarray) -> StoredRows:
    """The rows of these arrays one behind the other, a file each."""
    files = []
    for number, part in enumerate(parts):
        name = path / f"part{number}"
        name.write_bytes(b"head" + np.ascontiguousarray(part).tobytes())
        files.append(PlainPart(name, 4, len(part)))
    return StoredRows(files, parts[0].shape[1], parts[0].dtype, (sum(map(len, parts)), parts[0].shape[1]))


@pytest.mark.parametrize("dtype", ["f8", "f4", "i2"])
def test_blocks_and_named_rows_are_those_of_the_array(tmp_path, dtype):
    X = (100 * problem("linear", 5000, 3)[0]).astype(dtype)
    rows, whole = stored(tmp_path, X[:1234], X[1234:1240], X[1240:]), X.astype(float)
    picked = np.random.default_rng(1).permutation(5000)[:700]
    for which in (slice(0, 5000), slice(1200, 1300), slice(5000, 5000), picked, np.sort(picked), picked[:0]):
        np.testing.assert_array_equal(rows[which], whole[which])
    some = np.sort(picked)
    np.testing.assert_array_equal(rows.subset(some)[10:90], whole[some][10:90])
    np.testing.assert_array_equal(rows.subset(some).take(np.arange(600, 0, -7)), whole[some][600:0:-7])
    mean, scale = np.arange(3.0), np.array([1.0, 2.0, 4.0])
    np.testing.assert_array_equal(rows.standardised(mean, scale)[7:2000], (whole[7:2000] - mean) / scale)
    np.testing.assert_array_equal(rows[:, [2]], whole[:, [2]])
    np.testing.assert_array_equal(rows.subset(some)[5:, [0, 1]], whole[some][5:, [0, 1]])
    kept = rows[0:100].copy()
    rows[100:200]
    np.testing.assert_array_equal(kept, whole[:100])


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_every_pass_gives_the_bits_of_memory_on_any_number_of_threads(tmp_path, kind):
    X, y = problem(kind)
    w = np.random.default_rng(2).uniform(0.5, 1.5, M)
    made = {"l2": 1e-2, "intercept": True, "weights": w / w.sum()}
    memory, rows = Glm(X, y, FAMILIES[kind], **made), stored(tmp_path, X[:10_001], X[10_001:])
    theta = 0.1 * np.random.default_rng(3).normal(size=(memory.size, 3))
    few = [np.array([5]), np.arange(0, M, 997), np.arange(700, 720)]
    many = [np.arange(M // 2), np.arange(M // 3, M - 3), np.arange(1, M, 2)]

    def figures(objective: Glm) -> list[np.ndarray]:
        found = [objective.loss(theta, objective.weights), objective.row_products(theta[:, :1], theta)]
        found += [objective.self_concordance(theta), objective.deviation(theta), objective.residuals(theta[:, :1])]
        for groups in (few, many):
            removed = removal(objective.weights, groups, "per-mean").removed
            found += [objective.gradient(theta, removed), objective.value_and_gradient(theta, removed)[0]]
            found += [objective.curvature(theta, removed)(theta), objective.third(theta, removed, theta)]
        return [*found, objective.dense_curvature(theta[:, :1], objective.weights, np.dtype(np.float64))]

    expected = figures(memory)
    for threads in (1, 2):
        with threadpool_limits(threads, "blas"):
            for one, other in zip(figures(Glm(rows, y, FAMILIES[kind], **made)), expected, strict=True):
                np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_fused_newton_pass_is_the_three_passes(tmp_path, kind):
    X, y = problem(kind)
    rows = stored(tmp_path, X)
    plain, fused = (make(X_, y, FAMILIES[kind], l2=1e-2) for make, X_ in ((Glm, X), (FusedGlm, rows)))
    theta = 0.1 * np.random.default_rng(3).normal(size=(plain.size, 1))
    (value, gradient), (one, other) = (model.value_and_gradient(theta, model.weights) for model in (plain, fused))
    np.testing.assert_allclose(one, value, rtol=1e-13)
    np.testing.assert_allclose(other, gradient, rtol=1e-11, atol=1e-15)
    before = rows.read.bytes
    hessian = fused.dense_curvature(theta, fused.weights, np.dtype(np.float64))
    assert rows.read.bytes == before  # the pass of the gradient has summed it up
    lower = np.tril(plain.dense_curvature(theta, plain.weights, np.dtype(np.float64)))
    np.testing.assert_allclose(np.tril(hessian), lower, rtol=1e-11, atol=1e-14)
    ends = [fitted(model).theta for model in (plain, fused)]
    np.testing.assert_allclose(ends[1], ends[0], rtol=1e-8, atol=1e-10)


def test_training_takes_few_passes(tmp_path):
    X, y = problem("logistic")
    rows = stored(tmp_path, X)
    fitted(FusedGlm(rows, y, Logistic(), l2=1e-3))
    assert rows.read.bytes <= 7 * X.nbytes  # units, the start from a few rows, and Newton steps
    assert rows.cost.bytes == X.nbytes
    assert rows.cost.seconds > 0.0


def test_streamed_groups_are_retrained_in_the_same_passes(folder, streaming, monkeypatch):
    save(folder / "a.npz", "logistic", split=True)
    assert run(["train", "--data", "a.npz", "-o", "m.h5", "--quiet"]) == 0
    read, add = [], ReadSoFar.add
    monkeypatch.setattr(ReadSoFar, "add", lambda self, count, seconds: (read.append(count), add(self, count, seconds)))
    asked = ["--group", "random:5%x24", "--test", "0", "--memory", "1GiB", "--quiet"]
    assert run(["groundtruth", "--model", "m.h5", *asked, "-o", "t.csv"]) == 0
    assert sum(read) <= 15 * 3500 * 5 * 8


def save(path: Path, kind: str, *, split: bool, weights: bool = False) -> str:
    X, y = problem(kind, 4000, 5)
    names = {"X": X, "y": y} if not split else {"X_train": X[:3500], "y_train": y[:3500], "X_test": X[3500:]}
    names |= {"y_test": y[3500:]} if split else {}
    if weights:
        names["sample_weight"] = np.random.default_rng(4).uniform(0.5, 2.0, len(names["X_train"]))
    if path.suffix == ".npz":
        np.savez(path, **names)
        return path.name
    with h5py.File(path, "w") as file:
        for name, array in names.items():
            file.create_dataset(name, data=array, chunks=(256, 5) if name.startswith("X") and split else None)
    return path.name


def records(path: str) -> list[dict[str, str]]:
    return list(csv.DictReader(Path(path).read_text().splitlines()))


COMMANDS = {
    "influence": [
        "--group",
        "random:5%x2",
        "--group",
        "random:10",
        "--test",
        "0:3",
        "--method",
        "first,second,refined",
    ],
    "groundtruth": ["--group", "random:5%x2", "--group", "rows:0,5,9", "--test", "0:3"],
    "select": ["--size", "20", "--test", "1", "--verify"],
}


@pytest.mark.parametrize(
    ("name", "kind", "split", "weights", "extra"),
    [
        ("a.npz", "logistic", True, True, ["--standardize"]),
        ("a.h5", "softmax", True, False, ["--standardize"]),
        ("a.h5", "poisson", False, False, []),
    ],
)
def test_commands_say_the_same_of_streamed_rows(folder, monkeypatch, capsys, name, kind, split, weights, extra):
    data = save(folder / name, kind, split=split, weights=weights)
    options = ["--data", data, "--estimator", kind.replace("softmax", "logistic"), "--link-data", *extra, "--quiet"]
    said = {}
    for way in ("memory", "streamed"):
        if way == "streamed":
            monkeypatch.setattr(in_place, "is_large", lambda needed, split: True)
        assert run(["train", *options, "-o", f"{way}.h5"]) == 0
        for command, asked in COMMANDS.items():
            assert run([command, "--model", f"{way}.h5", *asked, "--quiet", "-o", f"{way}-{command}.csv"]) == 0
            said[way, command] = records(f"{way}-{command}.csv")
        for command in ("influence", "groundtruth"):
            asked = [*COMMANDS[command][:4], "--test", "0:3", "--force", "--quiet", "-o", f"{way}-{command}.h5"]
            assert run([command, "--model", f"{way}.h5", *asked]) == 0
        assert run(["compare", f"{way}-influence.h5", f"{way}-groundtruth.h5", "-o", f"{way}.csv"]) == 0
        said[way, "compare"] = records(f"{way}.csv")
    models = [load_model_of(f"{way}.h5") for way in ("memory", "streamed")]
    np.testing.assert_allclose(models[1], models[0], rtol=1e-9, atol=1e-12)
    for command in (*COMMANDS, "compare"):
        for one, other in zip(said["streamed", command], said["memory", command], strict=True):
            for key, value in other.items():
                if key in ("seconds", "actual_error", "error", "grad_norm", "description", "bound", "optimal"):
                    continue
                # Sums in another order: a retraining that is near its minimum may need one step more or less.
                near = 1 if key == "iterations" else 1e-9
                try:
                    assert float(one[key]) == pytest.approx(float(value), rel=1e-6, abs=near), (command, key)
                except ValueError:
                    assert one[key] == value, (command, key)


def load_model_of(path: str) -> np.ndarray:
    """theta, whatever the data."""
    with h5py.File(path) as file:
        return file["params/theta"][:]


REFUSED = {
    "a network": (["train", "--data", "a.npz", "--estimator", "mlp"], "--estimator mlp"),
    "neighbours": (["influence", "--model", "m.h5", "--group", "neighbours:3:10", "--test", "0"], "neighbours"),
    "clusters": (["influence", "--model", "m.h5", "--group", "cluster:3", "--test", "0"], "cluster"),
}


@pytest.mark.parametrize("asked", REFUSED)
def test_what_needs_all_rows_at_once_is_refused_by_name(folder, streaming, capsys, asked):
    save(folder / "a.npz", "logistic", split=True)
    assert run(["train", "--data", "a.npz", "-o", "m.h5", "--quiet"]) == 0
    arguments, name = REFUSED[asked]
    capsys.readouterr()
    assert run([*arguments, "--quiet", "-o", "out.h5"]) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert name in error and "needs all rows in memory at once" in error, error
    assert not Path("out.h5").exists()


def test_other_features_cannot_be_streamed(folder, streaming, capsys):
    X, y = problem("logistic", 500)
    np.savez("column.npz", X=np.asfortranarray(X), y=y)
    np.savez_compressed("packed.npz", X=X, y=y)
    for name, reason in (("column.npz", "in column order"), ("packed.npz", "packed")):
        assert run(["train", "--data", name, "-o", "m.h5"]) == ExitCode.USAGE
        error = capsys.readouterr().err
        assert "not enough memory" in error and reason in error and "numpy.savez" in error
    X[17, 2] = np.nan
    np.savez("hole.npz", X=X, y=y)
    assert run(["train", "--data", "hole.npz", "-o", "m.h5"]) == ExitCode.FILE
    assert "the first is nan" in capsys.readouterr().err


def test_a_file_that_changes_meanwhile_or_later_is_noticed(folder, streaming, capsys):
    X, y = problem("logistic", 500)
    rows = stored(folder, X)
    os.utime(folder / "part0", ns=(1, 1))
    with pytest.raises(Exception, match="was changed while it was in use"):
        rows[0:10]
    save(folder / "a.npz", "logistic", split=True)
    assert run(["train", "--data", "a.npz", "-o", "m.h5", "--quiet"]) == 0
    X, y = problem("logistic", 4000, 5, seed=9)
    np.savez("a.npz", X_train=X[:3500], y_train=y[:3500], X_test=X[3500:], y_test=y[3500:])
    capsys.readouterr()
    assert run(["influence", "--model", "m.h5", "--group", "random:10", "--test", "0"]) == ExitCode.FILE
    assert "its rows are no longer those of" in capsys.readouterr().err


def test_it_streams_by_itself_from_60_percent_of_what_there_is(folder, monkeypatch, capsys):
    data = save(folder / "a.npz", "logistic", split=True)
    for times, streamed in ((1.5, True), (1.8, False)):
        monkeypatch.setattr(in_place, "at_hand", lambda times=times: times * 8 * 4000 * 5)
        assert run(["train", "--data", data, "-o", "m.h5", "--force"]) == 0
        said = capsys.readouterr().err
        note = "every pass reads 140 kB again; training takes about 10 passes; memory will reach about"
        assert (note in said, "m.h5 is linked to its data" in said) == (streamed, streamed), said


MEASURED = """
import sys
from influence_cli.artifacts import model as model_file
from influence_cli.cli import run
from influence_cli.commands import session
code = run(sys.argv[1:])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(peak, file=sys.stderr)
sys.exit(code)
"""


def peak(*arguments: str) -> tuple[float, str]:
    """Bytes of memory that a command reached as a process of its own, and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *arguments],
        env=environment(OPENBLAS_NUM_THREADS="2"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return 1024.0 * float(done.stderr.split()[-2]), done.stderr


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("kind", ["f8", "f4", "chunks"])
def test_standardised_rows_stay_within_what_was_said(folder, kind):
    """A block is standardised where it lies, and read from chunks to where it shall lie."""
    X, y = problem("logistic", 160_000, 50)
    if kind == "chunks":
        with h5py.File("a.h5", "w") as file:
            file.create_dataset("X", data=X, chunks=(1000, 9), compression="gzip", compression_opts=1)
            file["y"] = y
    else:
        np.savez("a.npz", X=X.astype(kind), y=y)
    data = "a.h5" if kind == "chunks" else "a.npz"
    reached, said = peak("train", "--data", data, "--standardize", "-o", "m.h5", "--memory", "190MB")
    forecast = re.search(r"memory will reach about ([\d.]+) MB", said)
    assert forecast is not None, said
    assert reached <= 1.2e6 * float(forecast.group(1)), (reached, said)


@pytest.mark.parametrize("names", [("X", "y"), ("X", "y", "sample_weight"), ("X_train", "y_train", "X_test", "y_test")])
def test_rows_that_are_to_be_split_need_room_for_it_with_weights_too(folder, monkeypatch, names):
    X, y = problem("logistic", 60)
    arrays = {"X": X, "X_train": X, "X_test": X, "sample_weight": np.ones(len(y))}
    np.savez("a.npz", **{name: arrays.get(name, y) for name in names})
    asked: list[bool] = []
    monkeypatch.setattr(in_place, "is_large", lambda needed, split: asked.append(split) or True)
    in_place.read_in_place(Path("a.npz"))
    assert asked == [names[0] == "X"]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_memory_stays_within_what_was_said_and_allowed(folder):
    X, y = problem("logistic", 160_000, 50)
    np.savez("a.npz", X_train=X[:-500], y_train=y[:-500], X_test=X[-500:], y_test=y[-500:])
    allowed = 185e6  # Python takes some 100 MB of it, and X 64
    for arguments in (
        ["train", "--data", "a.npz", "-o", "m.h5"],
        ["influence", "--model", "m.h5", "--group", "random:2%x30", "--test", "0:5", "--method", "first,second"],
        ["groundtruth", "--model", "m.h5", "--group", "random:2%x8", "--test", "0:5"],
        ["select", "--model", "m.h5", "--size", "1%", "--test", "0", "--strategy", "greedy"],
    ):
        reached, said = peak(*arguments, "--memory", f"{allowed:.0f}")
        forecast = re.search(r"memory will reach about ([\d.]+) MB", said)
        assert forecast is not None, said
        assert reached <= 1.2e6 * float(forecast.group(1)), (arguments, reached, said)
        assert reached <= allowed, arguments


def test_less_memory_than_it_takes_is_refused_with_the_figure(folder, streaming, capsys):
    save(folder / "a.npz", "logistic", split=True)
    assert run(["train", "--data", "a.npz", "-o", "m.h5", "--memory", "64MiB"]) == ExitCode.USAGE
    error = capsys.readouterr().err
    assert re.search(r"not enough memory: this takes about \d+ MB, .* and --memory allows 67.1 MB", error), error
    assert re.search(r"hint: give it --memory \d+MB", error)
    assert not Path("m.h5").exists()
    for text in ("4 GiBB", "-3GB", "1MB", "nan"):
        assert run(["train", "--data", "a.npz", "-o", "m.h5", "--memory", text]) == ExitCode.USAGE
        assert "--memory must be an amount of memory of 67.1 MB or more" in capsys.readouterr().err


def test_a_search_that_has_no_room_beside_rows_in_memory_is_refused(folder, monkeypatch, capsys):
    save(folder / "a.npz", "logistic", split=True)
    assert run(["train", "--data", "a.npz", "-o", "m.h5", "--quiet"]) == ExitCode.OK
    monkeypatch.setattr(session, "RANKED_BYTES", 1e12)
    for asked in (["--size", "3"], ["--flip"]):
        assert run(["select", "--model", "m.h5", *asked, "--test", "0"]) == ExitCode.USAGE
        error = capsys.readouterr().err
        assert re.search(r"not enough memory: ranking 3,500 rows beside the data takes about .* GB of memory", error), (
            error
        )
    pgd = Mock(strategies=("greedy", "pgd"))
    for rows, streamed, expected in ((0, None, 0.0), (1000, True, 1e15 + 80e3)):
        opened = Mock()
        opened.model.dataset = Mock(rows=rows, streamed=streamed)
        assert session.ranking_bytes(opened, pgd) == expected


@pytest.mark.parametrize(
    ("name", "place", "error"),
    [
        ("a.npz", npz, MemoryError("Unable to allocate 381. MiB")),
        ("a.h5", hdf5, OSError(errno.ENOMEM, "Cannot allocate memory")),
        ("a.h5", hdf5, RuntimeError("memory allocation failed for raw data chunk")),
    ],
)
def test_a_lack_of_memory_is_no_damage(folder, monkeypatch, capsys, name, place, error):
    def lacking(*arguments: object) -> None:
        raise error

    save(folder / name, "logistic", split=True)
    monkeypatch.setattr(place, "_npz_array" if place is npz else "_array", lacking)
    assert run(["train", "--data", name, "-o", "m.h5"]) == ExitCode.USAGE
    said = capsys.readouterr().err
    assert re.search(rf"not enough memory: reading {name} takes .* can be had\nhint: raise the limit", said), said
    assert "damaged" not in said


def test_a_table_that_a_limit_of_address_space_does_not_hold_is_refused(folder):
    X, y = problem("logistic", 5000, 20)
    pl.DataFrame({f"x{j}": X[:, j] for j in range(20)} | {"label": y}).write_parquet("a.parquet")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "420", "train", "--data", "a.parquet", "--label", "label", "-o", "m.h5"],
        env=environment(OPENBLAS_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == ExitCode.USAGE, done.stderr
    assert re.search(r"not enough memory: reading tables takes about 25\d MB of memory, and .* can be had", done.stderr)


LIMITED = """
import resource, sys
most = int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (most, most))
from influence_cli.artifacts import model as model_file
from influence_cli.cli import run
from influence_cli.commands import session
sys.exit(run(sys.argv[2:]))
"""


SMALL_GROUPS = ["--group", "random:10x100", "--test", "0:3", "--method", "first,second,newton,rif"]


def passes_read(monkeypatch, X_bytes: int, *arguments: str) -> float:
    """Passes over all rows, by the bytes that are read in blocks, in a command on streamed rows."""
    read, add = [], ReadSoFar.add
    with monkeypatch.context() as patch:
        patch.setattr(ReadSoFar, "add", lambda self, count, seconds: (read.append(count), add(self, count, seconds)))
        assert run([*arguments, "--quiet"]) == 0
    return sum(read) / X_bytes


@pytest.mark.parametrize("kind", ["logistic", "linear", "poisson", "softmax"])
def test_small_groups_take_no_pass_over_the_rows_of_a_linked_model(folder, monkeypatch, kind):
    X, y = problem(kind)
    np.savez("a.npz", X_train=X[:-500], y_train=y[:-500], X_test=X[-500:], y_test=y[-500:])
    estimator = kind.replace("softmax", "logistic")
    monkeypatch.setattr(model_file, "STARTED", np.inf)  # the file counts as one that was there before
    assert run(["train", "--data", "a.npz", "--estimator", estimator, "--link-data", "-o", "m.h5", "--quiet"]) == 0
    X_bytes = (M - 500) * D * 8
    with h5py.File("m.h5") as file:
        assert {"squares", "gradient", "hessian"} == set(file["sums"])
    monkeypatch.setattr(in_place, "SMALL_BYTES", 0)
    monkeypatch.setattr(in_place, "ROW_BYTES", 8)
    monkeypatch.setattr(streamed_design, "SCATTERED", 0)  # a row by itself is cheap, as in a large file
    asked = ["influence", "--model", "m.h5", *SMALL_GROUPS]
    assert passes_read(monkeypatch, X_bytes, *asked, "-o", "in-place.csv") == 0.0
    assert (
        passes_read(monkeypatch, X_bytes, *asked[:-1], "first,second,refined", "-o", "refined.csv") == 0.0
    )  # in memory
    monkeypatch.setattr(model_file, "_kept", lambda arrays: None)
    assert (
        passes_read(monkeypatch, X_bytes, *asked, "-o", "streamed.csv") >= 1.0
    )  # the one block is read once, for both passes
    monkeypatch.setattr(in_place, "ROW_BYTES", 1e9)
    assert passes_read(monkeypatch, X_bytes, *asked, "-o", "memory.csv") == 0.0
    for way in ("in-place", "streamed"):
        for one, other in zip(records(f"{way}.csv"), records("memory.csv"), strict=True):
            for method in ("first", "second", "newton", "rif"):
                assert float(one[method]) == pytest.approx(float(other[method]), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("parts", [1, 2])
def test_rows_that_lie_far_apart_are_read_alone(tmp_path, monkeypatch, parts):
    X = np.random.default_rng(0).normal(size=(5000, 3))
    rows = stored(tmp_path, *np.array_split(X, parts))
    monkeypatch.setattr(stored_rows, "WINDOW_BYTES", 24 * 10)  # ten rows
    read = []
    whole = PlainPart.read
    monkeypatch.setattr(PlainPart, "read", lambda self, start, out: (read.append(len(out)), whole(self, start, out)))
    apart = np.array([3, 40, 41, 42, 1000, 2499, 2500, 2501, 4999])
    np.testing.assert_array_equal(rows.take(apart), X[apart])
    np.testing.assert_array_equal(rows.take(apart[4:5]), X[1000:1001])
    np.testing.assert_array_equal(rows.take(apart[::-1]), X[apart[::-1]])
    assert not read
    monkeypatch.setattr(stored_rows, "SINGLE_READS", 1)
    close = np.concatenate([np.arange(100, 140), np.arange(2490, 2510)])
    np.testing.assert_array_equal(rows.take(close), X[close])
    assert sum(read) == len(close)
