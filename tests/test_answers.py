"""What an answer says beside its figures: class, values, common features of found rows, and whose truth it is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression

from influence_cli import GroupInfluence
from influence_cli.cli import run

NAMES = ("Adelie", "Chinstrap", "Gentoo")
COUNT = 90


def table(path: Path) -> Path:
    """Penguins of three species: the species and one island have what the others have not."""
    rng = np.random.default_rng(0)
    lines = ["nr,species,island,sex,bill,depth"]
    for at in range(COUNT):
        species = at % 3
        island = "Dream" if species == 1 else ("Biscoe", "Torgersen")[at // 3 % 2]
        sex = ("female", "male")[at // 2 % 2]
        bill, depth = rng.normal(40 + 5 * species, 2.0), rng.normal(15 + (sex == "male"), 1.0)
        lines.append(f"P{at:03},{NAMES[species]},{island},{sex},{bill:.2f},{depth:.2f}")
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    data = str(table(folder / "penguins.csv"))
    asked = ["train", "--data", data, "--label", "species", "--drop", "island", "--id", "nr", "--l2", "0.01", "--quiet"]
    assert run([*asked, "-o", str(folder / "m.h5"), "--format", "csv"]) == 0
    return folder


@pytest.fixture
def ask(folder, capsys):
    """Run a command on the model; exit code, stdout in one line, stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        code = run([arguments[0], "--model", str(folder / "m.h5"), *arguments[1:]])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.mark.parametrize("classes", [2, 3])
def test_the_probability_of_a_class_is_scikit_learns_before_and_after_a_refit(classes):
    rng = np.random.default_rng(1)
    X = rng.normal(size=(80, 2))
    y = np.array(["bad", "fair", "good"])[np.digitize(X[:, 0] + rng.normal(size=80), [0.0, 0.8][: classes - 1])]
    rows, kept = np.arange(10), np.arange(10, 80)

    def fitted(some):
        return LogisticRegression(C=0.5, tol=1e-12, max_iter=10_000, solver="newton-cg").fit(X[some], y[some])

    model = GroupInfluence.from_sklearn(fitted(slice(None)), X, y)
    before, after = fitted(slice(None)).predict_proba(X[:3]), fitted(kept).predict_proba(X[:3])
    for code, name in enumerate(model.model.dataset.classes):
        found = model.groundtruth(rows, X[:3], quantity=f"prob:{name}").records()
        assert [one["base"] for one in found] == pytest.approx(before[:, code], abs=1e-7)
        assert [one["actual"] for one in found] == pytest.approx((after - before)[:, code], abs=1e-6)
        guess = model.influence(rows, X[:3], quantity=f"prob:{name}", rel_error=1e-4).records()
        assert [one["refined"] for one in guess] == pytest.approx((after - before)[:, code], abs=1e-4)


def test_a_class_that_does_not_exist_is_refused(ask):
    code, _, err = ask("influence", "--group", "by:sex", "--test", "0", "--quantity", "prob:Gento")
    assert code == 2 and "no class is named 'Gento'" in err and "did you mean Gentoo?" in err


def test_what_found_rows_have_in_common_is_counted(ask, folder):
    found = str(folder / "s.h5")
    code, out, _ = ask("select", "--test", "0", "--size", "6", "--format", "json", "-o", found, "--force")
    (record,) = json.loads(out)
    lines = [line.split(",") for line in (folder / "penguins.csv").read_text().splitlines()[1:]]
    by_id = {line[0]: line for line in lines}
    own = [by_id[name] for name in record["ids"]]
    assert code == 0 and [lines[at - 1][0] for at in record["records"]] == record["ids"]
    species = [line[1] for line in own]
    common = max(set(species), key=species.count)
    count = "all" if species.count(common) == 6 else f"{species.count(common)} of 6"
    assert record["description"].startswith(f"{count} species {common} (")
    assert record["true"] in NAMES and record["id"] in by_id
    run(["show", found, "--format", "table"])


def test_values_and_means_are_told_where_they_differ():
    from influence_cli.analysis.describe import Description

    rng = np.random.default_rng(2)
    site, dose = np.repeat(["A", "B"], 50), rng.normal(size=100)
    dose[:10] += 5.0
    import pandas

    frame = pandas.DataFrame({"dose": dose, "noise": rng.normal(size=100)})
    data = GroupInfluence.fit(frame, site, l2=0.1).model.dataset
    away = (dose[:10].mean() - dose.mean()) / dose.std()
    told = Description(data)
    assert told.of(np.arange(10)) == f"all label A (50% of all rows); dose {away:.1f} sd over the mean"
    assert told.of(np.array([0, 60])).startswith("1 of 2 label A (50% of all rows)")
    assert told.of(np.array([70])).startswith("label B (50% of all rows)")


def test_a_flip_names_both_classes_as_a_refit_does(ask, folder, capsys):
    _, out, _ = ask("select", "--test", "0", "--flip", "--format", "json", "-o", str(folder / "f.h5"))
    (record,) = json.loads(out)
    arguments = ["--test", "0", "--group", "ids:" + ",".join(record["ids"]), "--preprocessing", "frozen"]
    after = {}
    for name in NAMES:
        _, out, _ = ask("groundtruth", *arguments, "--quantity", f"prob:{name}", "--format", "json")
        (truth,) = json.loads(out)
        after[name] = truth["base"] + truth["actual"]
    assert sum(after.values()) == pytest.approx(1.0)
    assert record["class_after"] == max(after, key=after.__getitem__) != record["predicted"]
    assert run(["show", str(folder / "f.h5"), "--format", "table"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert f"predicted {record['predicted']} now, {record['class_after']} without them" in text
    assert f"training ids {record['ids'][0]}" in text
    assert not {"direction", "constraint", "draws", "merit"} & set(text.split("Change of")[0].split())


def test_a_gap_names_both_values_and_the_class(ask):
    asked = ("--group", "by:island", "--test", "all", "--quantity", "gap:sex:Gentoo", "--format", "table")
    code, out, _ = ask("influence", *asked)
    words = "mean probability of class Gentoo where sex is male minus where it is female"
    assert code == 0 and words in " ".join(out.split())
    assert words in " ".join(ask("groundtruth", *asked)[1].split())


def test_a_verified_file_is_enough_to_compare(ask, folder, capsys):
    asked = ("--group", "by:island", "--test", "0,1", "--format", "csv", "--quiet")
    ask("influence", *asked, "--verify", "-o", str(folder / "v.h5"))
    ask("influence", *asked, "-o", str(folder / "i.h5"))
    ask("groundtruth", *asked, "-o", str(folder / "t.h5"))
    found = []
    for files in (["v.h5"], ["i.h5", "t.h5"]):
        assert run(["compare", *(str(folder / name) for name in files), "--format", "json"]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert len(found[0]) == len(found[1])
    for one, other in zip(*found, strict=True):
        assert one["pearson"] == pytest.approx(other["pearson"], abs=1e-6)
        assert one["relative_error"] == pytest.approx(other["relative_error"], rel=1e-4)
    assert run(["compare", str(folder / "i.h5")]) == 2
    assert "ginf influence --verify" in capsys.readouterr().err


def test_a_comparison_of_a_network_says_that_the_objectives_differ(tmp_path, capsys):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(60, 2))
    np.savez(tmp_path / "d.npz", X_train=X, y_train=(X[:, 0] > 0).astype(int), X_test=X[:4], y_test=[0, 1, 0, 1])
    model = str(tmp_path / "n.h5")
    run(
        ["train", "--data", str(tmp_path / "d.npz"), "--estimator", "mlp", "--hidden", "2", "--l2", "0.01", "-o", model]
    )
    asked = ["--model", model, "--group", "random:5x4", "--test", "0"]
    run(["influence", *asked, "--verify", "-o", str(tmp_path / "v.h5")])
    run(["groundtruth", *asked, "--retrain", "proximal", "-o", str(tmp_path / "p.h5")])
    capsys.readouterr()
    for files, differs in ((["v.h5"], True), (["v.h5", "p.h5"], False)):
        run(["compare", *(str(tmp_path / name) for name in files), "--format", "table"])
        out = " ".join(capsys.readouterr().out.split())
        assert ("refined is about the proximal objective" in out) == differs
    run(["show", str(tmp_path / "v.h5"), "--format", "table"])
    out = " ".join(capsys.readouterr().out.split())
    assert "(proximal)" in out and "(warm)" in out
    run(["select", "--model", model, "--test", "0", "--size", "3,5", "--format", "json", "-o", str(tmp_path / "s.h5")])
    assert {one["objective"] for one in json.loads(capsys.readouterr().out)} == {"proximal"}
    run(["show", str(tmp_path / "s.h5"), "--format", "table"])
    out = " ".join(capsys.readouterr().out.split())
    assert "proximal: what is predicted" in out and "relinearize, 3 rows: training records" in out
    run(["report", str(tmp_path / "v.h5"), "-o", str(tmp_path / "r.md")])
    assert "refined is about the proximal objective" in " ".join((tmp_path / "r.md").read_text().split()).lower()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["influence", "--group", "random:0.1", "--test", "0"], 2, "did you mean 10%?"),
        (["influence", "--groups", "by:island", "--test", "0"], 3, "did you mean --group 'by:island'?"),
        (["influence", "--group", "by:sex", "--test", "0", "--quantity", "probability"], 2, "did you mean prob?"),
        (["influence", "--group", "by:sex", "--test", "P021"], 2, "did you mean --test id:P021?"),
        (["influence", "--group", "by:sex", "--test", "90"], 2, "--test record:90 is record 90 of the file"),
        (["influence", "--group", "by:age", "--test", "0"], 2, "For example: --group by:sex"),
        (["influence", "--group", "by:sex", "--test", "0", "-o", "out.jpg"], 2, "expected the ending one of .h5"),
        (["train", "--data", "https://x.org/a.csv", "--label", "y"], 3, "curl -Lo a.csv https://x.org/a.csv"),
        (["train", "--data", "-", "--label", "y"], 3, "not from standard input"),
        (["train", "--data", "header.csv", "--label", "y"], 3, "at least two rows must follow"),
        (["train", "--data", "sheet.xlsx", "--label", "y"], 3, "save it as CSV"),
        (["train", "--data", "penguins.csv", "--label", "sex", "--id", "species"], 3, "identifiers must differ"),
    ],
)
def test_a_mistake_is_met_with_what_was_meant(folder, monkeypatch, capsys, arguments, code, words):
    from zipfile import ZipFile

    monkeypatch.chdir(folder)
    Path("header.csv").write_text("x,y\n")
    with ZipFile("sheet.xlsx", "w") as book:
        book.writestr("xl/workbook.xml", "<x/>")
    model = [] if arguments[0] == "train" else ["--model", "m.h5"]
    assert run([arguments[0], *model, *arguments[1:]]) == code
    assert words in capsys.readouterr().err


def test_a_result_is_written_as_its_ending_says(ask, folder):
    path = folder / "out.csv"
    asked = ("--group", "column:sex=male,island=Dream", "--test", "0", "-o", str(path), "--format", "csv")
    assert ask("influence", *asked)[0] == 0
    head, row = path.read_text().splitlines()
    assert head.startswith("group,kind,size,") and row.startswith('"column:island=Dream,sex=male",column,')


def test_the_class_after_a_flip_is_judged_as_the_flip_is(tmp_path, capsys):
    """With means and scales as they were; made again without these rows, the class does not change."""
    wine, kept = load_wine(), [0, 6, 9]
    rows = zip(wine.data[::2][:, kept], wine.target[::2], strict=True)
    lines = ["a,b,c,kind", *(f"{','.join(map(str, row))},k{kind}" for row, kind in rows)]
    (tmp_path / "w.csv").write_text("\n".join(lines) + "\n")
    model = str(tmp_path / "w.h5")
    assert run(["train", "--data", str(tmp_path / "w.csv"), "--label", "kind", "-o", model, "--quiet"]) == 0
    capsys.readouterr()
    assert run(["select", "--model", model, "--test", "4", "--flip", "--format", "json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    after = {}
    for way in ("frozen", "refit"):
        asked = ["groundtruth", "--model", model, "--test", "4", "--preprocessing", way, "--format", "json"]
        group = "rows:" + ",".join(map(str, record["rows"]))
        assert run([*asked, "--group", group, "--quantity", f"prob:{record['predicted']}"]) == 0
        (truth,) = json.loads(capsys.readouterr().out)
        after[way] = truth["base"] + truth["actual"]
    assert after["frozen"] < 0.5 < after["refit"], "an example of both"
    assert record["class_after"] != record["predicted"]


def test_agreement_names_the_test_rows_as_their_file_does(ask, folder, capsys):
    for command, name in (("influence", "ci.h5"), ("groundtruth", "ct.h5")):
        ask(command, "--group", "by:island", "--test", "0,1", "-o", str(folder / name), "--force")
    _, out, _ = ask("select", "--test", "0", "--size", "1", "--format", "json")
    (record,) = json.loads(out)
    capsys.readouterr()
    assert run(["compare", str(folder / "ci.h5"), str(folder / "ct.h5"), "--format", "table"]) == 0
    assert f"Test row 0 (id {record['id']}, record {record['record']})" in capsys.readouterr().out
