"""Training to a stationary point, which the formulas of the estimators assume."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from influence_cli.core.objectives.fused import FusedGlm
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.objectives.objective import Objective
from influence_cli.core.optimise.minimum import Goal, Minimum, Watch, counting_on, goal_of_move
from influence_cli.core.optimise.newton import STEPS, inverses, newton
from influence_cli.core.optimise.newton_cg import newton_cg
from influence_cli.core.optimise.restarts import descend, has_cheap_factor
from influence_cli.core.parallel import alone_where_narrow
from influence_cli.core.solvers.cg import conjugate_gradient
from influence_cli.core.solvers.cholesky import DOUBLE_UP_TO, factorize
from influence_cli.core.solvers.preconditioners import Preconditioner
from influence_cli.core.weights import RowWeights
from influence_cli.errors import NotConvergedError

RENEW_AT = 1e-2
"""Newton decrement, relative to the deviation of the outputs, at which the preconditioner is recomputed."""
THIN_TOLERANCE = 1e-3
"""The same for the end of training on a subsample: it is small compared with the error of the subsample itself."""
REACH = 0.5
"""Largest change of an output in a Newton step from which on a finite minimum is in doubt
(``_require_finite_minimum``)."""
FAINTEST = 1e-280
"""Mean square of a feature below which it has lost digits to underflow, or is 0."""
IN_DOUBT = 1e-6
"""Relative decrement at which a finite minimum is checked for: the loss of a separable row is then about its square,
1e-12, and no minimum lies so far out."""


@alone_where_narrow(lambda objective, **options: objective.size)
def train(
    objective: Objective,
    *,
    tol: float = 1e-8,
    max_iterations: int | None = None,
    seed: int = 0,
    start: np.ndarray | None = None,
    watch: Watch | None = None,
) -> Minimum:
    """A minimiser of J under the training weights, from ``start`` (P, 1), by default the model's initial point.

    Training ends at a Newton decrement of ``tol`` times the standard deviation of the outputs, or at what rounding
    allows.  Raises NotConvergedError, with what was reached, where it does not get there or the loss has no finite
    minimum.
    """
    far = start is None
    max_iterations = objective.tuning.max_iterations if max_iterations is None else max_iterations
    start = objective.initial(seed) if start is None else start
    if objective.convex:
        _require_visible(objective)
        renewed = far and objective.tuning.cheap_preconditioner and tol < RENEW_AT
        goals: tuple[float, ...] = (RENEW_AT,) if renewed else ()
        goals += (tol,) if objective.bounded else (min(tol, IN_DOUBT), tol)
        whole = None
        if isinstance(objective, FusedGlm):
            whole = _by_whole_steps(objective, start, tol, max_iterations, watch)
        minimum = _newton_in_turn(objective, start, goals, max_iterations, watch) if whole is None else whole
        if whole is None and minimum.converged[0]:
            minimum = _last_step(objective, minimum, tol, watch)
        if not objective.bounded and minimum.converged[0] and objective.size <= DOUBLE_UP_TO:
            factorize(objective, minimum.theta)  # raises NotConvergedError where the minimiser is not unique
    else:
        minimum = descend(objective, start, objective.weights, tol=tol, max_iterations=max_iterations, watch=watch)
    if not minimum.converged[0]:
        if not np.isfinite(minimum.grad_norm[0]):
            raise NotConvergedError(
                "training cannot begin: squares of the response or of the features are beyond all numbers (1e308)",
                hint="give the response or the features in a larger unit, so that they stay under 1e150",
            )
        decrement = minimum.decrement[0] / max(float(objective.deviation(minimum.theta)[0]), np.finfo(float).tiny)
        count = int(minimum.iterations[0])
        reached = f", at a relative Newton decrement of {decrement:.1e}" if np.isfinite(decrement) else ""
        raise NotConvergedError(
            f"training stopped at gradient norm {minimum.grad_norm[0]:.1e} after {count} iteration{'s' * (count != 1)}"
            f"{reached}; {tol:.0e} was asked for",
            hint="raise --max-iterations or --l2, scale the columns, or accept what was reached with --tol",
        )
    return minimum


def _require_visible(objective: Objective) -> None:
    """Raise NotConvergedError where the squares of a feature underflow and nothing penalises its coefficient: the
    feature would otherwise be treated as a column of zeros."""
    if objective.bounded or not isinstance(objective, Glm):
        return
    d = objective.design.columns - objective.design.intercept
    faint = objective.mean_squares[:d] < FAINTEST
    if faint.any() and (faint := faint & objective.design.used_columns()).any():
        raise NotConvergedError(
            f"training cannot begin: squares of feature {int(np.argmax(faint))} of {d} (counted from 0) are under all"
            " numbers (1e-308), and without a penalty nothing else says how large its coefficient is",
            hint="give the feature in a smaller unit, so that its values stay over 1e-140, or standardise",
        )


def _by_whole_steps(
    objective: FusedGlm, start: np.ndarray, tol: float, max_iterations: int, watch: Watch | None
) -> Minimum | None:
    """Newton's method where one pass gives J, its gradient and its Hessian.  It starts at the minimum for a subsample,
    from which three or four steps remain.  None where it does not converge, or where no minimum is certain."""
    if not objective.bounded:
        return None
    thin = objective.thinned()
    if thin is not None:
        with suppress(NotConvergedError):
            start = train(thin, tol=THIN_TOLERANCE).theta
    inverse, definite = inverses(objective, start, objective.weights)
    if not definite[0]:
        return None
    goal, steps = _goal(objective, start, inverse, tol), min(STEPS, max_iterations)
    minimum = newton(objective, start, objective.weights, goal=goal, max_iterations=steps, watch=watch)
    return minimum if minimum.converged[0] or steps == max_iterations else None


def _newton_in_turn(
    objective: Objective,
    start: np.ndarray,
    goals: tuple[float, ...],
    max_iterations: int,
    watch: Watch | None,
) -> Minimum:
    """Newton-CG to each of the tolerances ``goals`` in turn, each time with a preconditioner computed where the
    previous run ended.  With that of the start, the steps near the end, which take most of the products, would take
    half as many again."""
    minimum = None
    for tol in goals:
        theta, done = (start, 0) if minimum is None else (minimum.theta, int(minimum.iterations[0]))
        preconditioner = objective.preconditioner(theta, objective.weights)
        ended = newton_cg(
            objective,
            theta,
            objective.weights,
            preconditioner=preconditioner,
            goal=_goal(objective, theta, preconditioner, tol),
            max_iterations=max_iterations - done,
            watch=counting_on(watch, done),
        )
        minimum = ended.counting_from(np.array([done]))
        if not minimum.converged[0]:
            break
        if tol <= IN_DOUBT and not objective.bounded:
            _require_finite_minimum(objective, minimum.theta, preconditioner)
    assert minimum is not None
    return minimum


def _last_step(objective: Objective, minimum: Minimum, tol: float, watch: Watch | None) -> Minimum:
    """One more Newton step if it is cheap, because the removal of one row may change far less than the tolerance."""
    if not has_cheap_factor(objective):
        return minimum
    goal = Goal(tol, objective.deviation(minimum.theta))
    done = int(minimum.iterations[0])
    end = newton(objective, minimum.theta, objective.weights, goal=goal, watch=counting_on(watch, done))
    return end.counting_from(minimum.iterations) if end.converged[0] else minimum


def _goal(objective: Objective, theta: np.ndarray, preconditioner: Preconditioner, tol: float) -> Goal:
    """``tol`` times the deviation of the outputs or, where all outputs are still equal, times the first step."""
    deviation = objective.deviation(theta)
    if deviation[0] > 0:
        return Goal(tol, deviation)
    return goal_of_move(objective, theta, objective.weights, preconditioner, tol)


def _require_finite_minimum(objective: Objective, theta: np.ndarray, preconditioner: Preconditioner) -> None:
    """Raise NotConvergedError where J falls for ever: if rows are separable, a small gradient alone does not show a
    minimum.

    Suppose that the loss falls for ever along a direction v without a penalty.  For every row, the output of its own
    class y then does not fall relative to any other class k: b_k = x'(v_y - v_k) >= 0.  The Newton step s satisfies
    v'(grad J + H s) = 0.  With p the predicted probabilities and D = x's the changes of a row's outputs, both terms are
    sums over rows and classes: v'grad J = -sum w p b, and v'H s <= sum w p b range(D).  Some row must therefore have
    range(D) >= 1.  Near a minimum, on the other hand, the largest range(D) tends to 0, so that a value below 1 proves a
    minimum.  For counts with the mean mu, b = -x'v is 0 where y > 0, v'grad J = -sum w mu b and v'H s = -sum w mu b D,
    so that some row has |D| >= 1.
    """
    if newton_reach(objective, theta, objective.weights, preconditioner)[0] < REACH:
        return
    raise NotConvergedError(
        "the training loss has no finite minimum: the classes (or, of counts, zeros and the rest) can be separated, at"
        " least in part, and nothing holds the parameters",
        hint="train with --l2 greater than 0",
    )


def newton_reach(
    objective: Objective,
    theta: np.ndarray,
    w: RowWeights,
    preconditioner: Preconditioner,
) -> np.ndarray:
    """The largest change of any row's outputs in the Newton step from theta (P, G), which is solved to 1%: (G,)."""
    step = conjugate_gradient(
        objective.curvature(theta, w),
        -objective.gradient(theta, w),
        preconditioner=preconditioner,
        tol=0.01,
        max_iterations=500,
        units=objective.units,
    )
    return objective.self_concordance(step.x)
