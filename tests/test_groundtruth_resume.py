"""``ginf groundtruth -o``: killed at any moment, interrupted, run twice at once, and gone on with."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import time
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from cli_tools import GINF, preloaded

from influence_cli.analysis import groundtruth
from influence_cli.artifacts.lock import exclusive
from influence_cli.artifacts.results import load_truth
from influence_cli.cli import run
from influence_cli.errors import ExitCode
from influence_cli.results import PENDING

GROUPS = 640
"""10 blocks of 64, a second or two."""
BLOCK = 64


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("resume") / "model.h5"
    with redirect_stdout(io.StringIO()):
        assert run(["train", "--data", "synthetic", "--l2", "1e-4", "-o", str(path), "--quiet"]) == 0
    return str(path)


def command(model, path, *more, count=GROUPS):
    asked = ["--model", model, "--group", f"random:30%x{count}", "--test", "misclassified:3", "--jobs", "2"]
    return ["groundtruth", *asked, "-o", str(path), *more]


def start(arguments, ginf=GINF, **streams):
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, **streams}
    return subprocess.Popen([*ginf, *arguments], **pipes)


def wait_for(path, groups, process):
    """Until the file holds that many groups."""
    while process.poll() is None:
        if path.exists() and done(load_truth(path)).sum() >= groups:
            return
        time.sleep(0.02)
    pytest.fail(f"ended before {groups} groups: {process.stderr.read()}")


def done(result):
    return np.array([status != PENDING for status in result.status])


def bits(result, *, timing=False):
    """Everything in a result that must be the same to the last bit."""
    names = ("base", "actual", "grad_norm", "iterations", *(["seconds"] if timing else []))
    arrays = {name: getattr(result, name).tobytes() for name in names}
    return arrays | {"status": result.status, "digests": result.groups.digest, "tests": result.tests.tolist()}


def rows_of(result, keep):
    names = ("actual", "grad_norm", "iterations", "seconds")
    return {name: getattr(result, name)[keep].tobytes() for name in names}


def test_a_run_that_is_killed_again_and_again_ends_with_the_bits_of_one_that_is_not(model, tmp_path, capsys):
    whole, path = tmp_path / "whole.h5", tmp_path / "truth.h5"
    assert run(command(model, whole, "--quiet")) == ExitCode.OK
    capsys.readouterr()
    before = None
    for blocks, end in ((0, signal.SIGKILL), (1, signal.SIGKILL), (5, signal.SIGINT)):
        process = start(command(model, path, *(["--resume"] if path.exists() else [])))
        wait_for(path, blocks * BLOCK, process)
        if blocks == 1:  # while that one writes, nobody else may
            for option in ("--resume", "--force", "--quiet"):
                assert run(command(model, path, option)) == ExitCode.FILE
                out, err = capsys.readouterr()
                assert f"another ginf process is filling {path}" in err
                assert out == ""
        process.send_signal(end)
        said = process.communicate()[1]
        assert process.returncode == (-end if end == signal.SIGKILL else ExitCode.INTERRUPTED)
        now = load_truth(path)  # whole at any moment
        finished = done(now)
        assert finished.sum() >= blocks * BLOCK
        assert not finished.all(), "the machine is too fast for this test: raise GROUPS"
        if end == signal.SIGINT:
            assert f"interrupted: {finished.sum()} of {GROUPS} groups were retrained and are kept in {path}" in said
            assert "; the same command with --resume goes on from there" in said
            assert "Traceback" not in said
        if before is not None:  # what was done is kept as it was, its times as well
            kept = done(before)
            assert (finished | ~kept).all()
            assert rows_of(now, kept) == rows_of(before, kept)
        before = now
    assert run(command(model, path, "--resume")) == ExitCode.OK
    said = capsys.readouterr().err
    assert f"resuming {path}: {done(before).sum()} of {GROUPS} groups are done" in said
    assert bits(load_truth(path)) == bits(load_truth(whole))
    assert not list(tmp_path.glob(".ginf-*"))


@pytest.fixture
def blocks(monkeypatch):
    """The blocks that are retrained, as they begin; the test may end one by force."""
    original, seen = groundtruth._retrain_block, []
    seen_and_end = {"seen": seen, "end": {}}

    def watched(*arguments):
        block = next(item for item in arguments if isinstance(item, slice))
        seen.append(block.start // BLOCK)
        if block.start // BLOCK in seen_and_end["end"]:
            raise seen_and_end["end"].pop(block.start // BLOCK)
        return original(*arguments)

    monkeypatch.setattr(groundtruth, "_retrain_block", watched)
    return seen_and_end


@pytest.mark.parametrize("end", [KeyboardInterrupt(), RuntimeError("power failure")])
def test_only_the_block_in_flight_is_done_again(model, tmp_path, capsys, blocks, end):
    path = tmp_path / "truth.h5"
    asked = command(model, path, "--jobs", "1", count=4 * BLOCK)
    blocks["end"][2] = end
    assert run([*asked, "--quiet"]) == (ExitCode.INTERRUPTED if isinstance(end, KeyboardInterrupt) else ExitCode.DEFECT)
    assert blocks["seen"] in ([0, 1, 2], [0, 1, 2, 3])  # the next may have begun before the news was round
    half = load_truth(path)
    assert done(half).tolist() == [True] * 2 * BLOCK + [False] * 2 * BLOCK
    blocks["seen"].clear()
    assert run([*asked, "--resume"]) == ExitCode.OK
    assert blocks["seen"] == [2, 3]
    captured = capsys.readouterr()
    assert f"resuming {path}: 128 of 256 groups are done" in captured.err
    # the finished file only prints: no retraining, no factor, not a byte written
    content, printed = path.read_bytes(), captured.out
    blocks["seen"].clear()
    assert run([*asked, "--resume"]) == ExitCode.OK
    captured = capsys.readouterr()
    assert blocks["seen"] == []
    assert captured.out == printed
    assert captured.err == f"ginf: resuming {path}: 256 of 256 groups are done\n"
    assert path.read_bytes() == content


def test_interrupted_without_a_file(model, capsys, blocks):
    blocks["end"][1] = KeyboardInterrupt()
    asked = ["groundtruth", "--model", model, "--group", f"random:5%x{2 * BLOCK}", "--test", "0", "--jobs", "1"]
    assert run(asked) == ExitCode.INTERRUPTED
    err = capsys.readouterr().err
    kept = "64 of 128 groups were retrained and nothing is kept; -o truth.h5 keeps what is done"
    assert f"ginf: interrupted: {kept}" in err


def test_ctrl_c_does_not_wait_for_the_block_in_flight(tmp_path):
    """One block that takes far longer than anybody waits."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(24_000, 30))
    y = (X @ rng.normal(size=(30, 8)) + 3 * rng.normal(size=(24_000, 8))).argmax(axis=1)
    np.savez(tmp_path / "data.npz", X=X, y=y)
    model, path = str(tmp_path / "model.h5"), tmp_path / "truth.h5"
    with redirect_stdout(io.StringIO()):
        assert run(["train", "--data", str(tmp_path / "data.npz"), "--tol", "1e-3", "-o", model, "--quiet"]) == 0
    process = start(
        [
            "groundtruth",
            "--model",
            model,
            "--group",
            "random:50%x64",
            "--test",
            "0",
            "--cold",
            "-o",
            str(path),
            "--quiet",
        ]
    )
    wait_for(path, 0, process)
    time.sleep(0.7)
    process.send_signal(signal.SIGINT)
    sent = time.perf_counter()
    said = process.communicate()[1]
    assert time.perf_counter() - sent < 3  # under a second where nothing else runs
    assert process.returncode == ExitCode.INTERRUPTED
    assert "interrupted: 0 of 64 groups were retrained and are kept in" in said
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["data.npz", "model.h5", "truth.h5"]


# --- what is gone on with ---


@pytest.fixture
def begun(model, tmp_path, monkeypatch, capsys):
    """A finished truth.h5 of a small command, and that command."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.txt").write_text("1\n2\n3\n")
    asked = {"--model": model, "--group": "random:5%x2", "--test": "0:3", "--seed": "1", "-o": "truth.h5"}
    assert run(line(asked | {"--group ": "rows:@rows.txt"})) == ExitCode.OK
    capsys.readouterr()
    return asked


def line(asked):
    return ["groundtruth", "--quiet", *(part for option, value in asked.items() for part in (option.strip(), value))]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--group": "random:6%x2"}, "it was made with groups ['random:5%x2', 'rows:@rows.txt'], not ['random:6%x2', "),
        ({"--seed": "2"}, "it was made with seed 1, not 2"),
        ({"--test": "0:4"}, "it was made with test '0:3', not '0:4'"),
        ({"--tol": "1e-9"}, "it was made with tol 1e-08, not 1e-09"),
        ({"--quantity": "prob"}, "it was made with quantity 'loss', not 'prob'"),
        ({"--solver": "cg"}, "it was made with solver 'cholesky', not 'cg'"),
    ],
)
def test_another_command_is_refused_with_what_differs(begun, changes, message, capsys):
    content = Path("truth.h5").read_bytes()
    assert run([*line(begun | {"--group ": "rows:@rows.txt"} | changes), "--resume"]) == ExitCode.FILE
    out, err = capsys.readouterr()
    assert "ginf: error: truth.h5 cannot be resumed: " in err
    assert message in err
    assert "hint: repeat the command that made it, or start over with --force" in err
    assert out == ""
    assert Path("truth.h5").read_bytes() == content


def test_cold_and_proximal_are_other_commands(begun, capsys):
    assert run([*line(begun | {"--group ": "rows:@rows.txt"}), "--resume", "--cold"]) == ExitCode.FILE
    assert "it was made with cold False, not True" in capsys.readouterr().err
    proximal = ["--retrain", "proximal"]
    assert run([*line(begun | {"-o": "other.h5"}), *proximal]) == ExitCode.OK
    capsys.readouterr()
    assert run([*line(begun | {"-o": "other.h5"}), "--resume"]) == ExitCode.FILE
    assert "it was made with retrain 'proximal', not None" in capsys.readouterr().err
    assert run([*line(begun | {"-o": "other.h5"}), "--resume", *proximal]) == ExitCode.OK


def test_the_same_words_for_other_rows_are_refused(begun, tmp_path, capsys):
    (tmp_path / "rows.txt").write_text("1\n2\n4\n")
    assert run([*line(begun | {"--group ": "rows:@rows.txt"}), "--resume"]) == ExitCode.FILE
    assert "truth.h5 cannot be resumed: its groups or test rows are others" in capsys.readouterr().err


def test_another_model_is_refused(begun, tmp_path, capsys):
    with redirect_stdout(io.StringIO()):
        assert run(["train", "--data", "synthetic", "--l2", "0.1", "-o", "other.h5", "--quiet"]) == 0
    assert run([*line(begun | {"--group ": "rows:@rows.txt", "--model": "other.h5"}), "--resume"]) == ExitCode.FILE
    expected = "truth.h5 and other.h5 do not belong together: they come from different models"
    assert expected in capsys.readouterr().err


def test_an_existing_file_is_kept_unless_forced(begun, capsys, blocks):
    asked = line(begun)
    content = Path("truth.h5").read_bytes()
    assert run(asked) == ExitCode.USAGE
    assert "truth.h5 exists already" in capsys.readouterr().err
    assert Path("truth.h5").read_bytes() == content
    assert run([*asked, "--force"]) == ExitCode.OK
    assert blocks["seen"] == [0]
    assert len(load_truth("truth.h5").groups) == 2


def test_resume_without_its_file_starts_one(begun, capsys):
    asked = [part for part in line(begun | {"-o": "new.h5"}) if part != "--quiet"]
    assert run([*asked, "--resume"]) == ExitCode.OK
    assert "ginf: there is no new.h5 to go on with: starting it" in capsys.readouterr().err
    assert done(load_truth("new.h5")).all()


@pytest.mark.parametrize("kind", ["influence", "text"])
def test_resume_of_something_else_is_refused(begun, kind, capsys, tmp_path):
    if kind == "text":
        (tmp_path / "other.h5").write_text("not HDF5")
    else:
        with redirect_stdout(io.StringIO()):
            assert run(["influence", *line(begun | {"-o": "other.h5"})[1:]]) == ExitCode.OK
    assert run([*line(begun | {"-o": "other.h5"}), "--resume"]) == ExitCode.FILE
    err = capsys.readouterr().err
    expected = {"influence": "other.h5 is of kind 'influence', expected 'truth'", "text": "is not an HDF5 file"}
    assert expected[kind] in err


# --- the lock ---


def test_one_writer_a_file(tmp_path):
    from influence_cli.errors import FileError

    path = tmp_path / "a.h5"
    (tmp_path / "link.h5").symlink_to(path)
    with exclusive(path), exclusive(tmp_path / "b.h5"):
        for other in (path, tmp_path / "link.h5", f"{tmp_path}/../{tmp_path.name}/a.h5"):
            with pytest.raises(FileError, match="another ginf process is filling") as caught, exclusive(other):
                pass
            assert caught.value.code == ExitCode.FILE
    with pytest.raises(ZeroDivisionError), exclusive(path):
        raise ZeroDivisionError
    with exclusive(path):  # whatever ended the one before
        pass
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["link.h5"]


# --- progress ---


def test_progress_with_the_time_left_on_a_terminal_only(model, tmp_path):
    reader, writer = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    process = start(command(model, tmp_path / "a.h5", count=2 * BLOCK), preloaded(), stderr=writer, env=environment)
    os.close(writer)
    seen = b""
    while True:
        try:
            part = os.read(reader, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
    os.close(reader)
    assert process.wait() == 0
    assert b"retraining" in seen
    assert b"/128" in seen
    assert b"0:00:0" in seen or b"-:--:--" in seen
    process = start(command(model, tmp_path / "b.h5", count=2 * BLOCK), preloaded())
    assert "retraining" not in process.communicate()[1]
