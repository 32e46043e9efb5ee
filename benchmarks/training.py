"""Training to a gradient norm of 1e-8, beside scikit-learn's lbfgs to a tolerance of 1e-6.

python benchmarks/training.py --data PATH_TO_MNIST --repeats 1
"""

import numpy as np
from harness import Report, in_turn, options, problem

from influence_cli.core.training import train

if __name__ == "__main__":
    chosen = options(__doc__).parse_args()
    dataset, objective = problem(chosen)
    report = Report("Training", chosen)
    ours = train(objective)
    report.memory(dataset.X_train)

    from sklearn.linear_model import LogisticRegression

    C = 1 / (chosen.l2 * len(dataset.X_train))
    peer = LogisticRegression(C=C, tol=1e-6, max_iter=10_000)
    times = in_turn(
        chosen.repeats, ours=lambda: train(objective), peer=lambda: peer.fit(dataset.X_train, dataset.y_train)
    )
    theta = np.hstack([peer.coef_, peer.intercept_[:, None]]).reshape(-1, 1)
    reached = float(np.linalg.norm(objective.gradient(theta, objective.weights)))
    report.add(
        f"to gradient norm {ours.grad_norm[0]:.1e}",
        times["ours"],
        times["peer"],
        f"lbfgs to gradient norm {reached:.1e}",
        ">= 2",
    )
    report.finish()
