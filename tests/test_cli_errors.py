"""What users get wrong: every mistake has one sentence, its exit code, and leaves nothing behind."""

import re
import shutil

import h5py
import numpy as np
import pytest
from cli_tools import leftovers, save_blobs, save_regression, train
from typer.main import get_command

from influence_cli.cli import app, run
from influence_cli.errors import GinfError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Good and bad files, by name."""
    folder = tmp_path_factory.mktemp("errors")
    train(save_blobs(folder / "good.npz"), folder / "good.h5")
    train(save_regression(folder / "line.npz"), folder / "line.h5", "--estimator", "linear")
    whole = (folder / "good.h5").read_bytes()
    (folder / "cut.h5").write_bytes(whole[: len(whole) // 2])
    (folder / "text.h5").write_text("hello\n")
    (folder / "empty.h5").write_bytes(b"")
    with h5py.File(folder / "foreign.h5", "w") as file:
        file["x"] = [1, 2]
    for name, version in (("old", 0), ("new", 99)):
        shutil.copy(folder / "good.h5", folder / f"{name}.h5")
        with h5py.File(folder / f"{name}.h5", "r+") as file:
            file.attrs["format_version"] = version
    estimate = ["influence", "--model", str(folder / "good.h5"), "--group", "random:3", "--test", "1", "--quiet"]
    assert run([*estimate, "-o", str(folder / "influence.h5")]) == 0
    return folder


def refused(capsys, code, *arguments):
    """The error's text; exactly one error and at most one hint on stderr, nothing on stdout."""
    capsys.readouterr()
    assert run(list(arguments)) == code
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line for line in err.splitlines() if not line.startswith("ginf: solver ")]
    assert lines[0].startswith("ginf: error: ")
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: ")), err
    return err


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("missing.h5", r"there is no file .*missing\.h5\nhint: .*ginf train"),
        ("cut.h5", "is damaged or cut short"),
        ("text.h5", "is not an HDF5 file"),
        ("empty.h5", "is empty"),
        ("foreign.h5", "not one of ginf's"),
        ("old.h5", r"has format version 0 .*older than 1"),
        ("new.h5", r"has format version 99 .*\nhint: upgrade"),
        ("influence.h5", "is of kind 'influence', expected 'model'"),
        ("", "is a folder"),
    ],
)
def test_files_that_are_no_model(folder, capsys, monkeypatch, tmp_path, file, text):
    monkeypatch.chdir(tmp_path)
    asked = ("influence", "--group", "random:3", "--test", "1")
    assert re.search(text, refused(capsys, 3, *asked, "--model", str(folder / file)))
    monkeypatch.setenv("GINF_MODEL", str(folder / file))
    assert re.search(text, refused(capsys, 3, *asked))
    assert not list(tmp_path.iterdir()), "no other model was trained instead"


ROWS = np.random.default_rng(0).normal(size=(40, 3))
LABELS = (ROWS[:, 0] + np.random.default_rng(1).normal(size=40) > 0).astype(int)


def spoilt(value):
    X = ROWS.copy()
    X[7, 2] = value
    return X


DATA = {
    "nan": ({"X": spoilt(np.nan), "y": LABELS}, r"1 of the 120 values in the rows is not: .*column x2, row 7"),
    "infinite": ({"X": spoilt(np.inf), "y": LABELS}, r"the first is inf in column x2, row 7"),
    "one label": ({"X": ROWS, "y": 0 * LABELS}, "at least two classes are needed"),
    "lone row": ({"X": ROWS, "y": np.where(np.arange(40) == 5, 2, LABELS)}, "class 2 has one"),
    "label missing": ({"X": ROWS, "y": np.where(LABELS, np.nan, 1.0)}, "every label must be finite"),
    "new in test": (
        {"X_train": ROWS, "y_train": LABELS, "X_test": ROWS[:3], "y_test": [0, 1, 2]},
        "every test label must occur among the training labels, but 2 is new",
    ),
    "no test rows": (
        {"X_train": ROWS, "y_train": LABELS, "X_test": ROWS[:0], "y_test": LABELS[:0]},
        "test rows are needed, but found 0",
    ),
    "other arrays": ({"a": ROWS}, "X_train, y_train, X_test, y_test"),
    "fewer labels": ({"X": ROWS, "y": LABELS[:9]}, "there are 40 rows and 9 labels"),
    "numeric response": ({"X": ROWS, "y": ROWS[:, 0]}, "the labels look like a numeric response"),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_cannot_be_used(tmp_path, capsys, name):
    arrays, text = DATA[name]
    np.savez(tmp_path / "d.npz", **arrays)
    error = refused(capsys, 3, "train", "--data", str(tmp_path / "d.npz"), "-o", str(tmp_path / "m.h5"))
    assert re.search(text, error), error
    assert [path.name for path in tmp_path.iterdir()] == ["d.npz"]


@pytest.mark.parametrize(
    ("name", "arrays", "options", "text"),
    [
        ("separable", {"X": ROWS, "y": (ROWS[:, 0] > 0).astype(int)}, [], "can be separated, at least in part"),
        ("huge", {"X": 1e200 * ROWS, "y": LABELS}, ["--l2", "0.1"], "scale the columns"),
        ("a step", {"X": ROWS, "y": LABELS}, ["--max-iterations", "1"], "raise --max-iterations"),
    ],
)
def test_models_without_a_minimum_to_be_found(tmp_path, capsys, name, arrays, options, text):
    np.savez(tmp_path / "d.npz", **arrays)
    asked = ("train", "--data", str(tmp_path / "d.npz"), "-o", str(tmp_path / "m.h5"), "--l2", "0", *options)
    with np.errstate(all="ignore"):
        assert text in refused(capsys, 4, *asked)
    assert not (tmp_path / "m.h5").exists()
    assert not leftovers(tmp_path)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.where(LABELS, "sick", "well"), ["sick", "well"]),
        (LABELS + 1, ["1", "2"]),
        (2 * LABELS - 1, ["-1", "1"]),
        (LABELS.astype(bool), ["False", "True"]),
    ],
    ids=["strings", "from 1", "signs", "booleans"],
)
def test_labels_keep_their_names(tmp_path, capsys, labels, classes):
    np.savez(tmp_path / "d.npz", X=np.c_[ROWS, ROWS[:, 0], np.ones(40)], y=labels)  # a penalty takes any columns
    model = train(str(tmp_path / "d.npz"), tmp_path / "m.h5")
    capsys.readouterr()
    for name in classes:
        asked = ["influence", "--model", model, "--group", f"coherent:{name}:1", "--group", f"coherent:{name}"]
        assert run([*asked, "--test", "0", "--quiet", "--quantity", f"logit:{name}"]) == 0
        assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()[1:]] == [
            f"coherent:{name}:1", f"coherent:{name}"]  # fmt: skip


GROUPS = [
    ("random:0", "is an empty group"),
    ("random:100%", "nothing would be left to train on"),
    ("random:60", "nothing would be left to train on"),
    ("rows:60", r"expected training rows 0\.\.59, found 60"),
    ("rows:-1", r"expected training rows 0\.\.59, found -1"),
    ("rows:3,3", "row 3 is listed twice"),
    ("coherent:9", "expected one of the 3 classes"),
    ("cohernt:1", r"hint: did you mean coherent\?"),
]
OPTIONS = [
    (["--method", "frist"], r"--method must be one of .*found 'frist'\nhint: did you mean first\?"),
    (["--method", "first,first"], "one or more different methods"),
    (["--format", "jsn"], r"hint: did you mean json\?"),
    (["--quantity", "mrgin"], r"hint: did you mean margin\?"),
    (["--quantity", "logit"], r"hint: did you mean logit:K\?"),
    (["--quantity", "logit:7"], r"no class is named '7'\nhint: the classes are 0, 1, 2"),
    (["--quantity", "param:x0"], r"hint: the parameters are 0:x0, 0:x1"),
    (["--quantity", "param:1:x0"], "hint: leave --test out"),
    (["--quantity", "prediction"], "is for regressions"),
    (["--evaluate", "exat"], r"hint: did you mean exact\?"),
    (["--solver", "cholesy"], r"hint: did you mean cholesky\?"),
    (["--seed", "-1"], "--seed"),
    (["--threads", "0"], "--threads"),
    (["--test", "12"], r"expected test rows 0\.\.11, found 12"),
    (["--test", "misclasified"], r"hint: did you mean misclassified\?"),
    (["--nope"], "No such option: --nope"),
    (["extra"], "extra"),
]


@pytest.mark.parametrize(
    ("options", "text"), [*((["--group", spec], text) for spec, text in GROUPS), *OPTIONS], ids=lambda value: str(value)
)
def test_wrong_usage_of_influence(folder, capsys, tmp_path, options, text):
    asked = ["influence", "--model", str(folder / "good.h5"), "-o", str(tmp_path / "i.h5")]
    asked += [] if "--group" in options else ["--group", "random:3"]
    asked += [] if "--test" in options else ["--test", "1"]
    error = refused(capsys, 2, *asked, *options)
    assert re.search(text, error), error
    assert not list(tmp_path.iterdir())


def test_what_is_missing_is_named(folder, capsys):
    asked = ("influence", "--model", str(folder / "good.h5"))
    assert "no group of training rows was given" in refused(capsys, 2, *asked, "--test", "1")
    assert "--quantity loss needs test rows" in refused(capsys, 2, *asked, "--group", "random:3")
    line = ("influence", "--model", str(folder / "line.h5"), "--group", "random:3")
    assert "misclassified" not in refused(capsys, 2, *line)
    assert "--test all" in refused(capsys, 2, *line, "--quantity", "score:r2")


def test_a_regression_has_no_classes(folder, capsys):
    asked = ("influence", "--model", str(folder / "line.h5"), "--test")
    assert "a regression classifies nothing" in refused(capsys, 2, *asked, "misclassified", "--group", "random:3")
    assert "this data has no classes" in refused(capsys, 2, *asked, "1", "--group", "coherent:1")
    assert "is for classifiers" in refused(capsys, 2, *asked, "1", "--group", "random:3", "--quantity", "prob")


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--estimator", "linaer"], 2, r"hint: did you mean linear\?"),
        (["--penalty-scaling", "permean"], 2, r"hint: did you mean per-mean\?"),
        (["--data", "digts"], 3, "did you mean 'digits'"),
        (["--data", "gone.npz"], 3, "no such file"),
        (["--l2", "-1"], 2, "--l2 must be a number of at least 0"),
        (["--l2", "nan"], 2, "--l2 must be a number of at least 0"),
        (["--l2", "1", "--C", "1"], 2, "--l2 and --C both set the penalty"),
        (["--C", "0"], 2, "--C must be a number greater than 0"),
        (["--tol", "0"], 2, "--tol must be a number greater than 0"),
        (["--tol", "inf"], 2, "--tol must be a number greater than 0"),
        (["--test-fraction", "2"], 2, "between 0 and 1"),
    ],
)
def test_wrong_usage_of_train(tmp_path, capsys, monkeypatch, options, code, text):
    monkeypatch.chdir(tmp_path)
    error = refused(capsys, code, "train", *options)
    assert re.search(text, error), error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("train --impute --drop hospital", "--impute needs a value, and the option --drop stands in its place"),
        ("report m.h5 -o --force", "-o needs a value, and the option --force stands in its place"),
        ("influence --model m.h5 -t --no-verify", "-t needs a value, and the option --no-verify stands in its place"),
        ("select --sizes", "--sizes needs a value, and the line ends behind it"),
        ("train --label=--drop --data none.csv", "none.csv"),
    ],
)
def test_an_option_is_no_value_of_another(line, text, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(line.split()) in (2, 3)
    assert text in capsys.readouterr().err


def test_a_misspelt_command(capsys):
    assert "Did you mean 'train'?" in refused(capsys, 2, "trian")


def test_without_a_command_there_is_help(capsys):
    assert run([]) == 2
    out, err = capsys.readouterr()
    assert "Usage: ginf" in out
    assert err == ""


def test_a_defect_is_told_as_one(monkeypatch, capsys):
    """The one case with a traceback: it is needed for the report."""

    def broken(*arguments, **options):
        raise ZeroDivisionError

    monkeypatch.setattr("influence_cli.cli.app", broken)
    assert run(["train"]) == 1
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert re.search(r"ginf: error: this is a defect of ginf \S+: ZeroDivisionError\nhint: please report", error)


def test_every_error_has_an_exit_code_of_its_own_kind():
    kinds = GinfError.__subclasses__()
    assert {int(kind.code) for kind in kinds} == {2, 3, 4, 5}


@pytest.mark.parametrize("name", [command.callback.__name__ for command in app.registered_commands])
def test_help_has_a_purpose_an_example_and_fits(name, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert run([name, "-h"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 24, "more than a screen"
    assert max(map(len, lines)) <= 80
    assert f"more: ginf {name} --help" in lines[-1]
    assert f"Example: ginf {name} " in " ".join(line.strip() for line in lines)
    assert run([name, "--help"]) == 0
    full = capsys.readouterr().out.splitlines()
    text = " ".join(line.strip() for line in full)
    assert max(map(len, full)) <= 80
    options = [flag for one in get_command(app).commands[name].params for flag in one.opts if flag.startswith("--")]
    assert len(options) >= 9
    assert not [flag for flag in options if not re.search(rf"(?<![\w-]){flag}(?![\w-])", text)]
    assert f"Example: ginf {name} " in text
    assert "…" not in text, "something is cut"
    for option in re.findall(r"--format|--seed", text):
        assert re.search(rf"{option}.*?\[default: ", text)


def test_help_shows_defaults_that_are_decided_later(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["influence", "--help"]) == 0
    text = capsys.readouterr().out
    assert "Model file: $GINF_MODEL, else ginf.h5, else made." in text
    assert "[default: (as many as OPENBLAS_NUM_THREADS" in text
    assert run(["select", "--help"]) == 0
    text = capsys.readouterr().out
    for default in ("(relinearize, followed by", "(5%)", "(all but the label and --id)", "(100; with --sizes 10)"):
        assert f"[default: {default}" in text


@pytest.mark.parametrize("command", ["influence", "groundtruth", "train", "show", "report"])
def test_the_common_options_fit_a_screen(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert run([command, "--help"]) == 0
    lines = capsys.readouterr().out.splitlines()
    ends = [at for at, line in enumerate(lines) if line.startswith("╰")]
    assert ends["Arguments" in "".join(lines)] < 30


def test_the_full_help_of_the_longest_command_is_short(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["train", "--help"]) == 0
    out = capsys.readouterr().out
    assert len(out.splitlines()) <= 140
    assert "<=x" not in out and "[x>=" not in out


@pytest.mark.parametrize("solver", ["cg", "cholesky"])
def test_parameters_that_the_rows_do_not_determine_are_refused_whatever_the_solver(solver, tmp_path, capsys):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "flat.npz", X_train=rng.normal(size=(6, 9)), y_train=rng.normal(size=6),
             X_test=rng.normal(size=(2, 9)), y_test=rng.normal(size=2))  # fmt: skip
    asked = ("--data", str(tmp_path / "flat.npz"), "--estimator", "linear", "--l2", "0", "-o", str(tmp_path / "m.h5"))
    assert run(["train", *asked, "--solver", solver]) == 4
    said = capsys.readouterr().err
    assert "6 training rows do not determine the parameters of 9 columns (more features than rows): x5" in said
    assert not (tmp_path / "m.h5").exists()


def test_words_that_are_nearly_right_are_guessed(folder, capsys):
    asked = ["--model", str(folder / "good.h5"), "--test", "1"]
    for words, guess in (
        (["influence", "--group", "random:3", "--quantity", "probability"], "did you mean prob?"),
        (["influence", "--group", "random:3", "--method", "seccond"], "did you mean second?"),
        (["select", "--size", "3", "--strategy", "gredy"], "did you mean greedy?"),
    ):
        assert run([words[0], *asked, *words[1:]]) == 2
        assert f"hint: {guess}" in capsys.readouterr().err


def test_a_group_that_does_not_suit_the_data_is_named_with_its_line(folder, tmp_path, capsys):
    groups = tmp_path / "groups.txt"
    groups.write_text("random:3\n\n# more\nrows:99999\n")
    assert run(["influence", "--model", str(folder / "good.h5"), "--test", "1", "--groups", str(groups)]) == 2
    assert f"ginf: error: {groups}:4: group 'rows:99999': " in capsys.readouterr().err


def test_usage_names_files_without_braces(capsys):
    for command, usage in (("compare", "FILE..."), ("report", "FILE..."), ("show", "FILE")):
        assert run([command, "-h"]) == 0
        assert f"Usage: ginf {command} [OPTIONS] {usage}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("train", "--seed", "x"), "--seed must be a whole number of 0 or more, found 'x'"),
        (("train", "--seed", "3", "--seed=-1"), "--seed must be a whole number of 0 or more, found '-1'"),
        (("train", "--l2", "1,5"), "--l2 must be a number, found '1,5'"),
        (("select", "--describe", "0"), "--describe must be a whole number of 1 or more, found '0'"),
        (("groundtruth", "--repeats", "1001"), "--repeats must be a whole number from 1 to 1,000, found '1001'"),
        (("show", "--top="), "--top must be a whole number of 1 or more, found ''"),
    ],
)
def test_numbers_say_what_is_expected_and_what_was_found(options, message, capsys):
    assert run(list(options)) == 2
    assert capsys.readouterr().err == f"ginf: error: {message}\nhint: see ginf {options[0]} --help\n"
