"""Passes on the workers of a real dask scheduler: the bits of one machine, whoever is lost on the way."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from crew import Crew, figures, same_bits

from influence_cli.cli import run
from influence_cli.core.weights import Weights
from influence_cli.engines import remote

pytest.importorskip("distributed", reason="the extra ginf[dask] is not installed")
from influence_cli.engines import dask

MEMORY = ("--memory", "1GiB")
ROWS = 12_000
COMMANDS = {
    "influence": "--group random:1%x3 --group coherent:1:2% --test 0:3 --method first,second,newton,rif,refined",
    "groundtruth": "--group random:1%x3 --group coherent:1:20% --test 0:3",
    "select": "--test 2 --size 1% --verify",
}


@pytest.fixture(scope="module")
def crew(tmp_path_factory):
    made = Crew(tmp_path_factory.mktemp("crew"), 2)
    yield made
    made.close()


@pytest.fixture(scope="module", params=("softmax", "linear"))
def folder(request, tmp_path_factory):
    """The data, and the model and every result of one machine."""
    place = tmp_path_factory.mktemp(request.param)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(ROWS, 6))
    outputs = X @ rng.normal(size=(6, 3)) + rng.gumbel(size=(ROWS, 3))
    y = {"softmax": outputs.argmax(axis=1), "linear": outputs[:, 0]}
    np.savez(place / "d.npz", X=X, y=y[request.param])
    (place / "kind").write_text(request.param, encoding="utf-8")
    return place


def ask(place: Path, command: str, name: str, *options: str) -> int:
    kind = (place / "kind").read_text(encoding="utf-8")
    if command == "train":
        regression = ("--estimator", "linear") if kind == "linear" else ()
        given = ("--data", str(place / "d.npz"), *regression, "--link-data", "-o", str(place / f"{name}.h5"))
    else:
        asked = COMMANDS[command].split()
        if kind == "linear":
            asked = ["random:3%" if word.startswith("coherent") else word for word in asked]
        given = ("--model", str(place / f"{name}.h5"), *asked, "-o", str(place / f"{command}-{name}.h5"))
    force = () if "--resume" in options else ("--force",)
    return run([command, *given, *MEMORY, *force, "--quiet", *options])


@pytest.fixture
def streamed(monkeypatch):
    """Rows are read in every pass on one machine too, however few they are."""
    from influence_cli.data.readers import in_place

    monkeypatch.setattr(in_place, "is_large", lambda needed, split: True)


def test_every_command_gives_the_bits_of_one_machine(folder, crew, streamed, capsys):
    assert ask(folder, "train", "own") == 0
    assert ask(folder, "train", "far", "--scheduler", crew.address) == 0
    same_bits(folder / "own.h5", folder / "far.h5")
    for command in COMMANDS:
        assert ask(folder, command, "own") == 0
        assert ask(folder, command, "far", "--scheduler", crew.address) == 0
        same_bits(folder / f"{command}-own.h5", folder / f"{command}-far.h5")


def test_compressed_rows_are_converted_and_give_the_same_bits(tmp_path, crew, monkeypatch, capsys):
    from influence_cli.data import load

    rng = np.random.default_rng(0)
    X = rng.normal(size=(900, 40)) * (rng.random((900, 40)) < 0.2)
    y = (X[:, 0] + rng.logistic(size=900) > 0).astype(int).tolist()
    lines = (f"{y[row]} " + " ".join(f"{j + 1}:{X[row, j]:.3f}" for j in np.flatnonzero(X[row])) for row in range(900))
    (tmp_path / "d.svm").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, options in (("own", MEMORY), ("far", ("--scheduler", crew.address))):
        if name == "own":
            monkeypatch.setattr(load, "is_large", lambda needed, split: True)
        model = str(tmp_path / f"{name}.h5")
        assert run(["train", "--data", str(tmp_path / "d.svm"), "--standardize", "-o", model, *options]) == 0
        assert ("every pass reads" if name == "own" else "by the workers of") in capsys.readouterr().err
        for command, asked in COMMANDS.items():
            words = asked.replace("--verify", "").split()
            out = str(tmp_path / f"{command}-{name}.h5")
            assert run([command, "--model", model, *words, "-o", out, *options, "--quiet"]) == 0
    same_bits(tmp_path / "own.h5", tmp_path / "far.h5")
    for command in COMMANDS:
        same_bits(tmp_path / f"{command}-own.h5", tmp_path / f"{command}-far.h5")


@pytest.mark.parametrize("kind", ["csv", "parquet", "pattern"])
def test_tables_are_converted_and_give_the_same_bits(tmp_path, crew, monkeypatch, capsys, kind):
    """Beside numbers: categories, of which one is in the last row alone, gaps, a split of their own, and groups by a
    column that is no feature."""
    from influence_cli.data import convert

    rng = np.random.default_rng(0)
    table = pl.DataFrame({f"x{j}": rng.normal(size=900) * 10.0**j for j in range(4)})
    gaps = pl.Series("gaps", [None if row % 50 == 3 else row / 7 for row in range(900)])
    site = pl.Series("site", ["late" if row == 899 else f"s{row % 3}" for row in range(900)])
    y = pl.Series("y", (table["x0"].to_numpy() + rng.logistic(size=900) > 0).astype(int))
    table = table.with_columns(gaps, site, pl.Series("ward", [f"w{row % 9}" for row in range(900)]), y)
    source = str(tmp_path / {"csv": "d.csv", "parquet": "d.parquet", "pattern": "d*.csv"}[kind])
    for number, part in enumerate([table] if kind != "pattern" else [table[:500], table[500:]]):
        write = part.write_parquet if kind == "parquet" else part.write_csv
        write(source.replace("*", str(number)))
    asked = dict(COMMANDS, influence="--group by:ward --group random:1%x3 --test 0:3 --method first,second,refined")
    for name, options in (("own", MEMORY), ("far", ("--scheduler", crew.address))):
        if name == "own":
            monkeypatch.setattr(convert, "is_large", lambda needed, split: True)
        else:
            monkeypatch.undo()
        model = str(tmp_path / f"{name}.h5")
        shared = ("--label", "y", "--drop", "ward", "--impute", "median")
        assert run(["train", "--data", source, *shared, "-o", model, *options]) == 0
        assert ("every pass reads" if name == "own" else "by the workers of") in capsys.readouterr().err
        for command, words in asked.items():
            out = str(tmp_path / f"{command}-{name}.h5")
            assert run([command, "--model", model, *words.split(), "-o", out, *options, "--quiet"]) == 0
    same_bits(tmp_path / "own.h5", tmp_path / "far.h5")
    for command in COMMANDS:
        same_bits(tmp_path / f"{command}-own.h5", tmp_path / f"{command}-far.h5")
    assert run(["train", "--data", source, *shared, "-o", str(tmp_path / "memory.h5"), "--quiet"]) == 0
    found, expected = (figures(tmp_path / f"{name}.h5")["params/theta"] for name in ("far", "memory"))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    place = tmp_path_factory.mktemp("small")
    rng = np.random.default_rng(1)
    X = rng.normal(size=(ROWS, 4))
    np.savez(place / "d.npz", X=X, y=(X[:, 0] + rng.logistic(size=ROWS) > 0).astype(int))
    (place / "kind").write_text("logistic", encoding="utf-8")
    return place


@pytest.mark.parametrize("command", ["train", *COMMANDS])
def test_a_killed_worker_changes_nothing(command, small, crew, streamed, monkeypatch, capsys):
    """It has done a pass and is killed without a chance to say so; another one comes and knows nothing."""
    passes, results = [], dask.Cluster.results

    def killing(self, work, items, shape):
        passes.append(len(items))
        if len(passes) == 2:
            alive = self._client.run(os.getpid)
            crew.workers[alive[min(alive)]].kill()
            crew.reinforce()
        return results(self, work, items, shape)

    assert ask(small, "train", "own") == 0
    assert command == "train" or ask(small, "train", "far", "--scheduler", crew.address) == 0
    assert command == "train" or ask(small, command, "own") == 0
    monkeypatch.setattr(dask.Cluster, "results", killing)
    assert ask(small, command, "far", "--scheduler", crew.address) == 0
    assert len(passes) > 2
    name = "" if command == "train" else f"{command}-"
    same_bits(small / f"{name}own.h5", small / f"{name}far.h5")


def test_a_scheduler_that_is_gone_costs_no_finished_group(small, tmp_path, streamed, monkeypatch, capsys):
    crew, passes, results = Crew(tmp_path, 1), [], dask.Cluster.results

    def ending(self, work, items, shape):
        passes.append(len(items))
        if len(passes) == 4:
            crew.scheduler.kill()
            crew.scheduler.wait()
        return results(self, work, items, shape)

    try:
        assert ask(small, "train", "own") == 0
        monkeypatch.setattr(dask, "CONNECT_SECONDS", 1.0)
        monkeypatch.setattr(dask.Cluster, "results", ending)
        assert ask(small, "groundtruth", "own", "--scheduler", crew.address) == 3
    finally:
        crew.close()
    said = capsys.readouterr().err
    assert f"error: the scheduler at {crew.address} is gone" in said
    assert "--resume" in said and "Traceback" not in said
    monkeypatch.setattr(dask.Cluster, "results", results)
    assert ask(small, "groundtruth", "own", "--resume") == 0


def test_what_is_wrong_is_said(small, crew, streamed, monkeypatch, capsys):
    def said(*options: str, code: int) -> str:
        assert ask(small, "influence", "own", *options) == code
        found = capsys.readouterr().err
        assert "Traceback" not in found
        return found

    assert ask(small, "train", "own") == 0
    capsys.readouterr()
    assert "--scheduler expects tcp://HOST:PORT, got 'nowhere'" in said("--scheduler", "nowhere", code=2)
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 0.5)
    assert "no dask scheduler answers at tcp://127.0.0.1:9" in said("--scheduler", "tcp://127.0.0.1:9", code=3)
    monkeypatch.setattr(dask, "CONNECT_SECONDS", 10.0)
    with monkeypatch.context() as patch:
        patch.setattr(dask, "content_digest", lambda path: str(os.getpid()))
        assert "another content" in said("--scheduler", crew.address, code=3)
    with monkeypatch.context() as patch:
        patch.setattr("influence_cli.__version__", "9.9")
        assert "has ginf" in said("--scheduler", crew.address, code=3)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "distributed", None)
        assert 'pip install "ginf[dask]"' in said("--scheduler", crew.address, code=2)
    np.savez_compressed(small / "packed.npz", X=np.ones((4, 2)), y=np.arange(4))
    train = ["train", "-o", str(small / "t.h5"), "--scheduler", crew.address, "--data"]
    assert run([*train, str(small / "packed.npz")]) == 2
    assert "its features are packed, so workers cannot read them in place" in capsys.readouterr().err
    assert run([*train, "digits"]) == 2 and "those of digits are held in memory" in capsys.readouterr().err
    table = small / "t.csv"
    table.write_text("a,y\n" + "".join(f"{i},{i % 2}\n" for i in range(40)), encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(dask, "content_digest", lambda path: str(os.getpid()))
        assert run([*train, str(table), "--label", "y"]) == 3
    found = capsys.readouterr().err
    assert "another content" in found and "features-" in found


def test_a_scheduler_without_workers_is_an_error(tmp_path, small, streamed, capsys):
    crew = Crew(tmp_path, 0)
    try:
        assert ask(small, "train", "own", "--scheduler", crew.address) == 3
    finally:
        crew.close()
    assert f"no worker has joined the scheduler at {crew.address}" in capsys.readouterr().err


def test_what_is_sent_keeps_its_steps_and_is_sent_once():
    sender, program = remote.Sender(), "test"
    large = np.arange(4096.0)
    w = Weights(large, (np.arange(3000), np.arange(5)), np.ones(2), np.zeros(2))
    views = (np.ones((1, 5, 3)).transpose(0, 2, 1), np.arange(24.0).reshape(4, 6)[:, ::2], np.ones((3, 1))[:, :1].T)
    content = sender.packed((large, w, views))
    assert sender.packed((large, w, views)) == content and len(content) < large.nbytes
    remote.keep(program, dict(sender.values))
    found, weights, again = remote._Unpickler(content, remote._kept[program]).load()
    assert weights.base is found and np.array_equal(weights.column(1), w.column(1))
    for one, other in zip(views, again, strict=True):
        assert one.strides == other.strides and np.array_equal(one, other)
    remote.let_go(program)
    del large, w, found, weights
    assert not sender.values
