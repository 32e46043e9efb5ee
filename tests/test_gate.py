"""``--fail-above``: a command ends with 5 where a change, its error added, is larger than the limit or unknown."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from influence_cli.cli import run

ASKED = ["-m", "m.h5", "--group", "by:site", "--test", "0:3", "--quantity", "prob", "--quiet", "--format", "json"]
ERRORS = {"influence": ("refined", "error"), "groundtruth": ("actual", "actual_error")}


@pytest.fixture
def folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lines = [
        f"{x:.3f},{'ABC'[row % 3]},{int(x + (row % 3) + rng.normal() > 1)}"
        for row, x in enumerate(rng.normal(size=120))
    ]
    Path("d.csv").write_text("x,site,y\n" + "\n".join(lines) + "\n")
    assert run(["train", "--data", "d.csv", "--label", "y", "--drop", "site", "-o", "m.h5", "--quiet"]) == 0
    capsys.readouterr()


def answered(capsys, *arguments):
    code = run(list(arguments))
    printed = capsys.readouterr()
    return code, json.loads(printed.out or "[]"), printed.err


@pytest.mark.parametrize("command", ERRORS)
def test_the_largest_change_with_its_error_is_held_against_the_limit(folder, capsys, command):
    _, records, _ = answered(capsys, command, *ASKED)
    change, error = ERRORS[command]
    largest = max(abs(record[change]) + record[error] for record in records)
    code, again, said = answered(capsys, command, *ASKED, "--fail-above", str(largest * (1 + 1e-9)))
    assert (code, said) == (0, "")
    code, printed, said = answered(capsys, command, *ASKED, "--fail-above", str(largest * (1 - 1e-9)))
    assert code == 5
    assert f"1 of {len(records)} figures (--fail-above)" in said
    figures = [[record[key] for key in ("group", "test", change, error)] for record in again]
    assert figures == [[record[key] for key in ("group", "test", change, error)] for record in printed], "nothing lost"


def test_a_limit_within_the_error_is_no_pass(folder, capsys):
    _, records, _ = answered(capsys, "influence", *ASKED, "--rel-error", "50%")
    largest = max(records, key=lambda record: abs(record["refined"]) + record["error"])
    between = abs(largest["refined"]) + largest["error"] / 2
    assert answered(capsys, "influence", *ASKED, "--rel-error", "50%", "--fail-above", str(between))[0] == 5


def test_methods_without_an_error_are_held_as_they_are(folder, capsys):
    first = ["influence", *ASKED, "--method", "first"]
    largest = max(abs(record["first"]) for record in answered(capsys, *first)[1])
    assert answered(capsys, *first, "--fail-above", str(largest))[0] == 0
    assert answered(capsys, *first, "--fail-above", str(largest * 0.999))[0] == 5


def test_retraining_decides_where_it_was_asked_for(folder, capsys):
    asked = ["influence", *ASKED, "--verify"]
    largest = max(abs(record["actual"]) for record in answered(capsys, *asked)[1])
    assert answered(capsys, *asked, "--fail-above", str(largest))[0] == 0
    assert answered(capsys, *asked, "--fail-above", str(largest * 0.999999))[0] == 5


def test_what_has_no_value_does_not_pass(folder, capsys):
    Path("u.csv").write_text("x,y\n" + "\n".join(f"{row},{int(row > 8)}" for row in range(16)) + "\n")
    lossless = ["train", "--data", "u.csv", "--label", "y", "--test-fraction", "0", "-o", "u.h5", "--quiet"]
    assert run(lossless) == 0
    capsys.readouterr()
    asked = ["-m", "u.h5", "--group", "coherent:1", "--test", "15", "--quiet", "--format", "json"]
    code, records, said = answered(capsys, "groundtruth", *asked, "--fail-above", "1e9")
    assert records[0]["actual"] is None
    assert code == 5
    assert "coherent:1 has no value" in said


@pytest.mark.parametrize("limit", ["-0.1", "inf", "nan"])
@pytest.mark.parametrize("command", ERRORS)
def test_a_limit_that_is_none_is_refused(folder, capsys, command, limit):
    code, records, said = answered(capsys, command, *ASKED, "--fail-above", limit)
    assert (code, records) == (2, [])
    assert "--fail-above must be a size of at least 0" in said


def test_explanations_have_no_use_for_it(folder, capsys):
    asked = ["-m", "m.h5", "--group", "column:site=A", "--test", "0", "--explain", "--fail-above", "1"]
    code, _, said = answered(capsys, "influence", *asked)
    assert code == 2
    assert "--fail-above does not go with --explain" in said
