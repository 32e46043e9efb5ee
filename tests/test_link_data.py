"""``ginf train --link-data``: a model without its rows answers as the one that has them, or says why it cannot."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from cli_tools import leftovers, save_blobs, train

from influence_cli.artifacts.model import load_model
from influence_cli.artifacts.schema import LINK
from influence_cli.cli import run
from influence_cli.errors import ExitCode, FileError
from influence_cli.models.linked import linked_rows

SAMPLE_DIGITS = Path(__file__).parent.parent / "sample_data" / "digits"
MEASURED = {"seconds", "iterations"}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GINF_MODEL", raising=False)
    return tmp_path


def save_table(path: Path, rows: int, seed: int, *, labelled: bool = True) -> str:
    """Numbers with some missing, texts with commas, identifiers, weights, and a label of three classes."""
    rng = np.random.default_rng(seed)
    lines = ["id,age,dose,site,trust" + ",outcome" * labelled]
    for row in range(rows):
        site = ["North", '"South, by the sea"', "Ost"][rng.integers(3)]
        dose = "" if row % 11 == 4 else repr(float(rng.normal(5, 2)))
        outcome = f",{['ill', 'well', 'unsure'][(row + rng.integers(2)) % 3]}" * labelled
        lines.append(f"p{row},{rng.normal(60, 10)!r},{dose},{site},{rng.integers(1, 4)}{outcome}")
    path.write_text("\n".join(lines) + "\n")
    return path.name


def save_svmlight(path: Path, rows: int, seed: int) -> str:
    rng = np.random.default_rng(seed)
    lines = []
    for row in range(rows):
        places = np.flatnonzero(rng.random(40) < 0.3) + 1
        lines.append(" ".join([str(row % 2), *(f"{place}:{rng.normal() + row % 2!r}" for place in places)]))
    path.write_text("\n".join(lines) + "\n")
    return path.name


def table_case(folder: Path) -> list[str]:
    save_table(folder / "new.csv", 9, 1)
    return [
        *("--data", save_table(folder / "table.csv", 90, 0), "--test-data", "new.csv", "--label", "outcome"),
        *("--id", "id", "--impute", "median", "--sample-weight", "trust", "--class-weight", "balanced"),
    ]


def split_table_case(folder: Path) -> list[str]:
    """Split by seed and fraction, without standardising, the features named."""
    options = ["--label", "outcome", "--features", "age,site", "--id", "id", "--no-standardize"]
    return ["--data", save_table(folder / "table.csv", 90, 0), *options, "--seed", "5", "--test-fraction", "0.3"]


def svmlight_case(folder: Path) -> list[str]:
    save_svmlight(folder / "test.svm", 12, 1)
    return ["--data", save_svmlight(folder / "rows.svm", 80, 0), "--test-data", "test.svm", "--C", "0.5"]


def npz_case(folder: Path) -> list[str]:
    """Scaled, with a split of its own."""
    save_blobs(folder / "blobs.npz")
    return ["--data", "blobs.npz", "--standardize"]


def regression_case(folder: Path) -> list[str]:
    """Split by its seed, weights in the file."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    np.savez(folder / "r.npz", X=X, y=X.sum(axis=1) + rng.normal(size=60), sample_weight=rng.integers(1, 4, 60))
    return ["--data", "r.npz", "--estimator", "linear", "--sample-weight", "sample_weight", "--seed", "3"]


def hdf5_case(folder: Path) -> list[str]:
    with np.load(save_blobs(folder / "b.npz")) as arrays, h5py.File(folder / "b.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return ["--data", "b.h5"]


def images_case(folder: Path) -> list[str]:
    shutil.copytree(SAMPLE_DIGITS, folder / "images")
    return ["--data", "images", "--l2", "0.01"]


def network_case(folder: Path) -> list[str]:
    save_blobs(folder / "blobs.npz")
    return ["--data", "blobs.npz", "--estimator", "mlp", "--hidden", "4", "--seed", "2", "--l2", "0.01"]


CASES = {
    "table": table_case,
    "split table": split_table_case,
    "svmlight": svmlight_case,
    "npz": npz_case,
    "regression": regression_case,
    "hdf5": hdf5_case,
    "IDX": images_case,
    "built-in": lambda folder: ["--data", "digits", "--l2", "0.01"],
    "random built-in": lambda folder: ["--data", "synthetic", "--seed", "4"],
    "network": network_case,
}


def both(*options: str) -> tuple[str, str]:
    """The files of the same training without and with ``--link-data``."""
    for name, more in (("whole.h5", []), ("linked.h5", ["--link-data"])):
        assert run(["train", *options, *more, "--quiet", "-o", name]) == 0
    return "whole.h5", "linked.h5"


def records(capsys, command: str, *arguments: str) -> list[dict]:
    capsys.readouterr()
    assert run([command, *arguments, "--quiet", "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return [{key: value for key, value in record.items() if key not in MEASURED} for record in found]


def failure(capsys, *arguments: str) -> str:
    """What a command says that cannot use a linked model."""
    capsys.readouterr()
    assert run([*arguments]) == ExitCode.FILE
    told = capsys.readouterr()
    assert told.out == ""
    error, hint = told.err.strip().split("\n")
    assert hint == "hint: bring the data back as it was, or train again: ginf train ... --link-data"
    return error


def stored(path: str) -> list[str]:
    names: list[str] = []
    with h5py.File(path) as file:
        file.visit(names.append)
    return names


@pytest.mark.parametrize("case", CASES)
def test_every_figure_is_that_of_the_whole_model_to_the_last_bit(folder, monkeypatch, capsys, case):
    whole, linked = (str(folder / name) for name in both(*CASES[case](folder)))
    names = stored(linked)
    assert not [name for name in names if name.startswith(("data/X_", "columns"))]
    assert {"data/y_train", "data/y_test", "data/classes", "params/theta", "gradients/residuals"} <= set(names)
    one, other = load_model(whole), load_model(linked, fetch=linked_rows)
    assert (one.digest, one.dataset.digest) == (other.digest, other.dataset.digest)
    assert one.dataset.name == other.dataset.name
    assert one.dataset.image_shape == other.dataset.image_shape
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)  # the link holds wherever ginf is started
    asked = ["--group", "random:10%x3", "--group", "rows:0,3,5", "--test", "0:3"]
    if case == "table":
        asked += ["--group", "by:site", "--group", "column:id=p7"]
    found = [
        records(capsys, "influence", "--model", model, *asked, "-o", f"{Path(model).stem}-i.h5")
        for model in (whole, linked)
    ]
    assert found[0] == found[1]
    assert len(found[0]) >= 12 and all(np.isfinite(record["second"]) for record in found[0])
    with h5py.File("whole-i.h5") as a, h5py.File("linked-i.h5") as b:
        assert a["values/second"][()].tobytes() == b["values/second"][()].tobytes()


@pytest.mark.parametrize("case", ["table", "svmlight"])
def test_every_command_takes_a_linked_model(folder, capsys, case):
    whole, linked = both(*CASES[case](folder))
    asked = ["--group", "random:20%x4", "--group", "coherent:*:3", "--test", "0:2"]
    found = []
    for number, model in enumerate((whole, linked)):
        truth, estimate = f"truth{number}.h5", f"estimate{number}.h5"
        found.append([
            records(capsys, "groundtruth", "--model", model, *asked, "-o", truth),
            records(capsys, "groundtruth", "--model", linked, *asked, "-o", truth, "--resume"),
            records(capsys, "influence", "--model", model, *asked, "--method", "first,newton,rif", "-o", estimate),
            records(capsys, "select", "--model", model, "--test", "1", "--size", "4", "--strategy", "greedy"),
            records(capsys, "compare", estimate, "truth0.h5"),
        ])  # fmt: skip
    assert found[0] == found[1]


@pytest.mark.parametrize("case", ["table", "npz"])
def test_the_factor_is_cached_beside_the_link(folder, capsys, case):
    whole, linked = both(*CASES[case](folder), "--solver", "cg")
    asked = ["--group", "random:10%x2", "--test", "0", "--solver", "cholesky"]
    first = [records(capsys, "influence", "--model", model, *asked) for model in (whole, linked)]
    assert "hessian/cholesky" in stored(linked) and not any("X_" in name for name in stored(linked))
    capsys.readouterr()
    assert run(["influence", "--model", linked, *asked, "--verbose"]) == 0
    assert f"reusing the factor cached in {linked}" in capsys.readouterr().err
    assert first[0] == first[1] == records(capsys, "influence", "--model", linked, *asked)


def test_the_file_is_smaller_than_the_features_alone(folder):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 60))
    np.savez("wide.npz", X_train=X, y_train=(X[:, 0] > 0).astype(int), X_test=X[:50], y_test=np.arange(50) % 2)
    whole, linked = (Path(name).stat().st_size for name in both("--data", "wide.npz"))
    assert linked < X.nbytes / 8 < X.nbytes < whole


def test_what_is_kept_of_the_data(folder, capsys):
    options = table_case(folder)
    assert run(["train", *options, "--link-data", "-o", "m.h5"]) == 0
    told = capsys.readouterr().err
    assert f"m.h5 is linked to its data: keep unchanged {folder}/table.csv, {folder}/new.csv\n" in told
    with h5py.File("m.h5") as file:
        assert json.loads(file.attrs["data_link"]) == {
            "data": f"{folder}/table.csv",
            "test_data": f"{folder}/new.csv",
        }
        assert file.attrs["data_name"] == b"table.csv"
    train("blobs", folder / "b.h5", "--link-data")
    with h5py.File("b.h5") as file:
        assert json.loads(file.attrs["data_link"]) == {"data": "blobs"}


def test_a_file_of_a_built_in_name_is_not_the_built_in_data(folder, capsys):
    shutil.copytree(SAMPLE_DIGITS, "digits")
    whole, linked = both("--data", "./digits", "--l2", "0.01")
    asked = ["--group", "random:10%", "--test", "0"]
    assert records(capsys, "influence", "--model", whole, *asked) == records(
        capsys, "influence", "--model", linked, *asked
    )


def test_a_pipeline_of_scikit_learn(folder, capsys):
    skops = pytest.importorskip("skops.io")
    pandas = pytest.importorskip("pandas")
    from sklearn.compose import ColumnTransformer
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    save_table(folder / "new.csv", 9, 1)
    frame = pandas.read_csv(save_table(folder / "table.csv", 90, 0))
    numbers = make_pipeline(StandardScaler(), PCA(2))
    pipeline = make_pipeline(
        ColumnTransformer([("n", numbers, ["age", "trust"]), ("t", OneHotEncoder(), ["site"])]),
        LogisticRegression(C=0.5, class_weight="balanced", tol=1e-9),
    )
    skops.dump(pipeline.fit(frame[["age", "trust", "site"]], frame["outcome"]), "m.skops")
    options = ["--from", "m.skops", "--data", "table.csv", "--test-data", "new.csv", "--label", "outcome"]
    whole, linked = both(*options, "--id", "id", "--drop", "dose")
    assert load_model(linked, fetch=linked_rows).link["from"] == f"{folder}/m.skops"
    asked = ["--group", "by:site", "--test", "0:3"]
    expected = records(capsys, "influence", "--model", whole, *asked)
    assert records(capsys, "influence", "--model", linked, *asked) == expected
    other = make_pipeline(*(step for _, step in pipeline.steps)).fit(frame[["age", "trust", "site"]][:60],
                                                                     frame["outcome"][:60])  # fmt: skip
    skops.dump(other, "m.skops")
    error = failure(capsys, "influence", "--model", linked, *asked)
    assert f"its rows are no longer those of {folder}/table.csv, {folder}/m.skops, {folder}/new.csv: expected" in error
    Path("m.skops").unlink()
    error = failure(capsys, "influence", "--model", linked, *asked)
    assert error.endswith(f"its rows cannot be had again: {folder}/m.skops: no such file")


def test_rows_made_by_products_are_the_same_on_every_number_of_threads(folder, capsys):
    skops = pytest.importorskip("skops.io")
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import make_pipeline

    rng = np.random.default_rng(0)
    X = rng.normal(size=(1003, 501))
    y = X[:, 0] + rng.normal(size=1003)
    skops.dump(make_pipeline(PCA(7, svd_solver="full"), LinearRegression()).fit(X, y), "m.skops")
    np.savez("rows.npz", X=X, y=y)
    train("rows.npz", folder / "m.h5", "--from", "m.skops", "--link-data", "--threads", "1")
    for threads in ("1", "2", "3"):
        assert run(["influence", "--model", "m.h5", *ASKED["influence"], "--threads", threads, "--quiet"]) == 0


# --- gone or changed ---


ASKED = {
    "influence": ["--group", "random:10%", "--test", "0"],
    "groundtruth": ["--group", "random:10%", "--test", "0"],
    "select": ["--size", "3", "--test", "0"],
}


@pytest.mark.parametrize(
    ("case", "gone"),
    [("table", "table.csv"), ("table", "new.csv"), ("svmlight", "rows.svm"), ("npz", "blobs.npz"), ("IDX", "images")],
)
def test_data_that_is_gone(folder, capsys, case, gone):
    train(*_source(CASES[case](folder), folder))
    shutil.move(gone, "moved")
    expected = f"its rows cannot be had again: {folder}/{gone}: no such file or folder"
    commands = [[command, "--model", "m.h5", *asked] for command, asked in ASKED.items()]
    for each in commands:
        assert failure(capsys, *each) == f"ginf: error: m.h5 was trained with --link-data, and {expected}"
    shutil.move("moved", gone)
    assert [run([*each, "--quiet"]) for each in commands] == [0, 0, 0]


def _source(options: list[str], folder: Path) -> list:
    """The arguments of ``cli_tools.train`` for a linked m.h5."""
    assert options[0] == "--data"
    return [options[1], folder / "m.h5", *options[2:], "--link-data"]


def test_a_label_file_that_was_moved(folder, capsys):
    train(*_source(images_case(folder), folder))
    labels = next(path for path in Path("images").iterdir() if path.name.startswith("train-labels"))
    labels.rename(labels.name)
    error = failure(capsys, "influence", "--model", "m.h5", *ASKED["influence"])
    assert "m.h5 was trained with --link-data, and its rows cannot be had again: " in error
    assert "train-labels" in error


def test_a_label_that_was_changed(folder, capsys):
    train(*_source(images_case(folder), folder))
    labels = next(path for path in Path("images").iterdir() if path.name.startswith("train-labels"))
    packed = labels.suffix == ".gz"
    content = bytearray(gzip.decompress(labels.read_bytes()) if packed else labels.read_bytes())
    content[-1] = (content[-1] + 1) % 10
    labels.write_bytes(gzip.compress(bytes(content)) if packed else bytes(content))
    error = failure(capsys, "influence", "--model", "m.h5", *ASKED["influence"])
    assert f"its rows are no longer those of {folder}/images: expected" in error


@pytest.mark.parametrize(
    ("case", "name", "old", "new"),
    [
        ("table", "table.csv", "p8,", "p8x,"),
        ("table", "new.csv", ",ill", ",well"),
        ("split table", "table.csv", ",1,", ",2,"),  # a column that is no feature and names groups
        ("svmlight", "rows.svm", ".5", ".6"),
        ("svmlight", "test.svm", "1 ", "0 "),
    ],
)
def test_data_of_which_one_value_has_changed(folder, capsys, case, name, old, new):
    train(*_source(CASES[case](folder), folder))
    before = load_model("m.h5", fetch=linked_rows)
    text = Path(name).read_text()
    assert old in text
    Path(name).write_text(text.replace(old, new, 1))
    data = before.dataset
    size = f"{data.rows} training and {len(data.y_test)} test rows of {data.X_train.shape[1]} features with the digest"
    sources = ", ".join(before.link.values())
    start = (
        f"ginf: error: m.h5 was trained with --link-data, and its rows are no longer those of {sources}:"
        f" expected {size} {data.digest[:12]}, found {size} "
    )
    for command, asked in ASKED.items():
        error = failure(capsys, command, "--model", "m.h5", *asked)
        assert error.startswith(start)
        assert error[len(start) :] != data.digest[:12]
        assert not leftovers(folder)


def test_the_last_bit_of_one_number_of_an_array(folder, capsys):
    train(save_blobs(folder / "blobs.npz"), folder / "m.h5", "--link-data")
    with np.load("blobs.npz") as file:
        arrays = dict(file)
    arrays["X_test"][2, 1] = np.nextafter(arrays["X_test"][2, 1], np.inf)
    np.savez("blobs.npz", **arrays)
    assert "its rows are no longer those of" in failure(capsys, "influence", "--model", "m.h5", *ASKED["influence"])


def test_data_of_another_size_and_columns_that_are_gone(folder, capsys):
    train(*_source(table_case(folder), folder))
    lines = Path("table.csv").read_text().splitlines()
    Path("table.csv").write_text("\n".join(lines[:-1]) + "\n")
    error = failure(capsys, "influence", "--model", "m.h5", *ASKED["influence"])
    assert "expected 90 training and 9 test rows of" in error and "found 89 training and 9 test rows of" in error
    Path("table.csv").write_text("\n".join([lines[0].replace("outcome", "result"), *lines[1:]]) + "\n")
    error = failure(capsys, "influence", "--model", "m.h5", *ASKED["influence"])
    assert f"cannot be had again: {folder}/table.csv: --label 'outcome' is no column of the table" in error


def test_no_result_replaces_the_data_that_a_model_is_linked_to(folder, capsys):
    train(*_source(hdf5_case(folder), folder))
    whole = Path("b.h5").read_bytes()
    for command, asked in ASKED.items():
        capsys.readouterr()
        assert run([command, "--model", "m.h5", *asked, "-o", "b.h5", "--force"]) == ExitCode.USAGE
        assert "-o b.h5 would replace a file that this command reads" in capsys.readouterr().err
    assert Path("b.h5").read_bytes() == whole


# --- the file itself ---


def test_either_the_rows_or_the_link_never_neither_never_both(folder):
    whole, linked = both(*npz_case(folder))
    shutil.copy(linked, "neither.h5")
    with h5py.File("neither.h5", "r+") as file:
        del file.attrs["data_link"]
    with pytest.raises(FileError) as caught:
        load_model("neither.h5")
    for split in ("X_train", "X_test"):
        assert f"/data/{split}: missing, expected float64" in caught.value.message
    assert f"(or /data/X_train_csr/data or {LINK})" in caught.value.message
    with h5py.File(whole) as file, h5py.File(linked, "r+") as other:
        file.copy("data/X_train", other["data"])
    with pytest.raises(FileError, match=f"/data/X_train: found beside {LINK}, expected one of the two"):
        load_model(linked, fetch=linked_rows)


@pytest.mark.parametrize("text", ['["data"]', "{}", '{"data": 3}', "7"])
def test_a_link_that_is_none(folder, text):
    train(*_source(npz_case(folder), folder))
    with h5py.File("m.h5", "r+") as file:
        file.attrs["data_link"] = text
    with pytest.raises(FileError, match=f"{LINK}: expected"):
        load_model("m.h5", fetch=linked_rows)


def test_settings_changed_by_hand_are_seen_before_the_data_is_read(folder):
    train(*_source(npz_case(folder), folder))
    with h5py.File("m.h5", "r+") as file:
        settings = json.loads(file.attrs["config"])
        file.attrs["config"] = json.dumps(settings | {"estimator": "linear"})
    with pytest.raises(FileError, match="@content_digest: expected the SHA-256"):
        load_model("m.h5", fetch=lambda *_: pytest.fail("read"))
