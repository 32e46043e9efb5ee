"""``ginf select`` as its users meet it: records, errors, the way into other commands, files and pictures."""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pytest
from artifact_examples import sign_again
from cli_tools import ginf, rows_of, save_blobs, save_regression, train, values_of

from influence_cli.artifacts.selection import load_selection
from influence_cli.cli import run
from influence_cli.errors import FileError

KEYS = ["strategy", "size", "test", "predicted_first", "predicted_second", "actual", "seconds", "rows"]
MORE = [
    *("fraction", "direction", "quantity", "base", "rounds", "draws"),
    *("predicted_second_best", "predicted_second_spread", "actual_best"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("select")
    train(save_blobs(folder / "blobs.npz"), folder / "blobs.h5", "--l2", "0.01")
    train(save_regression(folder / "line.npz"), folder / "line.h5", "--estimator", "linear", "--l2", "0.01")
    train("digits", folder / "digits.h5")
    return folder


@pytest.fixture
def select(folder, capsys):
    """Run ``ginf select`` on a model; exit code, stdout, stderr."""

    def call(*arguments: str, model: str = "blobs", command: str = "select") -> tuple[int, str, str]:
        code = run([command, "--model", str(folder / f"{model}.h5"), "--quiet", *arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def records(out: str) -> list[dict]:
    return json.loads(out)


def test_records(select):
    code, out, _ = select(
        "--test", "0,3", "--size", "5,10%", "--strategy", "random,greedy,pgd,relinearize,swap", "--format", "json"
    )
    found = records(out)
    assert code == 0
    assert len(found) == 2 * 2 * 5
    assert list(found[0])[:8] == KEYS
    assert list(found[0])[8:17] == MORE
    assert [(r["test"], r["size"]) for r in found[::5]] == [(0, 5), (0, 6), (3, 5), (3, 6)]
    for record in found:
        assert record["actual"] is None
        assert (record["rows"] is None) == (record["strategy"] == "random")
        if record["rows"] is not None:
            assert record["rows"] == sorted(set(record["rows"]))
            assert len(record["rows"]) == record["size"]
        assert record["seconds"] > 0
        assert record["status"] == "ok"


def test_verified_figures_are_those_of_groundtruth(select):
    code, out, _ = select(
        *("--test", "0,3", "--size", "6", "--strategy", "random,greedy,relinearize,swap", "--draws", "7"),
        *("--verify", "--format", "json"),
    )
    assert code == 0
    for record in records(out):
        if record["rows"] is None:
            assert record["actual"] <= record["actual_best"]
            assert record["actual_spread"] > 0
            continue
        spec = "rows:" + ",".join(map(str, record["rows"]))
        _, truth, _ = select("--group", spec, "--test", str(record["test"]), command="groundtruth")
        assert record["actual"] == pytest.approx(values_of(truth, "actual")[0], rel=1e-6)
        linear = ("--method", "first,second", "--evaluate", "linear")
        _, estimate, _ = select("--group", spec, "--test", str(record["test"]), *linear, command="influence")
        assert record["predicted_first"] == pytest.approx(values_of(estimate, "first")[0], rel=1e-7)
        assert record["predicted_second"] == pytest.approx(values_of(estimate, "second")[0], rel=1e-7)


def test_all_strategies_and_the_yardstick(select):
    code, out, _ = select("--test", "1", "--size", "2", "--strategy", "all", "--verify", "--format", "json")
    found = {record["strategy"]: record["actual"] for record in records(out)}
    assert code == 0
    assert list(found) == ["random", "greedy", "pgd", "relinearize", "swap", "exact"]
    assert all(value <= found["exact"] * (1 + 1e-6) for value in found.values())
    code, out, _ = select("--test", "1", "--size", "30", "--strategy", "all", "--draws", "2")
    assert code == 0
    assert "exact" not in [row["strategy"] for row in rows_of(out)]


@pytest.mark.parametrize("quantity", ["margin", "prob", "logit:1"])
def test_quantities_and_directions(select, quantity):
    ends = []
    for direction in ("increase", "decrease"):
        code, out, _ = select(
            *("--test", "2", "--size", "6", "--quantity", quantity, "--direction", direction, "--verify"),
        )
        assert code == 0
        ends.append(values_of(out, "actual")[0])
    assert ends[0] > 0 > ends[1]


def test_mean_and_parameters(select):
    code, out, _ = select("--test", "mean", "--size", "5", "--verify", "--format", "json")
    assert code == 0
    assert records(out)[0]["test"] == "mean"
    code, out, _ = select("--quantity", "param:intercept", "--size", "5", "--format", "json", model="line")
    assert code == 0
    assert records(out)[0]["test"] is None


def test_within(select):
    code, out, _ = select("--test", "0", "--size", "4", "--within", "rows:3,5,8", "--within", "rows:40,41,42,43",
                          "--strategy", "greedy,pgd,relinearize,swap,exact", "--format", "json")  # fmt: skip
    assert code == 0
    assert all(set(record["rows"]) <= {3, 5, 8, 40, 41, 42, 43} for record in records(out))


def test_rows_go_into_groundtruth(folder):
    rows = ginf(
        "select", "--model", "blobs.h5", "--test", "1", "--size", "5", "--format", "rows", "--quiet", cwd=folder
    )
    assert rows.returncode == 0
    assert re.fullmatch(r"(\d+\n){5}", rows.stdout)
    truth = ginf(
        "groundtruth", "--model", "blobs.h5", "--group", "rows:@-", "--test", "1", cwd=folder, stdin=rows.stdout
    )
    assert truth.returncode == 0
    assert values_of(truth.stdout, "actual")[0] > 0


def test_rows_of_several_strategies_are_the_best_by_retraining(select):
    options = ("--test", "1", "--size", "5", "--strategy", "greedy,relinearize,swap", "--verify")
    _, rows, _ = select(*options, "--format", "rows")
    _, out, _ = select(*options, "--format", "json")
    best = max(records(out), key=lambda record: record["actual"])
    assert [int(row) for row in rows.split()] == best["rows"]


def test_candidates(select):
    code, out, _ = select(
        *("--test", "0", "--candidates", "cluster:5", "--candidates", "rows:1,2,3", "--size", "2", "--verify"),
        *("--strategy", "all", "--draws", "5", "--format", "json"),
    )
    found = records(out)
    assert code == 0
    assert [record["strategy"] for record in found] == ["single"] * 6 + ["random", "greedy", "swap", "exact"]
    singles = [record["predicted_second"] for record in found[:6]]
    assert singles == sorted(singles, reverse=True)
    assert all(len(record["groups"]) == 1 for record in found[:6])
    best = found[-1]
    assert best["actual"] >= max(record["actual"] for record in found[:6]) - 1e-9
    assert 1 <= len(best["groups"]) <= 2


def test_flip_the_class(select, folder):
    code, out, _ = select("--test", "misclassified:3", "--flip", "--format", "json")
    found = records(out)
    assert code == 0
    for record in found:
        assert record["strategy"] == "flip"
        if record["flips"]:
            assert record["base"] > 0 > record["after"]
            assert record["minimal"] is True
            assert record["after"] - record["base"] == pytest.approx(record["actual"])
    assert any(record["flips"] for record in found)


def test_flip_the_sign_of_a_prediction(select):
    _, out, _ = select("--test", "0:4", "--flip", "--quantity", "prediction", "--format", "json", model="line")
    flipped = [record for record in records(out) if record["flips"]]
    assert flipped
    for record in flipped:
        assert record["base"] * record["after"] < 0
    code, out, err = select("--test", "0", "--flip", "--size", "1", "--quantity", "prediction", "--format", "json",
                            model="line")  # fmt: skip
    record = records(out)[0]
    assert code == 0
    assert record["rows"] is None
    assert record["status"] == "no group of at most 1 rows was found that flips"
    code, _, err = select("--test", "0", "--flip", "--size", "1", "--quantity", "prediction", "--format", "rows",
                          model="line")  # fmt: skip
    assert code == 4
    assert "there is no group to print: no group of at most 1 rows was found that flips" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--size 5", "--quantity loss needs test rows"),
        ("--test 0", "--size is needed"),
        ("--test 0 --size 0", "--size: the size 0 is an empty group"),
        ("--test 0 --size 100%", "--size 100% (60 rows) leaves none of the 60 training rows"),
        ("--test 0 --size 5x3", "--size 5x3: nothing is drawn several times"),
        ("--test 0 --size 5,5", "--size 5,5: the same number of rows is asked for twice"),
        ("--test 0 --size 5 --within rows:1,2", "--size 5: only 2 rows may be removed (--within)"),
        ("--test 0 --size 5 --strategy gredy", "unknown --strategy 'gredy'"),
        ("--test 0 --size 5 --strategy greedy,greedy", "--strategy needs one or more different strategies"),
        ("--test 0 --size 30 --strategy exact", "and at most 100,000 are tried"),
        ("--test 0 --size 5 --direction up", "--direction must be one of increase, decrease; found 'up'"),
        ("--test 0 --size 5 --constraint l2", "--constraint must be one of l1, capped; found 'l2'"),
        ("--test 0 --size 5 --merit best", "--merit must be one of auto, second, newton, retrained; found 'best'"),
        ("--test 0 --size 5 --quantity nothing", "unknown --quantity 'nothing'"),
        ("--test 0,1 --size 5 --format rows", "--format rows prints one group, and --test 0,1 asks for 2"),
        ("--test 0 --size 5,6 --format rows", "--format rows prints one group, and --size 5,6 asks for 2"),
        ("--test 0 --size 5 --strategy random --format rows", "--format rows prints one group, and random has many"),
        ("--test 0 --size 5 --strategy greedy,pgd --format rows", "and there are 2 strategies"),
        ("--test 0 --flip --strategy greedy", "--flip and --strategy exclude each other"),
        ("--test 0 --flip --direction decrease", "--flip and --direction exclude each other"),
        ("--test 0 --flip --quantity prob", "--flip: prob is never negative"),
        ("--test mean --flip", "--flip changes the class of one test row at a time"),
        ("--flip", "--flip needs test rows"),
        ("--test 0 --size 10% --candidates cluster:3", "with --candidates it is the most groups in a union"),
        ("--test 0 --size 4 --candidates cluster:3", "--size 4: with --candidates"),
        ("--test 0 --candidates cluster:3 --strategy pgd", "--strategy pgd ranks rows and --candidates gives groups"),
        (
            "--test 0 --candidates cluster:3 --within rows:1",
            "--within limits rows, and --candidates gives whole groups",
        ),
        ("--test 0 --size 5 --figure sizes", "--figure sizes needs a file to draw into"),
        ("--test 0 --size 5 --plot x.gif", "expected a name ending in .png, .svg or .pdf, found .gif"),
        ("--test 0 --size 5 --plot x.png --figure rows", "--figure rows draws images, and these rows are none"),
    ],
)
def test_what_users_get_wrong(select, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = select(*arguments.split())
    assert code == 2
    assert out == ""
    assert message in err
    assert err.startswith("ginf: error: ")
    assert list(tmp_path.iterdir()) == []


def test_the_file_holds_the_records(select, tmp_path):
    target = tmp_path / "selection.h5"
    options = ("--test", "0,1", "--size", "5", "--strategy", "random,greedy", "--verify", "--draws", "4")
    code, out, _ = select(*options, "--format", "json", "-o", str(target))
    assert code == 0
    loaded = load_selection(target)
    assert loaded.provenance.config["strategies"] == ["random", "greedy"]
    for record, shown in zip(loaded.entries, records(out), strict=True):
        assert list(record) == list(shown)
        rows = record.pop("rows")
        assert (None if rows is None else rows.tolist()) == shown.pop("rows")
        assert record == shown
    code, _, err = select(*options, "-o", str(target))
    assert code == 2
    assert "--force" in err


def test_a_damaged_file_is_refused(select, tmp_path):
    target = tmp_path / "selection.h5"
    select("--test", "0", "--size", "5", "--strategy", "greedy", "-o", str(target))
    right = target.read_bytes()
    with h5py.File(target, "r+") as file:
        file["/rows/end"][0] = 99
    with pytest.raises(FileError, match="/rows/end"):
        load_selection(target)
    sign_again(target)
    with pytest.raises(FileError, match="/rows/end: expected ends that rise"):
        load_selection(target)
    for text in ("[]", "{", "null", '{"a": NaN}'):
        target.write_bytes(right)
        with h5py.File(target, "r+") as file:
            del file["/records/details"]
            file["/records/details"] = np.array([text.encode()])
        sign_again(target)
        with pytest.raises(FileError, match="/records/details: expected objects"):
            load_selection(target)


def test_pictures(select, folder, tmp_path):
    options = ("--test", "0,1", "--strategy", "random,greedy,relinearize", "--draws", "5")
    for name in ("one.png", "two.png"):
        code, _, err = select(*options, "--size", "3,6", "--verify", "--plot", str(tmp_path / name))
        assert code == 0, err
    assert (tmp_path / "one.png").read_bytes()[:4] == b"\x89PNG"
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    code, _, err = select("--test", "11", "--size", "20", "--plot", str(tmp_path / "rows.svg"), model="digits")
    assert code == 0, err
    assert "<svg" in (tmp_path / "rows.svg").read_text()
    code, _, err = select("--test", "11", "--flip", "--plot", str(tmp_path / "flip.png"), model="digits")
    assert code == 0, err


def test_a_table_says_what_is_predicted_and_what_is_measured(select):
    code, out, _ = select("--test", "0", "--size", "5", "--strategy", "random,greedy", "--format", "table")
    assert code == 0
    assert "Change of the loss if the group is removed; positive: the group helped this prediction" in " ".join(
        out.split()
    )
    assert "without --verify nothing is retrained" in out
    assert "random, mean of 100" in out
    _, out, _ = select("--test", "0", "--size", "3", "--at-most", "--strategy", "greedy", "--format", "table")
    assert "--verify adds the change by retraining" in out  # which of the sizes is best was found by retraining
    assert "nothing is retrained" not in out
    asked = ("--test", "0", "--size", "3", "--quantity", "prediction", "--strategy", "greedy", "--format", "table")
    _, out, _ = select(*asked, model="line")
    title = next(line for line in out.splitlines() if line.startswith("Test row 0"))
    assert all(len(word) <= 10 for word in title.replace(",", "").split())  # figures are rounded
    code, out, _ = select("--test", "11", "--flip", "--format", "table", model="digits")
    assert "minimal: putting back any single row undoes the flip, retrained each" in out


def test_the_same_seed_gives_the_same_bits(select):
    options = ("--test", "0", "--size", "6", "--strategy", "random,pgd,relinearize,swap", "--format", "json")
    first, second, other = (records(select(*options, "--seed", seed)[1]) for seed in ("1", "1", "2"))
    for one, two in zip(first, second, strict=True):
        assert {**one, "seconds": 0} == {**two, "seconds": 0}
    assert first[0]["predicted_second"] != other[0]["predicted_second"]


def test_help_has_an_example(capsys):
    assert run(["select", "--help"]) == 0
    assert "ginf select --test 17 --size 10%" in " ".join(capsys.readouterr().out.split())


def test_values_are_finite(select):
    _, out, _ = select("--test", "all", "--size", "10%", "--strategy", "greedy", "--format", "json")
    assert np.isfinite([record["predicted_second"] for record in records(out)]).all()


def test_a_loss_at_its_minimum_ranks_nothing_and_flips_keep_the_preprocessing(tmp_path, capsys):
    data = tmp_path / "t.csv"
    data.write_text("a,y\n" + "".join(f"{at % 7},{at % 5 + at % 7}\n" for at in range(40)))
    for fraction, flat in (("0", True), ("0.3", False)):
        model = str(tmp_path / f"{fraction}.h5")
        ask = ["--label", "y", "--estimator", "linear", "--test-fraction", fraction, "-o", model]
        assert run(["train", "--data", str(data), *ask]) == 0
        capsys.readouterr()
        assert run(["select", "--model", model, "--test", "mean", "--size", "3"]) == 0
        assert ("the test rows are the training rows" in capsys.readouterr().err) is flat
        out = f"{model}.flip.h5"
        assert run(["select", "--model", model, "--quantity", "param:a", "--flip", "-o", out]) == 0
        assert load_selection(Path(out)).provenance.config["preprocessing"] == "frozen"  # as its note says
