"""``GroupInfluence``: the questions and the analysis of the commands, for arrays, frames and estimators in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from warnings import warn

import numpy as np

from influence_cli.analysis import groundtruth as truth
from influence_cli.analysis import influence as estimates
from influence_cli.analysis.diagnostics import DiagnosticsResult
from influence_cli.analysis.diagnostics import diagnostics as of_rows_and_groups
from influence_cli.analysis.question import Question, TestRows, ask
from influence_cli.analysis.reliability import DEFAULT_METHODS, Estimation
from influence_cli.analysis.verify import verified
from influence_cli.core.estimators import EVALUATIONS
from influence_cli.core.removal import PENALTY_SCALINGS
from influence_cli.core.retraining import STRATEGIES
from influence_cli.core.solvers.choice import HessianSolver, make_solver
from influence_cli.errors import UsageError, unknown_word
from influence_cli.models.in_memory import InMemory, Wanted, of_estimator, of_rows, provenance_of
from influence_cli.models.preprocessing import FROZEN, NOT_ESTIMATED, PREPROCESSINGS, REFIT, Unfitted
from influence_cli.models.sample_weights import BALANCED
from influence_cli.models.settings import ESTIMATORS, default_tolerance, resolve_network
from influence_cli.models.trained import TrainedModel
from influence_cli.results import REFINED, InfluenceResult, SelectionResult, TruthResult
from influence_cli.specs.from_python import Groups, count_of_rows, pool_rows, resolve_groups
from influence_cli.specs.planned import GroupPlan
from influence_cli.specs.relative import parse_relative


@dataclass(frozen=True, eq=False, repr=False)
class GroupInfluence:
    """A model on its training rows, to be asked what groups of them do to its predictions.

    Every figure is the change *if the group is removed*, ``f(after removal) - f(before)``: a positive change of the
    loss means that the group helped.  Made by ``from_sklearn`` or ``fit``.

    >>> import numpy as np
    >>> from sklearn.linear_model import LogisticRegression
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3))
    >>> y = (X[:, 0] + rng.normal(size=200) > 0).astype(int)
    >>> model = GroupInfluence.from_sklearn(LogisticRegression(C=0.5).fit(X, y), X, y)
    >>> groups = {"first site": np.arange(40), "far out": X[:, 0] > 1.5}
    >>> estimated = model.influence(groups, X[:1], y[:1], methods=["first", "second"])
    >>> truth = model.groundtruth(groups, X[:1], y[:1])
    >>> bool(np.allclose(estimated.columns()["second"], truth.columns()["actual"], atol=0.01))
    True
    """

    made: InMemory
    """The model with what it takes to read further rows as it was made from."""
    solver_name: str = "auto"

    def __repr__(self) -> str:
        """One line that holds no row of the data."""
        data, settings = self.model.dataset, self.model.settings
        kind = f"{len(data.classes)} classes" if data.classes else "regression"
        return f"<GroupInfluence: {settings.estimator}, {data.rows:,} rows, {data.X_train.shape[1]:,} features, {kind}>"

    @property
    def model(self) -> TrainedModel:
        """The trained model on its training rows."""
        return self.made.model

    @property
    def note(self) -> str:
        """What was found out on the way: of an estimator, how well its parameters suit its rows."""
        return self.made.note

    @classmethod
    def from_sklearn(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        penalty_scaling: str | None = None,
        polish: bool = True,
        tol: float = 1e-8,
        solver: str = "auto",
    ) -> GroupInfluence:
        """The fitted ``estimator``, or pipeline that ends in one, with the rows that it was fitted on.

        Parameters, penalty, class order and convention of removal are the estimator's; its gradient norm is checked and
        (``polish``) brought under ``tol``.

        >>> import numpy as np
        >>> from sklearn.linear_model import Ridge
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> X = np.random.default_rng(0).normal(5.0, 2.0, size=(50, 2))
        >>> y = X @ [1.0, -2.0]
        >>> model = GroupInfluence.from_sklearn(make_pipeline(StandardScaler(), Ridge(alpha=2.0)).fit(X, y), X, y)
        >>> model.model.settings.l2, model.model.settings.penalty_scaling
        (0.04, 'per-sum')
        >>> result = model.influence([[0, 1, 2]], X[:2], quantity="prediction", methods=["newton"])
        >>> len(result.records())
        2
        """
        _choice("penalty_scaling", penalty_scaling, PENALTY_SCALINGS)
        made = of_estimator(estimator, X, y, sample_weight, scaling=penalty_scaling, polish=polish, tol=tol)
        return cls(made, solver)

    @classmethod
    def fit(
        cls,
        X: Any,
        y: Any,
        *,
        estimator: str = "logistic",
        l2: float | None = None,
        C: float | None = None,
        penalty_scaling: str | None = None,
        fit_intercept: bool = True,
        penalize_intercept: bool = False,
        sample_weight: Any = None,
        class_weight: str | None = None,
        hidden: tuple[int, ...] | None = None,
        activation: str | None = None,
        curvature: str | None = None,
        damping: float | None = None,
        tol: float | None = None,
        max_iterations: int | None = None,
        seed: int = 0,
        solver: str = "auto",
    ) -> GroupInfluence:
        """Train a model of ginf's own on rows X (m, d) and labels or responses y (m,); the options of ``ginf train``.

        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(60, 2))
        >>> model = GroupInfluence.fit(X, np.where(X[:, 0] > 0, "yes", "no"), l2=0.01)
        >>> model.model.dataset.classes
        ('no', 'yes')
        """
        _choice("estimator", estimator, tuple(ESTIMATORS))
        _choice("penalty_scaling", penalty_scaling, PENALTY_SCALINGS)
        _choice("class_weight", class_weight, (BALANCED,))
        wanted = Wanted(
            estimator,
            l2,
            C,
            penalty_scaling,
            fit_intercept,
            penalize_intercept,
            class_weight,
            default_tolerance(estimator) if tol is None else tol,
            max_iterations,
            resolve_network(estimator, hidden, activation, curvature, damping, seed),
        )
        return cls(of_rows(X, y, sample_weight, wanted), solver)

    def influence(
        self,
        groups: Groups,
        X_test: Any = None,
        y_test: Any = None,
        *,
        methods: Sequence[str] = DEFAULT_METHODS,
        quantity: str = "loss",
        evaluate: str = "exact",
        rel_error: float = 0.05,
        errors: bool = False,
        certify: float | None = None,
        verify: bool = False,
        mean: bool = False,
        preprocessing: str = REFIT,
        seed: int = 0,
    ) -> InfluenceResult:
        """Estimated changes on removal, without retraining: a record a group and test row (or for their ``mean``).

        ``groups`` is a spec (``"coherent:3"``), row numbers, a mask (m,), a list of these, a dictionary of names to
        rows, masks or specs, or what pandas' ``groupby`` returns.  A pandas Index or Series names rows by the labels of
        the frame that the model was made of, an array by position.  ``X_test`` are rows as the model was made from;
        ``y_test`` may be missing where the quantity needs no label.  Records have a key a method; ``refined`` comes to
        within the share ``rel_error`` of the change, and ``error`` says how far it may be off.  ``errors`` says so of
        every method, ``certify`` refines until the proven interval from ``low`` to ``high`` is narrower than that
        share of the change, and ``verify`` retrains as well, for ``actual``.

        ``preprocessing`` "refit" makes means, scales, imputed values, categories and balanced class weights again
        without the group, as a refit of the whole pipeline does; "frozen" keeps them.  C or alpha are never chosen
        again.
        """
        _choice("evaluate", evaluate, EVALUATIONS)
        question = self._ask(X_test, y_test, quantity, mean, preprocessing)
        model = question.model
        estimates.check_possible(model, methods)
        plan = self._plan(groups, seed)
        if model.refit is not None and not model.refit.estimates:
            warn(NOT_ESTIMATED, stacklevel=2)
        proven = None if certify is None else parse_relative(str(certify), "certify")
        if proven is not None and REFINED not in methods:
            raise UsageError(f"certify proves intervals of {REFINED}", hint=f"add {REFINED} to methods")
        within = parse_relative(str(rel_error), "rel_error")
        how = Estimation(estimates.check_methods(methods), evaluate, within, errors, proven)
        config = {
            "methods": list(methods),
            "quantity": quantity,
            "evaluate": evaluate,
            "rel_error": how.rel_error,
            **({"errors": True} if errors else {}),
            **({} if proven is None else {"certify": proven}),
            "seed": seed,
        }
        found = estimates.influence(question, self.solver, plan, how, provenance=provenance_of(model, config))
        return verified(question, self.solver, plan, found) if verify else found

    def groundtruth(
        self,
        groups: Groups,
        X_test: Any = None,
        y_test: Any = None,
        *,
        quantity: str = "loss",
        mean: bool = False,
        tol: float | None = None,
        retrain: str = "warm",
        repeats: int = 1,
        certify: float | None = None,
        jobs: int = 1,
        preprocessing: str = REFIT,
        seed: int = 0,
    ) -> TruthResult:
        """The same changes by retraining without each group; the arguments are those of ``influence``.

        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(40, 1))
        >>> model = GroupInfluence.fit(X, 3.0 * X[:, 0], estimator="linear", l2=0.0)
        >>> truth = model.groundtruth("random:5", [[2.0]], quantity="prediction").records()[0]
        >>> truth["group"], round(truth["base"], 6), abs(truth["actual"]) < 1e-6
        ('random:5', 6.0, True)
        """
        _choice("retrain", retrain, STRATEGIES)
        question = self._ask(X_test, y_test, quantity, mean, preprocessing)
        model = question.model
        truth.check_strategy(model, retrain, repeats)
        plan = self._plan(groups, seed)
        end = model.objective.tuning.tolerance if tol is None else tol
        config = {"quantity": quantity, "tol": end, "retrain": retrain, "repeats": repeats, "seed": seed}
        proven = None if certify is None else parse_relative(str(certify), "certify")
        config |= {} if proven is None else {"certify": proven}
        provenance = provenance_of(model, config)
        begun = truth.start_truth(question, plan, provenance, repeats=repeats, certify=proven)
        how = truth.Retraining(end, retrain, jobs, repeats, proven)
        return truth.groundtruth(question, self.solver, plan, begun, how)

    def select(
        self,
        size: int | float | Sequence[int],
        X_test: Any = None,
        y_test: Any = None,
        *,
        strategies: str | Sequence[str] = ("relinearize",),
        direction: str = "increase",
        quantity: str = "loss",
        mean: bool = False,
        within: Groups | None = None,
        verify: bool = False,
        draws: int = 100,
        rounds: int = 50,
        preprocessing: str = REFIT,
        seed: int = 0,
    ) -> SelectionResult:
        """The groups of ``size`` rows (under 1: a share of them) whose removal changes the quantity most.

        A record a test row, size and strategy, with the group's ``rows``; ``actual``, the change by retraining, with
        ``verify`` (with ``preprocessing`` "refit" that of the whole pipeline; groups are ranked with it as it is).
        ``within`` says which rows may be removed.  Strategies ``"all"`` leave ``exact`` out where there
        would be too many groups.

        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(40, 2))
        >>> y = X[:, 0].copy()
        >>> y[7] = 30.0
        >>> model = GroupInfluence.fit(X, y, estimator="linear")
        >>> found = model.select(1, X[:1], quantity="prediction", direction="decrease", strategies="greedy")
        >>> found.records()[0]["rows"]
        [7]
        """
        from influence_cli.analysis.searches import ALL, RowSearch, check_strategies, drop_impossible
        from influence_cli.analysis.select import Choice, select
        from influence_cli.core.selection.problem import DIRECTIONS

        _choice("direction", direction, DIRECTIONS)
        names = check_strategies([strategies] if isinstance(strategies, str) else list(strategies))
        question = self._ask(X_test, y_test, quantity, mean, preprocessing)
        model = question.model
        m = model.dataset.rows
        pool = np.arange(m) if within is None else pool_rows(self._plan(within, seed))
        sizes = [count_of_rows(one, m, len(pool)) for one in (size if isinstance(size, Sequence) else [size])]
        options = {"direction": direction, "draws": draws, "rounds": rounds, "seed": seed, "verify": verify}
        choice = Choice(names, pool, direction=direction, draws=draws, rounds=rounds, seed=seed, verify=verify)
        if strategies == ALL:
            names, _ = drop_impossible(choice, sizes)
            choice = replace(choice, strategies=names)
        provenance = provenance_of(model, {"size": sizes, "quantity": quantity, "strategies": list(names), **options})
        return select(question, self.solver, RowSearch(choice, sizes), provenance=provenance)

    def diagnostics(self, groups: Groups = "rows:each", *, seed: int = 0) -> DiagnosticsResult:
        """Leverage, Cook's distance, studentised residual, DFFITS and DFBETAS of every row, as in statsmodels;
        of groups of several rows, given as for ``influence``, their summed leverage and Cook's distance.

        DFFITS and DFBETAS have the field's sign, all rows minus without the row: the opposite of all other figures.
        For linear, binary logistic and Poisson regression; a penalty is part of the Hessian.

        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(30, 1))
        >>> y = X[:, 0] + np.random.default_rng(1).normal(size=30)
        >>> model = GroupInfluence.fit(X, y, estimator="linear", l2=0.0)
        >>> round(float(model.diagnostics().columns()["leverage"].sum()), 6)
        2.0
        """
        return of_rows_and_groups(
            self.model, self.solver, self._plan(groups, seed), provenance=provenance_of(self.model, {"seed": seed})
        )

    @cached_property
    def solver(self) -> HessianSolver:
        """The solver of H x = b, made once."""
        model = self.model
        kind = model.choose_solver(self.solver_name).kind
        return make_solver(model.objective, model.theta, kind, factor=model.factor)

    def _plan(self, groups: Groups, seed: int) -> GroupPlan:
        return resolve_groups(groups, self.model.dataset, seed, self.made.labels)

    def _ask(self, X: Any, y: Any, quantity: str, mean: bool, preprocessing: str) -> Question:
        """The quantity of the model with these test rows; its preprocessing is made again without groups, or stays."""
        _choice("preprocessing", preprocessing, PREPROCESSINGS)
        if X is None and not quantity.startswith("param:"):
            raise UsageError(f"quantity {quantity} needs test rows", hint="give X_test, and y_test for the loss")
        dataset, given = self.made.with_tests(X, y)
        found = None if preprocessing == FROZEN else self.made.refit(dataset, given)
        if isinstance(found, Unfitted):
            warn(f"the preprocessing stays as it was fitted: {found.reason}", stacklevel=3)
            found = None
        model = replace(self.model, dataset=dataset, refit=found)
        tests = None if X is None else TestRows(np.arange(dataset.X_test.shape[0]), mean)
        return ask(model, tests, quantity)


def _choice(name: str, value: str | None, choices: Sequence[str]) -> None:
    if not (value is None or value in choices):
        raise unknown_word(name, value, choices)
