"""Hessian-vector products: a block of 8 beside NumPy's two passes one at a time, and one beside one reading of X.

python benchmarks/products.py --data PATH_TO_MNIST
"""

import numpy as np
from harness import Report, in_turn, options, problem

from influence_cli.core.objectives.families.softmax import Softmax

BLOCK = 8

if __name__ == "__main__":
    chosen = options(__doc__).parse_args()
    dataset, objective = problem(chosen)
    report = Report("Hessian-vector products", chosen)
    rng = np.random.default_rng(0)
    theta = rng.normal(size=(objective.size, 1)) * 0.01
    V = np.asfortranarray(rng.normal(size=(objective.size, BLOCK)))
    product = objective.curvature(theta, objective.weights)
    product(V)
    report.memory(dataset.X_train)

    X = np.hstack([dataset.X_train, np.ones((len(dataset.X_train), 1))])
    K, w = objective.outputs, objective.weights[:, None]
    p = Softmax(K).curvature_state((X @ theta.reshape(K, -1).T).T[None])[0].T
    ridge = objective.penalty.ridge

    def two_passes():
        for g in range(BLOCK):
            v = V[:, g].reshape(K, -1)
            e = X @ v.T
            a = p * (e - (p * e).sum(axis=1, keepdims=True))
            (X.T @ (w * a)).T + ridge * v

    times = in_turn(
        chosen.repeats,
        block=lambda: product(V),
        two_passes=two_passes,
        one=lambda: product(V[:, :1]),
        read=lambda: dataset.X_train.sum(),
    )
    report.add("a product, block of 8", times["block"] / BLOCK, times["two_passes"] / BLOCK, "two passes each", ">= 4")
    report.add("one product alone", times["one"], times["read"], "one reading of X", ">= 0.25")
    report.finish()
