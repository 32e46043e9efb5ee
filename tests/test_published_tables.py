"""Look-alikes of tables that are published: their separators, signs and identifiers, read as they are."""

from __future__ import annotations

import csv
import io
import json
import sys

import numpy as np
import pytest
from published import published_tables

from influence_cli.cli import run

RNG = np.random.default_rng(6)
M = 120
NUMBER = RNG.integers(17, 90, M)
MONEY = RNG.lognormal(9, 1, M)
KIND = RNG.choice(["a", "b", "c"], M)
SEX = RNG.choice(["male", "female"], M)
BAD = NUMBER + RNG.normal(0, 20, M) > 50


def rows(*columns, separator=","):
    return "".join(separator.join(map(str, fields)) + "\n" for fields in zip(*columns, strict=True))


def labels(no, yes):
    return np.where(BAD, yes, no)


TABLES = {
    # name: (header, body, options, group, what is said)
    "adult": (
        "age, workclass, fnlwgt, sex, capital-gain, income\n",
        rows(
            NUMBER,
            [f" {'?' if at % 11 == 0 else kind}" for at, kind in enumerate(KIND)],
            [f" {money:.0f}" for money in MONEY],
            [f" {sex}" for sex in SEX],
            [" 0" if at % 9 else " 2174" for at in range(M)],
            [f" {label}" for label in labels("<=50K", ">50K")],
        ),
        ["--label", "income"],
        "by:sex",
        ["column workclass: '?' in 11 rows is a category of its own; --missing '?' makes it missing"],
    ),
    "german_credit": (
        "status duration purpose amount class\n",
        rows([f"A1{at % 4 + 1}" for at in range(M)], NUMBER, KIND, MONEY.astype(int), labels(1, 2), separator=" "),
        ["--label", "class"],
        "by:purpose",
        ["fields are separated by blanks"],
    ),
    "bank_marketing": (
        '"age";"job";"balance";"euribor3m";"y"\n',
        rows(
            NUMBER,
            [f'"{kind}"' for kind in KIND],
            MONEY.astype(int),
            MONEY.round(3) / 1e4,
            [f'"{label}"' for label in labels("no", "yes")],
            separator=";",
        ),
        ["--label", "y"],
        "by:job",
        ["fields are separated by semicolons"],
    ),
    "wine_quality": (
        '"fixed acidity";"density";"quality"\n',
        rows((NUMBER / 10).round(1), (0.99 + MONEY / 1e7).round(5), labels(5, 6), separator=";"),
        ["--label", "quality"],
        "column:fixed acidity=..5",
        ["fields are separated by semicolons"],
    ),
    "titanic": (
        "PassengerId,Survived,Name,Sex,Age,Cabin\n",
        rows(
            range(1, M + 1),
            labels(0, 1),
            [f'"Braund, Mr. Owen {at}"' for at in range(M)],
            SEX,
            ["" if at % 7 == 0 else age for at, age in enumerate(NUMBER)],
            ["C85" if at % 3 else "" for at in range(M)],
        ),
        ["--label", "Survived", "--drop", "Cabin", "--impute", "median"],
        "by:Sex",
        [
            "column PassengerId: left out as a feature: it numbers the rows",
            "column Name: left out as a feature: every row has another text",
            "missing values filled in: Age in 18 by",
        ],
    ),
    "compas": (
        "id,name,sex,race,dob,priors_count,two_year_recid\n",
        rows(
            RNG.permutation(M) + 5,
            [f"person {at}" for at in range(M)],
            SEX,
            KIND,
            [f"19{40 + at % 50}-0{at % 9 + 1}-12" for at in range(M)],
            NUMBER % 9,
            labels(0, 1),
        ),
        ["--label", "two_year_recid", "--id", "id", "--date", "ordinal"],
        "by:race",
        ["column name: left out", "column dob: dates as days since 1970-01-01"],
    ),
    "ames_housing": (
        "Order\tPID\tMS SubClass\tLot Area\tMas Vnr Type\tSalePrice\n",
        rows(
            range(1, M + 1),
            [f"0{526301100 + 37 * at}" for at in range(M)],
            20 + 10 * (NUMBER % 4),
            MONEY.astype(int),
            ["None" if at % 3 else "Brick" for at in range(M)],
            (1e4 + 900 * NUMBER),
            separator="\t",
        ),
        ["--label", "SalePrice", "--estimator", "linear", "--categorical", "MS SubClass"],
        "by:Mas Vnr Type",
        [
            "column Order: left out as a feature: it numbers the rows",
            "column PID: text, because of leading zeros",
            "column PID: left out as a feature",
            "categories: MS SubClass (4), Mas Vnr Type (2), as 6 columns of 0 and 1",
        ],
    ),
    "breast_cancer_wisconsin": (
        "id,clump,bare_nuclei,class\n",
        rows(
            1_000_000 + 41 * RNG.permutation(M),
            NUMBER % 10 + 1,
            ["?" if at in (3, 50) else at % 10 + 1 for at in range(M)],
            labels(2, 4),
        ),
        ["--label", "class", "--id", "id", "--drop-missing"],
        "column:clump=..3",
        ["column bare_nuclei: numbers, and '?' in 2 rows read as missing", "2 of 120 rows are left out"],
    ),
    "heart_disease": (
        "age,cp,chol,ca,num\n",
        rows(
            NUMBER,
            NUMBER % 4 + 1,
            ["?" if at % 40 == 0 else f"{200 + at}.0" for at in range(M)],
            ["?" if at == 9 else f"{at % 4}.0" for at in range(M)],
            labels(0, 1),
        ),
        ["--label", "num", "--categorical", "cp", "--impute", "median"],
        "by:cp",
        ["column chol: numbers, and '?' in 3 rows read as missing", "column ca: numbers, and '?' in 1 row"],
    ),
    "insurance_claims": (
        "policy_number,policy_bind_date,total_claim_amount,sex,fraud_reported\n",
        rows(
            500_000 + 77 * RNG.permutation(M),
            [f"2014-10-{at % 28 + 1:02}" for at in range(M)],
            [f'"${money:,.2f}"' for money in MONEY],
            SEX,
            labels("N", "Y"),
        ),
        ["--label", "fraud_reported", "--drop", "policy_bind_date"],
        "by:sex",
        [
            "column policy_number: kept as a number, though every row has another whole number (--id policy_number",
            "(a comma separates thousands, a currency sign is left out)",
        ],
    ),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_published_table_is_read_as_it_is(tmp_path, monkeypatch, capsys, name):
    header, body, options, group, said = TABLES[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{name}.txt").write_text(header + body, encoding="utf-8")
    assert run(["train", "--data", f"{name}.txt", *options, "-o", "m.h5"]) == 0
    captured = capsys.readouterr()
    for words in said:
        assert words in captured.err
    quantity = ["--quantity", "prediction"] if "linear" in options else []
    asked = ["--model", "m.h5", "--group", group, "--test", "0", "--quiet", "--format", "json", *quantity]
    assert run(["groundtruth", *asked]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found and all(record["actual"] is not None and record["status"] == "ok" for record in found)


def look_alike(table, rows: int = 150) -> str:
    """A file in the shape of the published one: each field is drawn from those that its column has in ``lines``; a line
    that has them all follows each, so that no value is only among the test rows."""
    separator = ";" if ";" in table.lines[0] else " " if " " in table.lines[-1] and "," not in table.lines[-1] else ","
    named = not table.header
    own = list(csv.reader(io.StringIO("\n".join(table.lines[named:])), delimiter=separator, quotechar="|"))
    rng, lines = np.random.default_rng(4), list(table.lines[:named])
    for row in range(rows):
        fields = own[row % 3] if row % 4 == 0 else [column[rng.integers(3)] for column in zip(*own, strict=True)]
        lines.append(separator.join(fields).replace("{row}", f"{1001 + row}"))
    if any("{row}" in fields[0] and fields[0] == "{row}" for fields in own) and table.name != "COMPAS":
        lines[named:] = [line.replace(f"{1001 + at},", f"{1 + at},", 1) for at, line in enumerate(lines[named:])]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("table", published_tables.TABLES, ids=lambda table: table.name)
def test_the_script_reads_look_alikes_and_audits_them(tmp_path, table):
    (tmp_path / table.files[0]).write_text(look_alike(table), encoding="utf-8")
    path = published_tables.found(table, tmp_path)
    outcome = published_tables.audited(table, path)
    assert not outcome.missing and outcome.good, published_tables.said(table, outcome)


def test_the_script_says_what_is_missing_and_what_fails(tmp_path, monkeypatch, capsys):
    wine = next(table for table in published_tables.TABLES if table.name == "wine quality")
    (tmp_path / wine.files[0]).write_text(look_alike(wine), encoding="utf-8")
    (tmp_path / "german.data").write_text("A11 6 1\nA12 7 2 8\n", encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["published_tables.py", str(tmp_path), "--results", str(tmp_path / "r.md")])
    assert published_tables.main() == 1
    out = capsys.readouterr().out
    assert "wine quality: ok: " in out and "German credit: FAILED: ginf train" in out
    assert f"Titanic: skipped, {tmp_path} has no titanic.csv or train.csv" in out
    assert "| wine quality (`winequality-red.csv`) |" in (tmp_path / "r.md").read_text(encoding="utf-8")
