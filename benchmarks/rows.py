"""Every row's ``first`` and ``rif`` on one prediction, beside pyinfluence's first order (pip install pyinfluence).

python benchmarks/rows.py
"""

import numpy as np
from harness import Report, in_turn, options
from sklearn.linear_model import LogisticRegression

from influence_cli import GroupInfluence

if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--features", type=int, default=20)
    chosen = parser.parse_args()
    from pyinfluence import InfluenceFunctions

    m, d = chosen.rows, chosen.features
    rng = np.random.default_rng(0)
    X = rng.normal(size=(m + 1, d))
    y = (X @ rng.normal(size=d) + rng.logistic(size=m + 1) > 0).astype(int)
    fitted = LogisticRegression(C=1 / (chosen.l2 * m), tol=1e-8, max_iter=1000).fit(X[:m], y[:m])
    model = GroupInfluence.from_sklearn(fitted, X[:m], y[:m])
    peer = InfluenceFunctions()

    def ours(methods):
        return model.influence("rows:each", X[m:], y[m:], methods=methods, evaluate="linear")

    def theirs():
        peer.fit(fitted, X[:m], y[:m])
        return peer.explain(X[m:], y[m:])[0]

    agreement = np.corrcoef(ours(["first"]).values["first"][:, 0], theirs())[0, 1]
    assert agreement > 0.999999, f"the peer's figures are others: correlation {agreement}"
    times = in_turn(
        max(chosen.repeats, 11), first=lambda: ours(["first"]), both=lambda: ours(["first", "rif"]), peer=theirs
    )
    report = Report(f"Every row of {m:,} x {d} on one prediction", chosen)
    for name, methods, target in (("first", "first", "-"), ("both", "first and rif", "ours / theirs <= 2, aim 1")):
        report.add(methods, times[name], times["peer"], "pyinfluence, first order", target)
    report.finish()
