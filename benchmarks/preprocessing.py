"""How far an answer is off that keeps the preprocessing as it was fitted on the removed rows too.

    python benchmarks/preprocessing.py

Four data sets, the whole pipeline (standardising, imputing, encoding, balanced class weights) refitted by scikit-learn
without each group, and the same by ginf: `refit`, `frozen`, and estimates with refit.  Groups are chosen by a feature.
Prints a table in Markdown: the change of f over 50 rows (the probability of the row's class, or the prediction), and
the relative error of each answer, |answer - truth| / |truth| in the Euclidean norm over these rows.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder, StandardScaler

from influence_cli import GroupInfluence

STRIKES = Path(__file__).parent.parent / "sample_data" / "strikes.csv"
TESTS = 50
METHODS = ["first", "second", "newton", "refined"]
TIGHT = {"solver": "newton-cholesky", "tol": 1e-12}


def cases():
    """Name, pipeline, rows, labels, and groups by name."""
    X, y = load_breast_cancer(return_X_y=True, as_frame=True)
    groups = {"radius over 20": X["mean radius"] > 20, "texture over 25": X["mean texture"] > 25}
    yield "breast cancer, standardised", [StandardScaler()], LogisticRegression(**TIGHT), X, y, groups
    yield "breast cancer, ranges", [MinMaxScaler()], LogisticRegression(**TIGHT), X, y, groups
    gaps = X.mask(np.random.default_rng(0).random(X.shape) < 0.05)
    steps = [SimpleImputer(strategy="median"), StandardScaler()]
    yield "breast cancer, 5% imputed", steps, LogisticRegression(**TIGHT, class_weight="balanced"), gaps, y, groups
    X, y = load_wine(return_X_y=True, as_frame=True)
    groups = {"alcohol over 13.8": X.alcohol > 13.8, "malic acid over 4": X.malic_acid > 4}
    yield "wine, standardised", [StandardScaler()], LogisticRegression(**TIGHT), X, y, groups
    X, y = load_diabetes(return_X_y=True, as_frame=True, scaled=False)
    groups = {"bmi over 32": X.bmi > 32, "age under 30": X.age < 30}
    yield "diabetes, standardised", [StandardScaler()], Ridge(20.0), X, y, groups
    strikes = pd.read_csv(STRIKES)
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    columns = make_column_transformer((numbers, ["speed"]), (texts, ["phase", "size", "light", "operator"]))
    groups = {"speed over 180": strikes.speed > 180, "one operator": strikes.operator == "DELTA AIR LINES"}
    model = LogisticRegression(**TIGHT, class_weight="balanced")
    yield "bird strikes, imputed, encoded", [columns], model, strikes.drop(columns="damaged"), strikes.damaged, groups


def refitted(pipeline, X, y, kept, X_test, y_test):
    """f of the test rows by the pipeline fitted on the kept rows alone."""
    fitted = clone(pipeline).fit(X[kept], y[kept])
    if not hasattr(fitted, "predict_proba"):
        return fitted.predict(X_test)
    own = np.searchsorted(fitted.classes_, y_test)
    return fitted.predict_proba(X_test)[np.arange(len(own)), own]


def relative(answer, truth) -> str:
    return f"{np.linalg.norm(answer - truth) / np.linalg.norm(truth):.2g}"


def main() -> None:
    heads = [
        "data, preprocessing",
        "group",
        "rows",
        "largest change",
        "`refit`",
        "`frozen`",
        "its signs that are right",
    ]
    print("| " + " | ".join([*heads, *(f"`{method}`" for method in METHODS)]) + " |")
    print("|---" * (len(heads) + len(METHODS)) + "|")
    for name, steps, estimator, X, y, groups in cases():
        pipeline = make_pipeline(*steps, estimator).fit(X, y)
        picked = np.linspace(0, len(X) - 1, TESTS).astype(int)
        X_test, y_test = X.iloc[picked], y.iloc[picked]
        model = GroupInfluence.from_sklearn(pipeline, X, y)
        quantity = "prob" if hasattr(pipeline, "predict_proba") else "prediction"
        ask = {"groups": groups, "X_test": X_test, "y_test": y_test, "quantity": quantity}
        refit, frozen = (model.groundtruth(**ask, preprocessing=how).actual for how in ("refit", "frozen"))
        estimates = model.influence(**ask, methods=METHODS, evaluate="exact").values
        before = refitted(pipeline, X, y, np.ones(len(X), dtype=bool), X_test, y_test)
        for g, (group, mask) in enumerate(groups.items()):
            truth = refitted(pipeline, X, y, ~mask.to_numpy(), X_test, y_test) - before
            signs = np.mean(np.sign(frozen[g]) == np.sign(truth))
            cells = [name, group, f"{mask.sum():,}", f"{np.abs(truth).max():.2g}", relative(refit[g], truth)]
            cells += [relative(frozen[g], truth), f"{signs:.0%}"]
            print("| " + " | ".join([*cells, *(relative(estimates[method][g], truth) for method in METHODS)]) + " |")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
