"""Questions about a model: estimated and measured changes, and diagnostics of rows and groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any
from warnings import warn

import numpy as np

from influence_cli.analysis import groundtruth as truth
from influence_cli.analysis import influence as estimates
from influence_cli.analysis.credit import Crediting, check_draws, game_of, with_credit
from influence_cli.analysis.diagnostics import DiagnosticsResult
from influence_cli.analysis.diagnostics import diagnostics as of_rows_and_groups
from influence_cli.analysis.jackknife import cluster_covariance
from influence_cli.analysis.question import OF_MODEL, Question, TestRows, ask
from influence_cli.analysis.reliability import DEFAULT_METHODS, Estimation
from influence_cli.analysis.verify import verified
from influence_cli.api.words import check_choice, python_words
from influence_cli.core.credit import CREDITS
from influence_cli.core.estimators import EVALUATIONS
from influence_cli.core.retraining import STRATEGIES
from influence_cli.core.solvers.choice import HessianSolver, make_solver
from influence_cli.errors import UsageError
from influence_cli.models.in_memory import InMemory, provenance_of
from influence_cli.models.preprocessing import FROZEN, NOT_ESTIMATED, PREPROCESSINGS, REFIT, Unfitted
from influence_cli.models.trained import TrainedModel
from influence_cli.results import REFINED, REMOVED, InfluenceResult, TruthResult
from influence_cli.specs.from_python import Groups, resolve_groups, row_names
from influence_cli.specs.planned import GroupPlan, RowsOf
from influence_cli.specs.relative import parse_relative
from influence_cli.specs.tests import choose_tests, parse_tests


@dataclass(frozen=True, eq=False, repr=False)
class Asking:
    """A model and its training rows, with methods that answer questions about groups of these rows."""

    made: InMemory
    """The model, and what is needed to convert further rows of the form that it was made of."""
    solver_name: str = "auto"

    @property
    def model(self) -> TrainedModel:
        """The trained model on its training rows."""
        return self.made.model

    @python_words
    def influence(
        self,
        groups: Groups,
        X_test: Any = None,
        y_test: Any = None,
        *,
        methods: str | Sequence[str] = DEFAULT_METHODS,
        quantity: str = "loss",
        evaluate: str = "exact",
        rel_error: float | str = 0.05,
        errors: bool = False,
        certify: float | str | None = None,
        verify: bool = False,
        mean: bool = False,
        preprocessing: str = REFIT,
        seed: int = 0,
    ) -> InfluenceResult:
        """Estimated changes on removal, without retraining: a record for each group and test row (or their ``mean``).

        ``groups`` is a spec (``"coherent:3"``), row numbers, a mask (m,), a list of these, a dictionary of names to
        rows, masks or specs, or the result of pandas' ``groupby``.  A pandas Index or Series names rows by the labels
        of the frame that the model was made of, an array by position.  ``X_test`` are rows in the form that the model
        was made of, or "removed" for the rows of each group itself; ``y_test`` is needed only if the quantity needs
        labels.  Records have a key for each method.  ``refined`` is computed to within the share ``rel_error`` of the
        change, and ``error`` says how far it may be off; with ``errors``, every method has one.  ``certify`` refines
        until the proven interval from ``low`` to ``high`` is narrower than that share of the change.  ``verify`` also
        retrains, for the key ``actual``.

        With ``preprocessing`` "refit", means, scales, imputed values, categories and balanced class weights are
        recomputed without the group, as in a refit of the whole pipeline; "frozen" keeps them.  C and alpha always
        stay.  Raises UsageError.
        """
        check_choice("evaluate", evaluate, EVALUATIONS)
        methods = [methods] if isinstance(methods, str) else methods
        plan = self._plan(groups, seed)
        question = self._ask(X_test, y_test, quantity, mean, preprocessing, plan)
        model = question.model
        estimates.check_possible(model, methods)
        if model.refit is not None and not model.refit.estimates:
            warn(NOT_ESTIMATED, stacklevel=3)
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
        result = estimates.influence(question, self.solver, plan, how, provenance=provenance_of(model, config))
        return verified(question, self.solver, plan, result) if verify else result

    @python_words
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
        certify: float | str | None = None,
        credit: str | None = None,
        draws: int = 50,
        jobs: int = 1,
        preprocessing: str = REFIT,
        seed: int = 0,
    ) -> TruthResult:
        """The same changes measured by retraining without each group; see ``influence`` for the arguments.

        ``credit`` "shapley" or "banzhaf" adds the value of each group of a partition, from the models of all coalitions
        of up to 12 groups; for more groups, from the coalitions in ``draws`` random draws.

        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(40, 1))
        >>> model = GroupInfluence.fit(X, 3.0 * X[:, 0], estimator="linear", l2=0.0)
        >>> truth = model.groundtruth("random:5", [[2.0]], quantity="prediction").records()[0]
        >>> truth["group"], round(truth["base"], 6), abs(truth["actual"]) < 1e-6
        ('random:5', 6.0, True)
        """
        check_choice("retrain", retrain, STRATEGIES)
        check_choice("credit", credit, CREDITS)
        check_draws(draws)
        plan = self._plan(groups, seed)
        question = self._ask(X_test, y_test, quantity, mean, preprocessing, plan)
        model = question.model
        truth.check_strategy(model, retrain, repeats)
        end = model.objective.tuning.tolerance if tol is None else tol
        if not 0 < end < float("inf"):
            raise UsageError(f"tol must be a number greater than 0, found {end:g}")
        config = {"quantity": quantity, "tol": end, "retrain": retrain, "repeats": repeats, "seed": seed}
        proven = None if certify is None else parse_relative(str(certify), "certify")
        config |= {} if proven is None else {"certify": proven}
        config |= {} if credit is None else {"credit": credit, "draws": draws}
        provenance = provenance_of(model, config)
        partial = truth.start_truth(question, plan, provenance, repeats=repeats, certify=proven)
        how = truth.Retraining(end, retrain, jobs, repeats, proven)
        game = None if credit is None else game_of(question, plan, Crediting(credit, draws, seed))
        result = truth.groundtruth(question, self.solver, plan, partial, how)
        return result if game is None else with_credit(result, game, question, self.solver, how)[0]

    @python_words
    def cluster_covariance(self, groups: Groups, *, seed: int = 0) -> np.ndarray:
        """The cluster-jackknife covariance (CRV3) of all coefficients, (P, P), in the order of ``parameter_names``.

        The model is retrained without each of ``groups``, which must partition the rows.  The square roots of the
        diagonal are standard errors.
        """
        return cluster_covariance(self.model, self.solver, self._plan(groups, seed))

    @python_words
    def diagnostics(self, groups: Groups = "rows:each", *, seed: int = 0) -> DiagnosticsResult:
        """Leverage, Cook's distance, studentised residual, DFFITS and DFBETAS of every row, as in statsmodels.

        For groups of several rows, given as for ``influence``, there are the sum of the leverages and Cook's distance.
        DFFITS and DFBETAS have their usual sign, all rows minus without the row, which is opposite to all other
        figures.  They exist for linear, binary logistic and Poisson regression; a penalty is part of the Hessian.

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
        """The solver of H x = b, which is made on first use."""
        model = self.model
        kind = model.choose_solver(self.solver_name).kind
        return make_solver(model.objective, model.theta, kind, factor=model.factor)

    def _plan(self, groups: Groups, seed: int) -> GroupPlan:
        plan = resolve_groups(groups, self.model, seed, self.made.labels)
        for sentence in plan.notes:
            warn(sentence, stacklevel=4)
        return plan

    def _ask(
        self, X: Any, y: Any, quantity: str, mean: bool, preprocessing: str, plan: GroupPlan | None = None
    ) -> Question:
        """The question about a quantity of the model on these test rows, with refitted or frozen preprocessing.

        ``plan`` holds the groups, if the test rows may be the removed rows.
        """
        check_choice("preprocessing", preprocessing, PREPROCESSINGS)
        if X is None and not quantity.startswith(OF_MODEL):
            raise UsageError(f"quantity {quantity} needs test rows", hint="give X_test, and y_test for the loss")
        spec = X if isinstance(X, str) else None
        dataset, given = (self.model.dataset, None) if spec else self.made.with_tests(X, y)
        removed = spec == REMOVED
        if removed:
            dataset, given = dataset.on_itself(), self.made.given
        refit = None if preprocessing == FROZEN else self.made.refit(dataset, given)
        if isinstance(refit, Unfitted):
            warn(f"the preprocessing stays as it was fitted: {refit.reason}", stacklevel=4)
            refit = None
        model = replace(self.model, dataset=dataset, refit=refit)
        tests = None if X is None else TestRows(np.arange(dataset.X_test.shape[0]), mean)
        if removed:
            tests = TestRows(np.arange(0), removed=True)
        elif spec:
            misclassified = model.misclassified if dataset.classes else None
            chosen = choose_tests(parse_tests(spec), dataset.X_test.shape[0], misclassified, row_names(dataset)[1])
            tests = TestRows(chosen[0], mean or chosen[1])
        return ask(model, tests, quantity, None if plan is None else RowsOf(plan))
