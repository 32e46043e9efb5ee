"""What is done to the program, many times over: each campaign counts how its runs ended and keeps what should not be.

Every case is a function of the campaign's seed and its number, so that a finding can be looked at again by itself.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from cli_tools import save_blobs, train

from fuzz import mutants
from fuzz.harness import Tally, figures, forked, load_everything, verdict
from influence_cli.cli import run

ASK = ("--group", "random:20%x3", "--group", "coherent:*:5%", "--test", "0:2")
PLAIN = ("--quiet", "--format", "json")


# --- artifacts ---


@dataclass(frozen=True)
class Artifact:
    """A right file, and the command that reads it."""

    name: str
    command: tuple[str, ...]


ARTIFACTS = (
    Artifact("m.h5", ("influence", "--model", "m.h5", *ASK, "--method", "first,newton,rif", *PLAIN)),
    Artifact("s.h5", ("influence", "--model", "s.h5", *ASK, "--method", "first,second", *PLAIN)),
    Artifact("l.h5", ("influence", "--model", "l.h5", *ASK, "--method", "first,second", *PLAIN)),
    Artifact("n.h5", ("influence", "--model", "n.h5", *ASK, "--method", "first,second", *PLAIN)),
    *(Artifact(name, ("show", name, *PLAIN)) for name in ("m.h5", "i.h5", "t.h5", "c.h5")),
    Artifact("t.h5", ("groundtruth", "--model", "m.h5", *ASK, "-o", "t.h5", "--resume", *PLAIN)),
    Artifact("t.h5", ("compare", "i.h5", "t.h5", "--bootstrap", "0", *PLAIN)),
    Artifact("i.h5", ("compare", "i.h5", "t.h5", "--bootstrap", "0", *PLAIN)),
)


def make_artifacts(folder: Path) -> dict[str, bytes]:
    """One small file of every sort, by name; ``other.h5`` and ``pipe`` are there to be led to."""
    from scipy.sparse import random_array

    with chdir(folder), redirect_stdout(io.StringIO()):
        data = save_blobs(Path("b.npz"))
        train(data, Path("m.h5"))
        train(data, Path("l.h5"), "--link-data")
        train(data, Path("n.h5"), "--estimator", "mlp", "--hidden", "3")
        X = random_array((60, 8), density=0.3, rng=np.random.default_rng(0), format="csr")
        lines = []
        for row in range(60):
            part = slice(X.indptr[row], X.indptr[row + 1])
            cells = (f"{i + 1}:{v:.4f}" for i, v in zip(X.indices[part], X.data[part], strict=True))
            lines.append(f"{row % 2} {' '.join(cells)}")
        Path("d.svm").write_text("\n".join(lines) + "\n")
        train("d.svm", Path("s.h5"))
        for command, name in (("influence", "i.h5"), ("groundtruth", "t.h5")):
            assert run([command, "--model", "m.h5", *ASK, "-o", name, "--quiet", "--force"]) == 0
        assert (
            run(["select", "--model", "m.h5", "--test", "0", "--size", "3,5", "-o", "c.h5", "--quiet", "--force"]) == 0
        )
        shutil.copy("m.h5", "other.h5")
        os.mkfifo("pipe")
    return {name: (folder / name).read_bytes() for name in ("m.h5", "s.h5", "l.h5", "n.h5", "i.h5", "t.h5", "c.h5")}


def artifacts(folder: Path, seed: int, numbers: Iterable[int], how: str) -> Tally:
    """Mutants of every sort of file: ``how`` is bytes, edits (checksums right) or signed (digests right as well)."""
    right = make_artifacts(folder)
    load_everything()
    spots = {name: mutants.pieces(folder / name) for name in right}
    expected = {artifact: forked(artifact.command, folder).out for artifact in ARTIFACTS}
    tally = Tally(f"artifacts, {how}")
    for number in numbers:
        draw = random.Random(f"{seed} {how} {number}")
        artifact = draw.choice(ARTIFACTS)
        path = folder / artifact.name
        if how == "bytes":
            path.write_bytes(mutants.damaged_bytes(right[artifact.name], draw, spots[artifact.name]))
            done = "bytes"
        else:
            done = mutants.edit(path, draw, sign=how == "signed")
        outcome = forked(artifact.command, folder)
        wanted = None if how == "signed" else expected[artifact]
        tally.count(f"{number} {artifact.command[0]} {artifact.name} ({done})", outcome, verdict(outcome, wanted, figures=figures))  # fmt: skip  # noqa: E501
        for name in {artifact.name, "m.h5"}:
            (folder / name).write_bytes(right[name])
    return tally


# --- data ---


def make_data(folder: Path) -> dict[str, tuple[bytes, tuple[str, ...]]]:
    """Small right files of every format by name, with the options that train on each."""
    import h5py

    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 3)), np.arange(60) % 3
    table = "id,f0,f1,place,label\n" + "".join(
        f"r{i},{X[i, 0]:.4f},{X[i, 1]:.4f},{'NSE'[i % 3]}{i % 2},c{y[i]}\n" for i in range(60)
    )
    label = ("--label", "label", "--drop", "id")
    files: dict[str, tuple[bytes, tuple[str, ...]]] = {
        "t.csv": (table.encode(), label),
        "t.tsv": (table.replace(",", "\t").encode(), label),
        "z.csv.gz": (gzip.compress(table.encode(), mtime=0), label),
        "d.svm": ("".join(f"{y[i]} 1:{X[i, 0]:.3f} 3:{X[i, 1]:.3f}\n" for i in range(60)).encode(), ()),
    }
    buffer = io.BytesIO()
    np.savez(buffer, X_train=X[:45], y_train=y[:45], X_test=X[45:], y_test=y[45:])
    files["a.npz"] = (buffer.getvalue(), ())
    buffer = io.BytesIO()
    np.savez_compressed(buffer, X=X, y=y)
    files["c.npz"] = (buffer.getvalue(), ())
    with h5py.File(folder / "d.h5", "w") as file:
        file["X"], file["y"] = X, y
    files["d.h5"] = ((folder / "d.h5").read_bytes(), ())
    (folder / "t.csv").write_text(table)
    made = "import polars; polars.read_csv('t.csv').write_parquet('t.parquet')"
    # by another process: the threads that polars starts do not survive the forks of this one
    subprocess.run([sys.executable, "-c", made], cwd=folder, check=True, timeout=120)
    files["t.parquet"] = ((folder / "t.parquet").read_bytes(), label)
    files["p.skops"] = (_pipeline(X, y), ("--data", "x.npz"))
    np.savez(folder / "x.npz", X=X, y=y)
    return files


def _pipeline(X: np.ndarray, y: np.ndarray) -> bytes:
    """A fitted pipeline of scikit-learn as skops writes it."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from skops.io import dumps

    return dumps(make_pipeline(StandardScaler(), LogisticRegression(tol=1e-12, max_iter=1000)).fit(X, y))


def _edited_pipeline(content: bytes, draw: random.Random) -> bytes:
    """The archive with one value of its JSON another, or one of its arrays damaged; its own checksums are right."""
    read, written = zipfile.ZipFile(io.BytesIO(content)), io.BytesIO()
    chosen = draw.choice(read.namelist()) if draw.random() < 0.5 else "schema.json"
    with zipfile.ZipFile(written, "w") as archive:
        for name in read.namelist():
            inside = read.read(name)
            if name == chosen and name.endswith(".json"):
                inside = json.dumps(mutants.tweaked(json.loads(inside), draw)).encode()
            elif name == chosen:
                inside = mutants.damaged_bytes(inside, draw)
            archive.writestr(name, inside)
    return written.getvalue()


def data(folder: Path, seed: int, numbers: Iterable[int]) -> Tally:
    """Mutants of data files, each trained on; what they hold has no right answer, so that the end alone is judged."""
    files = make_data(folder)
    load_everything()
    tally = Tally("data files")
    for number in numbers:
        draw = random.Random(f"{seed} data {number}")
        name = draw.choice(sorted(files))
        content, options = files[name]
        if name.endswith((".csv", ".tsv", ".svm")):
            separator = {"csv": b",", "tsv": b"\t", "svm": b" "}[name[-3:]]
            changed = mutants.damaged_text(content, draw, separator)
        elif name.endswith(".gz") and draw.random() < 0.7:
            changed = gzip.compress(mutants.damaged_text(gzip.decompress(content), draw), mtime=0)
        elif name.endswith(".skops") and draw.random() < 0.7:
            changed = _edited_pipeline(content, draw)
        else:
            changed = mutants.damaged_bytes(content, draw)
        (folder / name).write_bytes(changed)
        source = "--from" if name.endswith(".skops") else "--data"
        outcome = forked(("train", source, name, *options, "-o", "q.h5", "--force", *PLAIN), folder)
        tally.count(f"{number} {name}", outcome, verdict(outcome))
        (folder / name).unlink()
    return tally


# --- command lines ---

NUMBERS = (
    "0",
    "1",
    "-1",
    "3",
    "1e400",
    "nan",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    str(2**63),
    str(2**70),
)
WORDS = (
    "",
    " ",
    "x",
    "--",
    "-",
    "\x1b[2J",
    "\udcff",
    "a" * 5000,
    "m.h5",
    "/dev/zero",
    "pipe",
    "/",
    ".",
    "~nobody/x",
    "é",
)
SPECS = (
    *(
        "random:5",
        "random:20%x3",
        "coherent:0",
        "coherent:*:3",
        "rows:0,1",
        "rows:@rows.txt",
        "rows:@pipe",
        "rows:@/dev/zero",
    ),
    *(
        "column:f0=1",
        "by:f0",
        "cluster:3",
        "neighbours:0:5",
        "random:100%",
        "rows:each",
        "records:1",
        "ids:a",
        "tail:5",
    ),
    *(
        "random:99999999999999999999",
        "random:5x999999",
        "rows:" + ",".join(["0"] * 3),
        "coherent:\udcff",
        "::",
        "rows:-1",
    ),
)
TESTS = (
    "0",
    "0:3",
    "all",
    "mean",
    "misclassified",
    "99",
    "-1",
    "0,0",
    "record:1",
    "id:x",
    "removed",
    "0:99999999999999999999",
)
QUANTITIES = (
    "loss",
    "prob",
    "margin",
    "logit:0",
    "param:x0",
    "gap:f0",
    "score:accuracy",
    "prediction",
    "prob:9",
    "abs:loss",
    "gap-tpr:f0",
    "worst:f0",
    "abs:gap-loss:f0",
)


def values_of(parameter: Any, draw: random.Random) -> str:
    """A value for an option, most often one of its own kind."""
    name = parameter.opts[-1]
    own: dict[str, tuple[str, ...]] = {
        "--group": SPECS,
        "--within": SPECS,
        "--candidates": SPECS,
        "--test": TESTS,
        "--quantity": QUANTITIES,
        "--model": ("m.h5", "i.h5", "gone.h5", "pipe", "/dev/zero", ".", "rows.txt"),
        "--data": ("digits", "b.npz", "t.csv", "pipe", ".", "/dev/null", "gone", "m.h5"),
        "--groups": ("rows.txt", "specs.txt", "pipe", "/dev/zero", "-", "m.h5"),
        "--output": ("o.h5", "o.csv", "m.h5", ".", "gone/o.h5", "/dev/null", "pipe", "b.npz"),
        "--method": ("first", "first,second", "rif", "newton", "first-koh", "second-full", "first,first", "x"),
        "--format": ("csv", "json", "ndjson", "table", "auto", "rows", "x"),
        "--solver": ("auto", "cg", "cholesky", "x"),
        "--size": ("3", "10%", "1", "59", "60", "3,5", "0"),
    }
    if name in own and draw.random() < 0.85:
        return draw.choice(own[name])
    if parameter.bare_type() in (int, float) and draw.random() < 0.95:
        return draw.choice(NUMBERS)
    return draw.choice((*WORDS, *NUMBERS))


def command_line(commands: dict[str, Any], draw: random.Random) -> list[str]:
    """A command with some of its options and values that may be anything."""
    name = draw.choice(sorted(commands))
    parameters = [one for one in commands[name].params if one.param_type_name == "option" and one.name != "help"]
    chosen = draw.sample(parameters, draw.randrange(0, min(5, len(parameters))))
    words = [name]
    if name in ("influence", "groundtruth", "select"):
        # without a model the digits are trained, and a search through them for every test row takes its time
        words += ["--model", "m.h5"] if name == "select" or draw.random() < 0.9 else []
        words += ["--group", draw.choice(SPECS[:7])] if name != "select" and draw.random() < 0.8 else []
        words += ["--test", draw.choice(TESTS[:4])] if draw.random() < 0.8 else []
        words += ["--size", "3"] if name == "select" and draw.random() < 0.8 else []
    elif name == "train":
        words += ["--data", "b.npz", "-o", "q.h5", "--force"] if draw.random() < 0.9 else []
    elif name == "compare":
        words += draw.choice((["i.h5", "t.h5"], ["i.h5"], ["m.h5", "t.h5"], ["pipe", "t.h5"], []))
    for parameter in chosen:
        option = draw.choice((parameter.opts[-1], *parameter.secondary_opts))
        words += [option] if parameter.is_flag else [option, values_of(parameter, draw)]
    return words


def command_lines(folder: Path, seed: int, numbers: Iterable[int]) -> Tally:
    """Every command with options and values drawn at random."""
    import typer.main

    from influence_cli.cli import app

    right = make_artifacts(folder)
    (folder / "rows.txt").write_text("0\n3\n5\n")
    (folder / "specs.txt").write_text("random:5\n# none\nrows:1,2\n")
    (folder / "t.csv").write_bytes(make_data(folder)["t.csv"][0])
    load_everything()
    commands = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    tally = Tally("command lines")
    kept = {name: (folder / name).read_bytes() for name in ("b.npz", "rows.txt", "specs.txt", "t.csv")} | right
    for number in numbers:
        words = command_line(commands, random.Random(f"{seed} words {number}"))
        outcome = forked(words, folder)
        problem = verdict(outcome)
        for name, content in kept.items():
            if (folder / name).read_bytes() != content:
                if name not in words or "--force" not in words:  # the factor of a model may be cached in it
                    problem = problem or (f"{name} has changed" if name != "m.h5" else None)
                (folder / name).write_bytes(content)
        tally.count(f"{number} {' '.join(ascii(word)[1:-1][:60] for word in words)}", outcome, problem)
        for name in ("o.h5", "o.csv", "q.h5", "ginf.h5"):
            (folder / name).unlink(missing_ok=True)
    return tally


Campaign = Callable[..., Tally]
