"""Flip sets of the test rows of smallest margin, each checked by refitting with scikit-learn.

    python benchmarks/select_flips.py [--tests 20]

scikit-learn refits without the group, and with each of its rows put back: the class must change in the first fit and
in none of the others.  Per-mean removal of k of m rows is C = 1 / (lambda (m - k)) there.
"""

from __future__ import annotations

from time import perf_counter

import numpy as np
from harness import options
from sklearn.linear_model import LogisticRegression

from influence_cli.analysis.question import TestRows
from influence_cli.analysis.searches import FlipSearch, ask_flip
from influence_cli.analysis.select import Choice, select
from influence_cli.core.solvers.choice import make_solver
from influence_cli.data.load import load
from influence_cli.models.settings import ModelSettings
from influence_cli.models.trained import TrainedModel, fit
from influence_cli.results import Provenance


def smallest_margins(model: TrainedModel, count: int) -> np.ndarray:
    """Test rows whose predicted class leads by least."""
    scores = np.sort(model.objective.predict_outputs(model.theta, model.dataset.X_test)[0], axis=0)
    return np.argsort(scores[-1] - scores[-2])[:count]


def refitted(model: TrainedModel, gone: np.ndarray, row: int) -> int:
    """scikit-learn's class of a test row, trained without some rows."""
    data = model.dataset
    kept = np.setdiff1d(np.arange(len(data.X_train)), gone)
    fitted = LogisticRegression(C=1 / (model.settings.l2 * len(kept)), tol=1e-8, max_iter=20_000)
    fitted.fit(data.X_train[kept], data.y_train[kept])
    return int(fitted.predict(data.X_test[row : row + 1])[0])


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--tests", type=int, default=20)
    chosen = parser.parse_args()
    dataset = load(chosen.data, task="classification")
    model = fit(dataset, ModelSettings("logistic", chosen.l2, "per-mean", True, False, 1e-8))
    solver = make_solver(model.objective, model.theta, "cholesky")
    m = len(dataset.X_train)
    rows = smallest_margins(model, chosen.tests)
    begun = perf_counter()
    search = FlipSearch(Choice((), np.arange(m)), m // 2)
    question = ask_flip(model, TestRows(rows), "loss")
    result = select(question, solver, search, provenance=Provenance(dataset.digest, "", {}))
    took = perf_counter() - begun
    print(f"{'test':>5}{'label':>6}{'class':>6}{'before':>9}{'after':>9}{'rows':>6}  minimal  scikit-learn")
    agreed = 0
    for record in result.entries:
        test = record["test"]
        was = int(model.predict(dataset.X_test[test : test + 1])[0])
        becomes = refitted(model, record["rows"], test)
        back = [refitted(model, np.delete(record["rows"], at), test) for at in range(record["size"])]
        undone = all(other == was for other in back)
        agreed += becomes != was and undone
        print(
            f"{test:5}{dataset.classes[dataset.y_test[test]]:>6}{dataset.classes[was]:>6}{record['base']:9.3f}"
            f"{record['after']:9.3f}{record['size']:6}  {record['minimal']!s:7}  becomes {dataset.classes[becomes]},"
            f" {sum(other == was for other in back)} of {len(back)} rows put back undo it"
        )
    print(f"{agreed} of {len(result.entries)} confirmed by scikit-learn; {took / len(rows):.2f} s a test row")


if __name__ == "__main__":
    main()
