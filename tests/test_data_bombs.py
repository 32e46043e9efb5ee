"""Files that claim more than they hold, or unpack to more than there is; and what is no file at all."""

import gzip
import io
import os
import resource
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest

from influence_cli.cli import run
from influence_cli.data import memory
from influence_cli.errors import ExitCode


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(memory, "UNPACKED_BYTES", 1_000_000)
    return tmp_path


def refused(capsys, *arguments):
    """The sentence with which a command is refused; nothing large was allocated for it."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run([*arguments, "--quiet"]) == ExitCode.FILE
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB
    err = capsys.readouterr().err
    assert err.startswith("ginf: error: ")
    return err


def test_a_gzip_bomb(capsys, folder):
    with gzip.open("t.csv.gz", "wb") as file:
        file.write(b"a,label\n")
        for _ in range(2_000):
            file.write(b"1,2\n" * 10_000)
    assert "at most 1,000,000 fit here" not in refused(capsys, "train", "--data", "t.csv.gz", "--label", "label")
    with gzip.open("line.csv.gz", "wb") as file:
        for _ in range(2_000):
            file.write(b"1" * 40_000)
    assert "fit here" in refused(capsys, "train", "--data", "line.csv.gz", "--label", "label")
    for role in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        with gzip.open(f"{role}-ubyte.gz", "wb") as file:
            file.write(bytes([0, 0, 8, 1, 0, 0, 0, 9]) + bytes(50_000_000))
    assert "fit here" in refused(capsys, "train", "--data", ".")


def test_zip_bombs(capsys):
    np.savez_compressed("big.npz", X=np.zeros((3_000_000, 4)), y=np.zeros(3_000_000))
    assert "fit here" in refused(capsys, "train", "--data", "big.npz")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**9, 4)})
    with zipfile.ZipFile("claims.npz", "w") as archive:
        archive.writestr("X.npy", header.getvalue())
        archive.writestr("y.npy", header.getvalue())
    assert "X.npy claims 32,000,000,000 bytes" in refused(capsys, "train", "--data", "claims.npz")


def test_chunks_and_links(capsys):
    with h5py.File("claims.h5", "w") as file:
        file.create_dataset("X", (10**9, 4), "f8")
        file["y"] = np.zeros(9)
    assert "X: cut short: it claims 32,000,000,000 bytes" in refused(capsys, "train", "--data", "claims.h5")
    os.mkfifo("pipe")
    with h5py.File("link.h5", "w") as file:
        file["X"] = h5py.ExternalLink("pipe", "/X")
        file["y"] = np.zeros(9)
    assert "X: expected numbers in this file, found a link" in refused(capsys, "train", "--data", "link.h5")
    with h5py.File("virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((9, 2), "f8")
        layout[:] = h5py.VirtualSource("gone.h5", "X", (9, 2))
        file.create_virtual_dataset("X", layout)
        file["y"] = np.zeros(9)
    assert "numbers lie in other files" in refused(capsys, "train", "--data", "virtual.h5")


def test_a_parquet_that_claims_too_much(capsys):
    polars = pytest.importorskip("polars")
    table = polars.DataFrame(
        {"a": polars.repeat(1.0, 3_000_000, eager=True), "label": polars.repeat(1, 3_000_000, eager=True)}
    )
    table.write_parquet("big.parquet")
    assert "fit here" in refused(capsys, "train", "--data", "big.parquet", "--label", "label")


@pytest.mark.parametrize("name", ["pipe.csv", "pipe.npz", "pipe.svm", "pipe.h5", "pipe.parquet", "pipe"])
def test_only_regular_files_are_read(capsys, name):
    os.mkfifo(name)
    for option in ("--data", "--test-data"):
        data = ["--data", name] if option == "--data" else ["--data", "digits", "--test-data", name]
        assert run(["train", *data, "--label", "x", "--quiet"]) in (ExitCode.USAGE, ExitCode.FILE)
        assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--groups", "--group"])
def test_lists_of_groups_are_regular_and_have_an_end(capsys, option, monkeypatch):
    monkeypatch.setattr("influence_cli.specs.lists.LONGEST_TEXT", 1000)
    os.mkfifo("pipe")
    Path("long.txt").write_text("rows:1\n" * 1000)
    form = "{}" if option == "--groups" else "rows:@{}"
    for name, message in (
        ("pipe", "pipe is a named pipe"),
        ("/dev/zero", "is a device"),
        ("long.txt", "has more than 1,000"),
    ):
        assert run(["influence", option, form.format(name), "--test", "0", "--quiet"]) == ExitCode.FILE
        assert message in capsys.readouterr().err


def test_a_group_file_is_split_at_line_ends_alone(capsys, folder):
    X = np.random.default_rng(0).normal(size=(40, 2))
    labels = np.array(["a\u2028b", "c\x0bd"])[np.arange(40) % 2]
    np.savez("d.npz", X=X, y=labels)
    assert run(["train", "--data", "d.npz", "-o", "m.h5", "--quiet"]) == 0
    (folder / "groups.txt").write_text("coherent:a\u2028b:3\r\ncoherent:c\x0bd:3\rrandom:5\n", newline="")
    capsys.readouterr()
    assert (
        run(["influence", "--model", "m.h5", "--groups", "groups.txt", "--test", "0", "--method", "first", "--quiet"])
        == 0
    )
    assert len(capsys.readouterr().out.splitlines()) >= 4


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
def test_standard_input_without_an_end(capsys, monkeypatch):
    with open("/dev/zero") as zeros:  # noqa: PTH123
        monkeypatch.setattr("sys.stdin", zeros)
        assert run(["influence", "--groups", "-", "--test", "0", "--quiet"]) == ExitCode.FILE
    assert "standard input holds binary data" in capsys.readouterr().err
