"""Ten published tables as they are: trained, what is said about each, and one `by:` audit held against retraining.

    python benchmarks/published_tables.py FOLDER [--results FILE.md]

The files lie in FOLDER under the names that they are published by (docs/tables.md says where they are, and how each
begins); those that are missing are said and skipped.  A file of the UCI repository has no line of names: it is
written above, in a copy.  Ends with 1 if a table is not read, a note is missing or an audit disagrees with retraining.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import shlex
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from influence_cli.cli import run

SIGNS_AT_LEAST = 0.9
"""Share of the groups for which `refined` and retraining have the same sign."""


@dataclass(frozen=True)
class Published:
    """A table: the names its file may have, where it is published, how it is trained, the groups that are audited, and
    what must be ``said`` (regular expressions).

    ``lines`` are made up, in the shape of the file's first ones; {row} stands for a number that no other row has.
    ``header`` is the line of names where the file is published without one.
    """

    name: str
    files: tuple[str, ...]
    source: str
    options: tuple[str, ...]
    group: str
    said: tuple[str, ...]
    lines: tuple[str, ...]
    header: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came out: rows, features and groups, the notes that are missing, and how the audit compares."""

    rows: int
    features: int
    groups: int
    missing: tuple[str, ...]
    signs: float
    error: float
    seconds: float

    @property
    def good(self) -> bool:
        return not self.missing and self.signs >= SIGNS_AT_LEAST


TABLES = (
    Published(
        "adult",
        ("adult.data", "adult.csv"),
        "archive.ics.uci.edu, dataset 2",
        ("--label", "income"),
        "by:sex",
        (r"column workclass: '\?' in [\d,]+ rows? is a category of its own", r"column occupation: '\?' in "),
        (
            "39, State-gov, 77000, Bachelors, 13, Never-married, Adm-clerical, Own-child, White, Male, 2174,"
            " 0, 40, United-States, <=50K",
            "52, ?, 209000, HS-grad, 9, Married-civ-spouse, ?, Husband, Black, Male, 0, 0, 45, Mexico, >50K",
            "31, Private, 45000, Masters, 14, Divorced, Sales, Unmarried, White, Female, 0, 1902, 50, ?, <=50K",
        ),
        "age,workclass,fnlwgt,education,education-num,marital-status,occupation,relationship,race,sex,"
        "capital-gain,capital-loss,hours-per-week,native-country,income",
    ),
    Published(
        "German credit",
        ("german.data",),
        "archive.ics.uci.edu, dataset 144",
        ("--label", "class"),
        "by:purpose",
        ("fields are separated by blanks",),
        (
            "A11 6 A34 A43 1100 A65 A75 4 A93 A101 4 A121 67 A143 A152 2 A173 1 A192 A201 1",
            "A12 48 A32 A46 5900 A61 A73 2 A92 A101 2 A121 22 A143 A152 1 A173 1 A191 A201 2",
            "A14 12 A34 A40 2000 A61 A74 2 A93 A103 3 A122 49 A141 A151 1 A172 2 A191 A202 1",
        ),
        "status duration history purpose amount savings employment rate personal debtors residence property age plans"
        " housing credits job liable telephone foreign class",
    ),
    Published(
        "bank marketing",
        ("bank-additional.csv", "bank-additional-full.csv", "bank-full.csv", "bank.csv"),
        "archive.ics.uci.edu, dataset 222",
        ("--label", "y"),
        "by:marital",
        ("fields are separated by semicolons",),
        (
            '"age";"job";"marital";"default";"month";"duration";"pdays";"emp.var.rate";"euribor3m";"y"',
            '30;"blue-collar";"married";"no";"may";487;999;-1.8;1.313;"no"',
            '39;"services";"single";"unknown";"jun";346;6;1.1;4.855;"yes"',
            '25;"admin.";"divorced";"no";"nov";227;999;-0.1;4.191;"no"',
        ),
    ),
    Published(
        "wine quality",
        ("winequality-red.csv",),
        "archive.ics.uci.edu, dataset 186",
        ("--label", "quality", "--estimator", "linear"),
        "by:alcohol:5",
        ("fields are separated by semicolons",),
        (
            '"fixed acidity";"volatile acidity";"residual sugar";"density";"pH";"alcohol";"quality"',
            "7.4;0.7;1.9;0.9978;3.51;9.4;5",
            "7.8;0.88;2.6;0.9968;3.2;10.8;6",
            "11.2;0.28;1.8;0.998;3.16;12.1;7",
        ),
    ),
    Published(
        "Titanic",
        ("titanic.csv", "train.csv"),
        "kaggle.com, competition titanic",
        ("--label", "Survived", "--drop", "Cabin,Ticket", "--impute", "median"),
        "by:Pclass",
        (
            "column PassengerId: left out as a feature: it numbers the rows",
            "column Name: left out as a feature: every row has another text",
            "missing values filled in: Age in ",
        ),
        (
            "PassengerId,Survived,Pclass,Name,Sex,Age,SibSp,Parch,Ticket,Fare,Cabin,Embarked",
            '{row},0,3,"Doe, Mr. Owen {row}",male,22,1,0,A/5 211{row},7.25,,S',
            '{row},1,1,"Roe, Mrs. John {row}",female,,1,2,PC 175{row},71.2833,C85,C',
            '{row},1,2,"Poe, Miss. Ann {row}",female,26,0,0,3101{row},7.925,,Q',
        ),
    ),
    Published(
        "COMPAS",
        ("compas-scores-two-years.csv",),
        "github.com/propublica/compas-analysis",
        (
            "--label",
            "two_year_recid",
            "--id",
            "id",
            "--features",
            "sex,age,race,juv_fel_count,juv_misd_count,juv_other_count,priors_count,c_charge_degree",
        ),
        "by:race",
        ("column decile_score.1: the header calls it decile_score, as a column before it", r"categories: sex \(2\)"),
        (
            "id,name,sex,dob,age,race,juv_fel_count,decile_score,juv_misd_count,juv_other_count,"
            "priors_count,c_charge_degree,decile_score,priors_count,two_year_recid",
            "{row},owen doe {row},Male,1947-04-18,69,Other,0,1,0,0,0,F,1,0,0",
            "{row},ann roe {row},Female,1991-06-14,24,African-American,1,4,0,1,4,M,4,4,1",
            "{row},jo poe {row},Male,1982-01-22,34,Caucasian,0,8,1,0,1,F,8,1,1",
        ),
    ),
    Published(
        "AmesHousing",
        ("AmesHousing.csv", "AmesHousing.tsv", "AmesHousing.txt"),
        "jse.amstat.org/v19n3/decock",
        (
            "--label",
            "SalePrice",
            "--estimator",
            "linear",
            "--categorical",
            "MS SubClass",
            "--impute",
            "median",
            "--drop",
            "Alley,Pool QC,Fence,Misc Feature",
        ),
        "by:Bldg Type",
        ("column Order: left out as a feature: it numbers the rows", "column PID: left out as a feature"),
        (
            "Order,PID,MS SubClass,MS Zoning,Lot Frontage,Lot Area,Alley,Bldg Type,Mas Vnr Type,"
            "Mas Vnr Area,Pool QC,Fence,Misc Feature,SalePrice",
            "{row},05263{row},020,RL,141,31770,NA,1Fam,Stone,112,NA,NA,NA,215000",
            "{row},05263{row},060,RH,,11622,NA,TwnhsE,None,,NA,MnPrv,NA,105000",
            "{row},05263{row},120,RL,81,14267,Pave,1Fam,BrkFace,108,Ex,NA,Gar2,172000",
        ),
    ),
    Published(
        "breast-cancer-wisconsin",
        ("breast-cancer-wisconsin.data",),
        "archive.ics.uci.edu, dataset 15",
        ("--label", "class", "--drop", "id", "--drop-missing"),
        "by:mitoses",
        (
            r"column bare_nuclei: numbers, and '\?' in \d+ rows read as missing",
            r"\d+ of \d+ rows are left out because values are missing: bare_nuclei in \d+",
        ),
        ("1000{row},5,1,1,1,2,1,3,1,1,2", "1002{row},5,4,4,5,7,10,3,2,2,4", "1015{row},3,1,2,1,2,?,3,1,1,2"),
        "id,clump,size_uniformity,shape_uniformity,adhesion,epithelial,bare_nuclei,chromatin,nucleoli,mitoses,class",
    ),
    Published(
        "heart disease",
        ("processed.cleveland.data",),
        "archive.ics.uci.edu, dataset 45",
        ("--label", "num", "--categorical", "cp,thal", "--impute", "median"),
        "by:cp",
        (r"column ca: numbers, and '\?' in \d+ rows? read as missing",),
        (
            "63.0,1.0,1.0,145.0,233.0,1.0,2.0,150.0,0.0,2.3,3.0,0.0,6.0,0",
            "67.0,0.0,4.0,160.0,286.0,0.0,2.0,108.0,1.0,1.5,2.0,?,3.0,2",
            "41.0,1.0,2.0,130.0,204.0,0.0,0.0,172.0,0.0,1.4,1.0,2.0,7.0,1",
        ),
        "age,sex,cp,trestbps,chol,fbs,restecg,thalach,exang,oldpeak,slope,ca,thal,num",
    ),
    Published(
        "insurance claims",
        ("Insurance.csv",),
        "R's package MASS, in Rdatasets",
        ("--label", "Claims", "--exposure", "Holders", "--estimator", "poisson", "--categorical", "District"),
        "by:District",
        ("column rownames: left out as a feature: it numbers the rows", "the response is Claims / Holders, a rate"),
        (
            "rownames,District,Group,Age,Holders,Claims",
            "{row},1,<1l,<25,197,38",
            "{row},2,1-1.5l,25-29,264,35",
            "{row},3,>2l,>35,1680,156",
        ),
    ),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--results", type=Path, help="Markdown file to write")
    chosen = parser.parse_args()
    lines = [
        "| table | rows | features | audit | groups | signs agree | median error | seconds |",
        "|---|" + "---|" * 7,
    ]
    code = 0
    for table in TABLES:
        path = found(table, chosen.folder)
        if path is None:
            print(f"{table.name}: skipped, {chosen.folder} has no {' or '.join(table.files)}")
            continue
        try:
            outcome = audited(table, path)
        except RuntimeError as error:
            print(f"{table.name}: FAILED: {error}")
            code = 1
            continue
        code = code if outcome.good else 1
        print(f"{table.name}: {said(table, outcome)}")
        lines.append(
            f"| {table.name} (`{path.name}`) | {outcome.rows:,} | {outcome.features:,} | `{table.group}` |"
            f" {outcome.groups} | {outcome.signs:.0%} | {outcome.error:.2%} | {outcome.seconds:.1f} |"
        )
    if chosen.results:
        chosen.results.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return code


def found(table: Published, folder: Path) -> Path | None:
    """The table's file in that folder."""
    return next((folder / name for name in table.files if (folder / name).is_file()), None)


def said(table: Published, outcome: Outcome) -> str:
    """One line about what came out."""
    if outcome.missing:
        return f"FAILED: not said: {'; '.join(outcome.missing)}"
    verdict = "ok" if outcome.good else "FAILED"
    signs = f"{outcome.signs:.0%} of {outcome.groups} signs as retrained"
    made = f"{outcome.rows:,} rows, {outcome.features:,} features"
    return f"{verdict}: {made}; {table.group}: {signs}, relative error {outcome.error:.2%} in the median"


def audited(table: Published, path: Path) -> Outcome:
    """Train on the file, estimate and retrain.  Raises RuntimeError, with what ginf said, where it refuses."""
    begun, path = perf_counter(), path.absolute()
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        data = path
        if table.header:
            text = path.read_text(encoding="utf-8").lstrip("\n")
            data = Path(folder) / path.name
            data.write_text(f"{table.header}\n{text}", encoding="utf-8")
        record, notes = _ginf("train", "--data", str(data), *table.options, "-o", "m.h5")
        ask = ("--model", "m.h5", "--group", table.group, "--test", "mean", "--verify")
        answers, _ = _ginf("influence", *ask)
    changes = [(one["refined"], one["actual"]) for one in answers if one["actual"] is not None]
    errors = sorted(abs(estimate - truth) / abs(truth) for estimate, truth in changes if truth)
    return Outcome(
        record[0]["rows"],
        record[0]["features"],
        len(answers),
        tuple(words for words in table.said if not re.search(words, notes)),
        sum(estimate * truth > 0 for estimate, truth in changes) / len(answers),
        errors[len(errors) // 2] if errors else float("nan"),
        perf_counter() - begun,
    )


def _ginf(*arguments: str) -> tuple[list[dict], str]:
    """The records that a command prints, and what it says beside them."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run([*arguments, "--format", "json"])
    if code:
        raise RuntimeError(f"ginf {shlex.join(arguments)} ended with {code}: {err.getvalue().strip()[-600:]}")
    return json.loads(out.getvalue()), err.getvalue()


if __name__ == "__main__":
    sys.exit(main())
