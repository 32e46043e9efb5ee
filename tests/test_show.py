"""``ginf show``: what a file is, in words, and its records again; ``-o`` writes what its ending says."""

import json

import numpy as np
import pytest
from cli_tools import rows_of, save_blobs, train

from influence_cli import GroupInfluence
from influence_cli.artifacts.results import load_influence
from influence_cli.cli import run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("show")
    train(save_blobs(made / "b.npz"), made / "m.h5")
    asked = ["--model", str(made / "m.h5"), "--group", "random:5x3", "--test", "1", "--quiet"]
    assert run(["influence", *asked, "-o", str(made / "i.h5")]) == 0
    assert run(["groundtruth", *asked, "-o", str(made / "t.h5")]) == 0
    select = ["select", "--model", str(made / "m.h5"), "--test", "1", "--size", "3", "--quiet"]
    assert run([*select, "-o", str(made / "s.h5")]) == 0
    return made


def shown(capsys, *arguments):
    capsys.readouterr()
    code = run(["show", *map(str, arguments)])
    return code, *capsys.readouterr()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("m.h5", ["a trained logistic model", "training rows 60", "Coefficients, the largest first"]),
        ("i.h5", ["estimates for 3 groups and 1 test row", "random:5x3", "refined"]),
        ("t.h5", ["retraining without 3 groups, for 1 test row", "actual change"]),
        ("s.h5", ["1 selected groups", "relinearize", "training records"]),
    ],
)
def test_every_kind_of_file_is_said_in_words(folder, capsys, name, says):
    code, out, _ = shown(capsys, folder / name, "--format", "table")
    text = " ".join(out.split())
    assert code == 0
    assert all(words in text for words in says)


def test_records_come_back_as_they_were(folder, capsys):
    _, out, _ = shown(capsys, folder / "i.h5", "--format", "json")
    assert json.loads(out) == load_influence(folder / "i.h5").records()
    _, out, _ = shown(capsys, folder / "m.h5", "--format", "csv")
    assert len(rows_of(out)) == 12


def test_what_is_no_file_of_ours(folder, tmp_path, capsys):
    (tmp_path / "a.h5").write_text("hello")
    code, _, err = shown(capsys, tmp_path / "a.h5")
    assert code == 3
    assert "expected a ginf file" in err
    assert shown(capsys, tmp_path / "none.h5")[0] == 3


@pytest.mark.parametrize("ending", ["csv", "json", "ndjson", "md", "html"])
def test_a_file_holds_what_its_ending_says(folder, tmp_path, capsys, ending):
    _, printed, _ = shown(capsys, folder / "i.h5", "--format", ending, "-o", tmp_path / f"a.{ending}")
    assert (tmp_path / f"a.{ending}").read_text() == printed
    assert shown(capsys, folder / "i.h5", "-o", tmp_path / f"a.{ending}")[0] == 2, "never without --force"


@pytest.mark.parametrize("command", ["influence", "groundtruth", "select", "train", "compare", "show"])
def test_other_endings_are_refused_before_any_work(folder, tmp_path, capsys, command):
    asked = {
        "influence": ["--group", "random:5", "--test", "1"],
        "groundtruth": ["--group", "random:5", "--test", "1"],
        "select": ["--test", "1", "--size", "3"],
        "train": [],
        "compare": [str(folder / "i.h5"), str(folder / "t.h5")],
        "show": [str(folder / "i.h5")],
    }[command]
    code = run([command, *asked, "-o", str(tmp_path / "a.pkl")])
    assert code == 2
    assert "a.pkl: expected the ending" in capsys.readouterr().err
    assert not (tmp_path / "a.pkl").exists()


def test_top_keeps_the_largest_of_each_test_row(folder, capsys):
    _, out, _ = shown(capsys, folder / "i.h5", "--format", "json", "--top", "1")
    (kept,) = json.loads(out)
    every = load_influence(folder / "i.h5").records()
    assert abs(kept["refined"]) == max(abs(record["refined"]) for record in every)


@pytest.mark.parametrize(
    ("limit", "code"),
    [
        (("--fail-error", "90%"), 0),
        (("--fail-error", "refined=0.000001%"), 5),
        (("--fail-slope", "0.5..1.5"), 0),
        (("--fail-slope", "first=2..3"), 5),
        (("--fail-slope", "3..2"), 2),
        (("--fail-error", "120%"), 2),
    ],
)
def test_checks_of_error_and_slope(folder, capsys, limit, code):
    assert run(["compare", str(folder / "i.h5"), str(folder / "t.h5"), "--quiet", *limit]) == code
    assert (limit[0] in capsys.readouterr().err) == (code != 0)


def test_coefficients_say_for_how_large_a_change_they_are(tmp_path, capsys):
    rng = np.random.default_rng(4)
    age, other = rng.uniform(20, 90, 80), rng.normal(size=80)
    kind = np.arange(80) % 2
    y = age / 10 + other + 0.5 * kind + rng.normal(size=80)
    rows = zip(age.tolist(), other.tolist(), y.tolist(), "uv" * 40, strict=True)
    (tmp_path / "a.csv").write_text("age,other,y,kind\n" + "".join(f"{a!r},{b!r},{c!r},{k}\n" for a, b, c, k in rows))
    slope = np.linalg.lstsq(np.column_stack([age, other, kind, np.ones(80)]), y, rcond=None)[0][0]
    ask = ["train", "--data", str(tmp_path / "a.csv"), "--label", "y", "--estimator", "linear", "--l2", "0"]
    for name, more in (("a.h5", []), ("raw.h5", ["--no-standardize"])):
        assert run([*ask, "--test-fraction", "0", "-o", str(tmp_path / name), *more]) == 0
    spread = f"{age.std():.4g}"
    _, out, _ = shown(capsys, tmp_path / "a.h5", "--format", "table")
    words = [line.split() for line in out.splitlines()]
    assert ["name", "value", "for", "a", "change", "of"] in words
    assert ["age", f"+{slope * age.std():.4g}", spread] in words
    asked = ["influence", "--model", str(tmp_path / "a.h5"), "--group", "rows:1", "--format", "table"]
    assert run([*asked, "--quantity", "param:age"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    called = f"Change of the parameter age (for one standard deviation, {spread}) if the group is"
    assert said.startswith(called)
    kept = ["--quantity", "param:age", "--verify", "-o", str(tmp_path / "i.h5")]
    assert run([*asked, *kept]) == 0
    capsys.readouterr()
    assert run(["compare", str(tmp_path / "i.h5"), "--format", "table"]) == 0
    assert called in " ".join(capsys.readouterr().out.split())
    assert run([*asked, "--quantity", "param:kind=v"]) == 0
    assert "standard deviation" not in capsys.readouterr().out
    _, out, _ = shown(capsys, tmp_path / "raw.h5", "--format", "table")
    assert "for a change of" not in out
    assert ["age", f"+{slope:.4g}"] in [line.split() for line in out.splitlines()]


@pytest.mark.parametrize(
    ("estimator", "label", "said"),
    [
        ("logistic", "two", ": of the log-odds of u1"),
        ("ridge-classifier", "two", ": of the score of u1"),
        ("ridge-classifier", "three", ""),
        ("logistic", "three", ""),
        ("linear", "count", ""),
        ("poisson", "count", ": of the logarithm of the prediction"),
    ],
)
def test_coefficients_say_of_what_they_are(tmp_path, capsys, estimator, label, said):
    rng = np.random.default_rng(5)
    x, count = rng.normal(size=60), rng.poisson(2, 60)
    rows = [f"{value!r},u{n % 2},v{n % 3},{n}" for value, n in zip(x.tolist(), count.tolist(), strict=True)]
    (tmp_path / "c.csv").write_text("\n".join(["x,two,three,count", *rows, ""]))
    ask = ["train", "--data", str(tmp_path / "c.csv"), "--label", label, "--features", "x", "--estimator", estimator]
    assert run([*ask, "-o", str(tmp_path / "c.h5")]) == 0
    _, out, _ = shown(capsys, tmp_path / "c.h5", "--format", "table")
    assert f"Coefficients, the largest first{said}" in out.splitlines()


def test_a_flip_names_only_the_options_that_it_used(folder, tmp_path, capsys):
    asked = ["select", "--model", str(folder / "m.h5"), "--test", "1", "--flip", "--quiet"]
    assert run([*asked, "-o", str(tmp_path / "f.h5")]) == 0
    code, out, _ = shown(capsys, tmp_path / "f.h5", "--format", "table")
    made = out[out.index("Made with") : out.index("data digest")].splitlines()[1:]
    assert code == 0
    assert {line.split()[0] for line in made if line.strip()} == {"flip", "model", "seed", "solver", "test"}
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 2))
    model = GroupInfluence.fit(X, (X[:, 0] + rng.normal(size=40) > 0).astype(int))
    flipped = model.select(None, X[:1], flip=True).provenance.config
    unused = {"strategies", "direction", "draws", "rounds", "constraint", "merit", "verify", "at_most"}
    assert flipped["flip"] is True
    assert flipped["quantity"] is None
    assert not unused & set(flipped)
    greedy = model.select(3, X[:1], quantity="prob:1", strategies="greedy").provenance.config
    assert unused & set(greedy) == {"strategies", "direction", "verify", "at_most"}
