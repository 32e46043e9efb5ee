"""The dense Hessian and its Cholesky factor, beside the same by general matrix products in float32.

python benchmarks/factor.py --data PATH_TO_MNIST --repeats 1
"""

import numpy as np
from harness import Report, in_turn, options, problem
from scipy.linalg.lapack import spotrf

from influence_cli.core.solvers.cholesky import factorize

ROWS = 2048
"""Rows that the peer scales at a time: as a whole they would be a second X."""

if __name__ == "__main__":
    chosen = options(__doc__).parse_args()
    dataset, objective = problem(chosen)
    report = Report("Dense Hessian and Cholesky factor", chosen)
    theta = np.random.default_rng(0).normal(size=(objective.size, 1)) * 0.01
    factorize(objective, theta)
    report.memory(dataset.X_train)

    X = np.ones((len(dataset.X_train), objective.design.columns), dtype=np.float32)
    X[:, :-1] = dataset.X_train
    K, D = objective.outputs, objective.design.columns
    p = objective.family.curvature_state((X @ theta.reshape(K, D).T.astype(np.float32)).T[None])[0]

    def general_products():
        hessian = np.zeros((K * D, K * D), dtype=np.float32)
        for j in range(K):
            for k in range(j + 1):
                s = ((p[j] * ((j == k) - p[k])) * objective.weights).astype(np.float32)[:, None]
                block = hessian[j * D : (j + 1) * D, k * D : (k + 1) * D]
                for start in range(0, len(X), ROWS):
                    part = X[start : start + ROWS]
                    block += part.T @ (part * s[start : start + ROWS])
        hessian[np.diag_indices(K * D)] += chosen.l2
        spotrf(hessian.T, lower=0, overwrite_a=1)

    times = in_turn(chosen.repeats, ours=lambda: factorize(objective, theta), general=general_products)
    report.add("Hessian and factor", times["ours"], times["general"], "general products in float32", ">= 1.7")
    report.finish()
