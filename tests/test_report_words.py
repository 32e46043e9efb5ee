"""The sentences of a report: each says what was asked, of whom, and from where to where the figure goes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from influence_cli.artifacts.results import load_truth
from influence_cli.cli import run

WHERE = "gap (mean probability of class good where sex is m minus where it is f)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("words")
    rng = np.random.default_rng(5)
    lines = ["loan,branch,sex,age,risk"]
    for at in range(120):
        branch, sex, age = rng.choice(["North", "South", "East"]), rng.choice(["f", "m"]), rng.integers(18, 80)
        good = rng.random() < 1 / (1 + np.exp(-(age - 45) / 20 - (sex == "m") + (branch == "East")))
        lines.append(f"L{at},{branch},{sex},{age},{'good' if good else 'bad'}")
    (made / "loans.csv").write_text("\n".join(lines) + "\n")
    asked = ("--data", str(made / "loans.csv"), "--label", "risk", "--id", "loan", "--quiet")
    assert run(["train", *asked, "-o", str(made / "m.h5")]) == 0
    return made


@pytest.fixture
def page(folder, capsys):
    """What ``ginf report`` makes of a command's file, as text."""

    def page(command, *options):
        file, out = folder / "f.h5", folder / "f.md"
        asked = ["--model", str(folder / "m.h5"), *options, "--quiet", "--force", "--format", "json"]
        assert run([command, *asked, "-o", str(file)]) == 0
        page.records = json.loads(capsys.readouterr().out)
        assert run(["report", str(file), "-o", str(out), "--quiet", "--force"]) == 0
        return out.read_text().replace("\\", "")

    return page


def test_a_gap_goes_from_somewhere_to_somewhere(page, folder):
    text = page("groundtruth", "-g", "by:branch", "-t", "all", "--quantity", "gap:sex:good")
    assert f"How would the {WHERE} change if each of these 3 groups" in text
    assert "Asked of: all chosen test rows." in text
    assert f"Change of the {WHERE} if a group is removed" in text
    assert "Without the group the figure is higher then: a gap below 0 is closer to 0, or beyond it." in text
    largest = max(load_truth(folder / "f.h5").records(), key=lambda one: abs(one["actual"]))
    after = largest["base"] + largest["actual"]
    said = f"the gap goes from {largest['base']:.4g} to {after:.4g} and so changes by {largest['actual']:+.4g} (ret"
    assert said in text
    assert "bar: the change\n" in text and "upright mark" not in text


def test_a_coefficient_is_asked_of_no_row(page):
    text = page("influence", "-g", "by:branch", "--quantity", "param:age")
    assert re.search(r"the parameter age goes from \S+ to \S+ and so changes by", text)
    assert "Asked of" not in text
    assert "thin line: how far it may be off" in text and "upright mark" not in text


def test_a_linear_estimate_is_no_place_to_go_to(page):
    text = page("influence", "-g", "by:branch", "-t", "0", "--method", "second", "--evaluate", "linear")
    assert re.search(r"the loss now at \S+ changes by \S+ \(an estimate", text) and "goes from" not in text


@pytest.mark.parametrize(
    ("options", "question"),
    [
        (("-t", "1", "--flip"), "have to be removed for the predicted class of test row 1 (id L"),
        (("--flip", "--quantity", "param:age"), "have to be removed for the sign of the parameter age"),
        (("-t", "1", "--size", "4,6"), "Which 4 or 6 training rows, removed together, raise the loss of test row 1 ("),
        (("-t", "1", "--size", "4", "--direction", "decrease"), "Which 4 training rows, removed together, lower the"),
        (("-t", "1", "--size", "3", "--at-most"), "Which at most 3 training rows, removed together, raise the"),
        (("-t", "0,1", "--size", "3"), "raise the loss of each of 2 test rows the most?"),
        (("-t", "1", "--candidates", "by:branch", "--size", "1"), "Which of these groups of training rows, or what"),
        (("-t", "1", "--describe", "1"), "Which groups of training rows, told by their columns, raise the loss of"),
        (("-t", "1", "--sizes", "5%,10%"), "change as more and more training rows are removed, chosen to raise it?"),
    ],
)
def test_a_search_says_what_was_looked_for(page, options, question):
    assert question in page("select", *options)
