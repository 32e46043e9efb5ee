"""Removal curves: the sizes' grammar, the figures against groundtruth, the table and the picture."""

import json

import numpy as np
import pytest
from cli_tools import save_regression, train

from influence_cli.api import GroupInfluence
from influence_cli.cli import run
from influence_cli.commands.select.sizes import curve_sizes
from influence_cli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("5,10", ["5", "10"]),
        ("1%,2%,...,5%", ["1%", "2%", "3%", "4%", "5%"]),
        ("0.5%,1%,...,2.2%", ["0.5%", "1%", "1.5%", "2%", "2.2%"]),
        ("1,5,...,12,20", ["1", "5", "9", "12", "20"]),
        ("0.1%,0.2%,...,0.5%", ["0.1%", "0.2%", "0.3%", "0.4%", "0.5%"]),
    ],
)
def test_sizes(text, sizes):
    assert [size.text for size in curve_sizes(text)] == sizes


@pytest.mark.parametrize(
    "text", ["1%,...,5%", "1%,2%,...", "1,2%,...,5%", "5%,4%,...,1%", "1,2,...,5000", "a,b", "1,2,...,...,9"]
)
def test_sizes_refused(text):
    with pytest.raises(UsageError, match="--sizes"):
        curve_sizes(text)


def test_figures_are_those_of_groundtruth():
    rng = np.random.default_rng(0)
    X, x = rng.normal(size=(120, 3)), rng.normal(size=(2, 3))
    y = (X @ [1.0, -1.0, 0.5] + rng.logistic(size=120) > 0).astype(int)
    model = GroupInfluence.fit(X, y, l2=0.05)
    found = model.curve([6, 0.1, 24], x, [0, 1], verify=True, draws=6).records()
    assert [(record["test"], record["size"]) for record in found] == [(t, k) for t in (0, 1) for k in (6, 12, 24)]
    for record in found:
        truth = model.groundtruth([record["rows"]], x, [0, 1]).records()[record["test"]]["actual"]
        assert record["actual"] == pytest.approx(truth, rel=1e-6)
        assert abs(record["estimate"] - truth) <= max(record["error"], 1e-6)
        assert record["random_actual"] == pytest.approx(
            record["random_estimate"], abs=0.05 * record["random_estimate_spread"]
        )
        assert record["actual"] > record["random_actual"] + 2 * record["random_actual_spread"] > 0
        assert record["random_draws"] == 6
    # Random groups are of the rows that may be removed: of as many rows there is one.
    (whole,) = model.curve([9], x[:1], [0], within=range(9), draws=4).records()
    assert whole["random_estimate"] == pytest.approx(whole["estimate"])
    assert whole["random_estimate_spread"] == pytest.approx(0.0, abs=1e-12)


def test_what_ranks_no_groups():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 2))
    model = GroupInfluence.fit(X, X[:, 0] + rng.normal(size=60), estimator="linear", l2=0.0)
    for wrong in ({"strategy": "all", "quantity": "param:x0"}, {"quantity": "t:x0"}):
        with pytest.raises(UsageError, match=r"one strategy|groups are not ranked"):
            model.curve([3, 6], **wrong)


def test_command(tmp_path, capsys):
    train(save_regression(tmp_path / "line.npz"), tmp_path / "line.h5", "--estimator", "linear", "--l2", "0.01")
    capsys.readouterr()
    line = ["select", "--model", str(tmp_path / "line.h5"), "--quiet", "--test", "1", "--sizes", "4%,8%,...,20%"]
    picture, saved = tmp_path / "curve.svg", tmp_path / "curve.h5"
    assert run([*line, "--verify", "--plot", str(picture), "-o", str(saved), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [record["size"] for record in found] == [2, 4, 6, 8, 10]
    assert list(found[0])[:3] == ["strategy", "size", "test"]
    drawn = picture.read_text()
    for words in ("rows removed (% of the training rows)", "change of the loss", "rows chosen by greedy, estimated"):
        assert f"<!-- {words} -->" in drawn
    assert run(["report", str(tmp_path / "line.h5"), str(saved), "-o", str(tmp_path / "page.md"), "--quiet"]) == 0
    assert "--sizes 4%,8%,...,20%" in (tmp_path / "page.md").read_text()
    assert run([*line, "--strategy", "relinearize", "--format", "table"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    assert "the rows that relinearize removes" in text
    for more, sentence in (
        (["--size", "3"], "--sizes and --size exclude each other"),
        (["--strategy", "greedy,swap"], "one strategy"),
        (["--describe", "2"], "--describe and --sizes exclude each other"),
    ):
        assert run([*line, *more]) == 2
        assert sentence in capsys.readouterr().err
