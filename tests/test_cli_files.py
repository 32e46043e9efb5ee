"""The files that commands share: the default model, refusals before computing, full disks, and others who write too."""

import ctypes
import os
import resource
import subprocess
import sys

import numpy as np
import pytest
from cli_tools import GINF, environment, leftovers, preloaded, rows_of, save_blobs, train

from influence_cli.artifacts.results import load_influence
from influence_cli.cli import run

FEW = ("--group", "random:5", "--test", "1")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working folder, with a small model of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GINF_MODEL", raising=False)
    train(save_blobs(tmp_path / "blobs.npz"), tmp_path / "ginf.h5")
    return tmp_path


def side_by_side(folder, count, *arguments):
    """The same command several times at once: exit codes, outputs and errors."""
    started = [
        subprocess.Popen(
            [*preloaded(), *arguments], cwd=folder, env=environment(),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(count)
    ]  # fmt: skip
    done = [(*process.communicate(timeout=60), process.returncode) for process in started]
    return [code for *_, code in done], [out for out, *_ in done], [err for _, err, _ in done]


def test_first_runs_at_once_share_one_default_model(tmp_path, monkeypatch, capsys):
    codes, outs, errors = side_by_side(tmp_path, 2, "influence", "--group", "coherent:3", "--test", "17")
    assert codes == [0, 0]
    assert len(set(outs)) == 1
    announced = [error for error in errors if "trained the built-in digits model" in error]
    assert len(announced) == 1
    assert "(1,438 rows, 10 classes, l2 0.001, intercepts penalised) and saved it as ginf.h5" in announced[0]
    assert [path.name for path in tmp_path.iterdir()] == ["ginf.h5"]
    before = (tmp_path / "ginf.h5").stat()
    monkeypatch.chdir(tmp_path)
    assert run(["influence", "--group", "coherent:3", "--test", "17", "--verbose"]) == 0
    again = capsys.readouterr()
    assert again.out == outs[0]
    assert again.err.startswith("ginf: solver cholesky: reusing the factor cached in ginf.h5\n")
    assert (tmp_path / "ginf.h5").stat().st_mtime_ns == before.st_mtime_ns


def test_of_two_runs_that_write_one_file_one_wins(folder):
    codes, _, errors = side_by_side(folder, 2, "influence", *FEW, "-o", "one.h5", "--quiet")
    assert sorted(codes) == [0, 2]
    loser = codes.index(2)
    assert errors[loser] == "ginf: error: one.h5 exists already\nhint: --force replaces it\n"
    load_influence("one.h5")
    codes, *_ = side_by_side(folder, 2, "influence", *FEW, "-o", "one.h5", "--quiet", "--force")
    assert codes == [0, 0]
    load_influence("one.h5")
    assert not leftovers(folder)


def test_an_input_that_is_missing_is_named_before_an_output_that_exists(folder, capsys):
    capsys.readouterr()
    assert run(["train", "--from", "missing.skops", "--data", "blobs.npz"]) == 3
    assert capsys.readouterr().err.startswith("ginf: error: missing.skops: no such file\n")
    assert run(["train", "--data", "missing.npz"]) == 3
    assert "missing.npz" in capsys.readouterr().err


def test_an_existing_result_is_refused_before_anything_is_read(folder, capsys, monkeypatch):
    (folder / "done.h5").write_text("precious")
    capsys.readouterr()
    assert run(["influence", *FEW, "--model", "missing.h5", "-o", "done.h5"]) == 2
    assert capsys.readouterr().err == "ginf: error: done.h5 exists already\nhint: --force replaces it\n"
    monkeypatch.setattr("influence_cli.data.load.load", pytest.fail)
    assert run(["train", "--data", "blobs.npz", "-o", "done.h5"]) == 2
    assert capsys.readouterr().err == "ginf: error: done.h5 exists already\nhint: --force replaces it\n"
    assert (folder / "done.h5").read_text() == "precious"
    assert run(["influence", *FEW, "-o", "done.h5", "--force"]) == 0
    assert load_influence("done.h5").values["first"].shape == (1, 1)


@pytest.mark.parametrize(
    ("output", "code", "text"),
    [
        ("gone/i.h5", 3, "there is no folder"),
        ("folder.h5", 3, "it is a folder"),
        ("pipe.h5", 3, "it is not a regular file"),
        (".", 2, "expected the ending"),
        ("/dev/null", 2, "expected the ending"),
    ],
)
def test_places_that_cannot_be_written(folder, capsys, output, code, text):
    (folder / "folder.h5").mkdir(exist_ok=True)
    if not (folder / "pipe.h5").exists():
        os.mkfifo(folder / "pipe.h5")
    for command in (["influence", *FEW, "--model", "missing.h5"], ["train", "--data", "blobs.npz"]):
        assert run([*command, "-o", output, "--force"]) == code
        assert text in capsys.readouterr().err


def test_no_result_replaces_what_it_was_computed_from(folder, capsys):
    (folder / "link.h5").symlink_to("ginf.h5")
    (folder / "groups.md").write_text("random:5\n")
    whole = (folder / "ginf.h5").read_bytes()
    for options in (
        ["influence", *FEW, "-o", "ginf.h5"],
        ["influence", *FEW, "--model", "ginf.h5", "-o", "./ginf.h5"],
        ["influence", *FEW, "--model", "link.h5", "-o", "ginf.h5"],
        ["influence", "--groups", "groups.md", "--test", "1", "-o", "groups.md"],
    ):
        assert run([*options, "--force"]) == 2
        assert "would replace a file that this command reads" in capsys.readouterr().err
    assert (folder / "ginf.h5").read_bytes() == whole
    rows = (folder / "blobs.npz").read_bytes()
    assert run(["train", "--data", "blobs.npz", "-o", "blobs.npz", "--force"]) == 2
    assert (folder / "blobs.npz").read_bytes() == rows


def run_limited(folder, size, *arguments):
    """A command that may write no file larger than ``size`` bytes, as on a full disk."""

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    return subprocess.run(
        [*GINF, *arguments], cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, preexec_fn=limit,
    )  # fmt: skip


def test_a_full_disk_loses_nothing(folder, capsys):
    capsys.readouterr()
    assert run(["influence", *FEW, "-o", "old.h5"]) == 0
    old, expected = (folder / "old.h5").read_bytes(), capsys.readouterr().out
    for name in ("old.h5", "new.h5"):
        done = run_limited(folder, 2000, "influence", *FEW, "-o", name, "--force", "--quiet")
        assert done.returncode == 3
        assert done.stdout == expected, "what was computed is printed all the same"
        assert done.stderr.startswith(f"ginf: error: cannot write {name}: file too large\nhint: free some space")
    done = run_limited(folder, 2000, "train", "--data", "blobs.npz", "-o", "ginf.h5", "--force", "--quiet")
    assert (done.returncode, done.stdout) == (3, "")
    assert (folder / "old.h5").read_bytes() == old
    assert not (folder / "new.h5").exists()
    assert not leftovers(folder)
    assert run(["influence", *FEW]) == 0
    assert capsys.readouterr().out == expected


def test_a_disk_without_room_for_a_lock_ends_at_once(folder):
    done = run_limited(folder, 0, "groundtruth", "--group", "rows:0,1", "--test", "0", "-o", "t.h5", "--quiet")
    assert done.returncode == 3
    assert done.stderr.startswith("ginf: error: cannot write beside t.h5: File too large")
    assert not leftovers(folder)


def run_bound(folder, *arguments):
    """A command that file permissions hold for, even if root runs it."""

    def drop():
        for capability in (1, 2):  # CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH
            ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP

    return subprocess.run(
        [*GINF, *arguments], cwd=folder, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=60, preexec_fn=drop if os.geteuid() == 0 else None,
    )  # fmt: skip


def test_a_folder_that_cannot_be_written(tmp_path):
    train(save_blobs(tmp_path / "blobs.npz"), tmp_path / "m.h5", "--solver", "cg")
    tmp_path.chmod(0o555)
    try:
        done = run_bound(tmp_path, "influence", *FEW)
        assert done.returncode == 3
        assert done.stderr.startswith("ginf: error: cannot write ginf.h5: permission denied\nhint: choose a folder")
        done = run_bound(tmp_path, "influence", *FEW, "--model", "m.h5")
        assert done.returncode == 0, "a factor that cannot be cached stops nobody"
        assert len(rows_of(done.stdout)) == 1
        assert "the factor could not be cached: cannot write m.h5: permission denied" in done.stderr
    finally:
        tmp_path.chmod(0o755)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blobs.npz", "m.h5"]


def test_the_default_model_is_not_trained_where_it_cannot_be_saved(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("influence_cli.commands.session.fit", pytest.fail)
    (tmp_path / "ginf.h5").symlink_to("gone/ginf.h5")
    assert run(["influence", *FEW]) == 3
    assert "cannot write ginf.h5: there is no folder" in capsys.readouterr().err


def test_the_model_of_the_environment(folder, monkeypatch, capsys):
    train(save_blobs(folder / "two.npz", classes=2), folder / "two.h5")
    capsys.readouterr()
    assert run(["influence", *FEW, "--model", "two.h5"]) == 0
    named = capsys.readouterr().out
    monkeypatch.setenv("GINF_MODEL", "two.h5")
    assert run(["influence", *FEW]) == 0
    assert capsys.readouterr().out == named
    assert run(["influence", *FEW, "--model", "ginf.h5"]) == 0
    assert capsys.readouterr().out != named, "the option goes before the environment"
    monkeypatch.setenv("GINF_MODEL", "missing.h5")
    assert run(["influence", *FEW]) == 3
    assert "there is no file missing.h5" in capsys.readouterr().err


def test_a_seed_beyond_32_bits(folder, capsys):
    for seed in ("4294967296", "99999999999999999999999"):
        assert run(["influence", *FEW, "--seed", seed]) == 0
        assert run(["train", "--data", "synthetic", "--seed", seed, "-o", "s.h5", "--force"]) == 0


def test_threads_limit_the_linear_algebra(folder, monkeypatch):
    """Seen from inside: while the estimate is computed every pool has one thread."""
    from threadpoolctl import threadpool_info

    from influence_cli.analysis import influence as analysis

    seen = []
    original = analysis.influence

    def spy(*arguments, **options):
        seen.extend(pool["num_threads"] for pool in threadpool_info())
        return original(*arguments, **options)

    monkeypatch.setattr(analysis, "influence", spy)
    assert run(["influence", *FEW, "--threads", "1"]) == 0
    assert seen
    assert set(seen) == {1}


def test_python_users_get_the_same_figures(folder, capsys):
    """``analysis.influence`` is what the command calls: no figure is made in the command."""
    assert run(["influence", "--group", "rows:1,2,3", "--test", "0:5", "-o", "i.h5"]) == 0
    script = (
        "from influence_cli.commands import session;"
        "from influence_cli.commands.options import Common;"
        "from influence_cli.analysis.influence import influence;"
        "from influence_cli.analysis.reliability import Estimation;"
        "from influence_cli.analysis.question import TestRows, ask;"
        "from influence_cli.specs.groups import parse_group;"
        "import numpy as np;"
        "common = Common(quiet=True);"
        "opened = session.open_model('ginf.h5', common);"
        "plan = session.plan(opened.model, [parse_group('rows:1,2,3')], 0);"
        "question = ask(opened.model, TestRows(np.arange(5)), 'loss');"
        "solver = session.open_solver(opened, 'auto', common);"
        "result = influence(question, solver, plan, Estimation(), provenance=opened.provenance({}));"
        "print(*result.values['second'].ravel().tolist())"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, env=environment(), capture_output=True, text=True)
    found = np.array(done.stdout.split(), dtype=float)
    np.testing.assert_array_equal(found, load_influence("i.h5").values["second"].ravel())
