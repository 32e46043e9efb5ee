"""``--if-exists``: a second run of the same script keeps what it made, and nothing of another question."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from influence_cli.analysis import groundtruth, influence
from influence_cli.analysis import select as selection
from influence_cli.cli import run
from influence_cli.commands import existing
from influence_cli.models import trained

COMMANDS = {
    "train": ["train", "--data", "d.csv", "--label", "y", "-o", "out.h5"],
    "influence": ["influence", "-m", "m.h5", "--group", "by:site", "--test", "0:2", "-o", "out.h5"],
    "groundtruth": ["groundtruth", "-m", "m.h5", "--group", "by:site", "--test", "0:2", "-o", "out.h5"],
    "select": ["select", "-m", "m.h5", "--size", "3", "--test", "1", "-o", "out.h5"],
}
OTHERS = {
    "train": [["--l2", "0.1"], ["--seed", "3"], ["--standardize"], ["--link-data"], ["--no-intercept"]],
    "influence": [["--test", "0:3"], ["--group", "rows:1"], ["--rel-error", "1%"], ["-m", "n.h5"], ["--errors"]],
    "groundtruth": [["--test", "1"], ["--group", "rows:1"], ["--tol", "1e-9"], ["-m", "n.h5"], ["--quantity", "prob"]],
    "select": [["--test", "2"], ["--size", "4"], ["--verify"], ["-m", "n.h5"], ["--seed", "2"]],
}
"""Further options of the same command (the last of an option counts, --group is added), each another question."""
KEEP = ["--if-exists", "keep"]


def write(path: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lines = [
        f"{x:.3f},{z},{'ABC'[row % 3]},{int(x + rng.normal() > 0)}"
        for row, (x, z) in enumerate(zip(rng.normal(size=90), rng.integers(0, 9, 90), strict=True))
    ]
    Path(path).write_text("x,z,site,y\n" + "\n".join(lines) + "\n")


@pytest.fixture
def folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write("d.csv", 0)
    for name, penalty in (("m.h5", "0.01"), ("n.h5", "0.02")):
        assert run(["train", "--data", "d.csv", "--label", "y", "--l2", penalty, "-o", name, "--quiet"]) == 0
    capsys.readouterr()


def digest(path: str) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def never(*arguments, **options):
    raise AssertionError("computed again")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_same_run_keeps_its_file_computes_nothing_and_says_the_same(folder, monkeypatch, capsys, command):
    asked = [*COMMANDS[command], *KEEP, "--format", "json"]
    assert run(asked) == 0
    first, before = capsys.readouterr(), digest("out.h5")
    assert "kept" not in first.err
    monkeypatch.setattr(influence, "influence", never)
    monkeypatch.setattr(groundtruth, "groundtruth", never)
    monkeypatch.setattr(selection, "select", never)
    monkeypatch.setattr(trained, "train", never)
    assert run(asked) == 0
    second = capsys.readouterr()
    assert json.loads(second.out) == json.loads(first.out)
    assert "out.h5 is kept as it is" in second.err
    assert re.search(r"out\.h5 is kept as it is, of \d{4}-\d\d-\d\d \d\d:\d\d[+-]\d\d:\d\d: ", second.err)
    assert digest("out.h5") == before
    assert run([*COMMANDS[command]]) == 2  # as ever
    assert "out.h5 exists" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_another_question_is_refused_with_what_differs(folder, capsys, command):
    asked = [*COMMANDS[command], *KEEP]
    assert run([*asked, "--quiet"]) == 0
    before = digest("out.h5")
    for more in OTHERS[command]:
        capsys.readouterr()
        assert run([*asked, *more]) == 3, more
        said = capsys.readouterr()
        assert "--if-exists replace" in said.err or "compute both again" in said.err, more
        assert not said.out
    assert digest("out.h5") == before
    if command == "train":
        write("d.csv", 1)
        assert run(asked) == 3
        assert "out.h5 cannot be kept: its data are others" in capsys.readouterr().err
    assert run([*asked[:-1], "replace", "--quiet", *OTHERS[command][0]]) == 0
    assert digest("out.h5") != before


def test_groups_of_a_file_are_compared_by_their_rows(folder, capsys):
    Path("rows.txt").write_text("1\n2\n")
    asked = ["influence", "-m", "m.h5", "--group", "rows:@rows.txt", "--test", "0", "-o", "i.h5", *KEEP]
    assert run(asked) == run(asked) == 0
    Path("rows.txt").write_text("1\n3\n")
    capsys.readouterr()
    assert run(asked) == 3
    assert "i.h5 cannot be kept: its groups or test rows are others" in capsys.readouterr().err
    search = ["select", "-m", "m.h5", "--within", "rows:@rows.txt", "--size", "1", "--test", "0", "-o", "s.h5", *KEEP]
    assert run(search) == 2
    assert "whether rows.txt holds the same rows as before cannot be told" in capsys.readouterr().err


def test_what_was_cut_off_goes_on_and_another_version_is_done_again(folder, monkeypatch, capsys):
    asked = [*COMMANDS["groundtruth"], *KEEP, "--quiet"]
    whole = groundtruth.groundtruth

    def cut(*arguments, keep, **options):
        keep(arguments[3])
        raise KeyboardInterrupt

    monkeypatch.setattr(groundtruth, "groundtruth", cut)
    assert run(asked) == 130
    monkeypatch.setattr(groundtruth, "groundtruth", whole)
    capsys.readouterr()
    assert run(asked[:-1]) == 0
    assert "resuming out.h5: 0 of 3 groups are done" in capsys.readouterr().err
    monkeypatch.setattr(existing, "__version__", "0.3.0")
    capsys.readouterr()
    assert run(asked) == 3
    assert "out.h5 cannot be kept: it was made by ginf 0.2.0, and this is ginf 0.3.0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["-o", "i.csv", *KEEP], "and i.csv is none"),
        (KEEP, "and none was named"),
        (["-o", "i.h5", "--if-exists", "kep"], "did you mean keep?"),
        (["-o", "i.h5", "--force", *KEEP], "--force and --if-exists exclude each other"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_before_any_work(folder, capsys, more, sentence):
    assert run(["influence", "-m", "m.h5", "--group", "by:site", "--test", "0", *more]) == 2
    assert sentence in capsys.readouterr().err


def test_a_brought_model_is_kept_while_it_is_the_same(folder, capsys):
    skops = pytest.importorskip("skops.io")
    from sklearn.linear_model import LogisticRegression

    X, y = np.random.default_rng(0).normal(size=(40, 3)), np.arange(40) % 2
    np.savez("a.npz", X=X, y=y)
    asked = ["train", "--data", "a.npz", "--from", "m.skops", "-o", "b.h5", *KEEP]
    for penalty, code, sentence in ((1.0, 0, "took"), (1.0, 0, "b.h5 is kept as it is"), (2.0, 3, "cannot be kept")):
        skops.dump(LogisticRegression(C=penalty, tol=1e-12).fit(X, y), "m.skops")
        capsys.readouterr()
        assert run(asked) == code
        assert sentence in capsys.readouterr().err or sentence == "took"
