"""``GroupInfluence``: what the commands compute, for arrays, data frames and estimators in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from influence_cli.api.finding import Finding
from influence_cli.api.words import check_choice, python_words
from influence_cli.core.removal import PENALTY_SCALINGS
from influence_cli.data.options import IMPUTE
from influence_cli.models.in_memory import Wanted, counted_in, of_estimator, of_file, of_rows
from influence_cli.models.sample_weights import BALANCED
from influence_cli.models.settings import ESTIMATORS, default_tolerance, resolve_network
from influence_cli.models.stored import store


@dataclass(frozen=True, eq=False, repr=False)
class GroupInfluence(Finding):
    """A model and its training rows, with methods for the effects of groups of these rows.

    Every figure is the change *if the group is removed*, ``f(after removal) - f(before)``: a positive change of the
    loss means that the group helped.  Instances are made by ``from_sklearn``, ``fit`` or ``load``.

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

    def __repr__(self) -> str:
        """One line about the model, without any data."""
        data, settings = self.model.dataset, self.model.settings
        kind = f"{len(data.classes)} classes" if data.classes else "regression"
        return f"<GroupInfluence: {settings.estimator}, {data.rows:,} rows, {data.X_train.shape[1]:,} features, {kind}>"

    @property
    def note(self) -> str:
        """A note from when the model was made: for an estimator, how well its parameters fit its rows."""
        return self.made.note

    @classmethod
    @python_words
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
        """The model of a fitted ``estimator``, or of a pipeline that ends in one, on the rows that it was fitted on.

        Parameters, penalty, order of the classes and penalty scaling on removal are those of the estimator.  The
        parameters are checked and, with ``polish``, brought to a relative Newton decrement of ``tol``.

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
        check_choice("penalty_scaling", penalty_scaling, PENALTY_SCALINGS)
        made = of_estimator(estimator, X, y, sample_weight, scaling=penalty_scaling, polish=polish, tol=tol)
        return cls(made, solver)

    @classmethod
    @python_words
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
        exposure: Any = None,
        trials: Any = None,
        class_weight: str | None = None,
        hidden: tuple[int, ...] | None = None,
        activation: str | None = None,
        curvature: str | None = None,
        damping: float | None = None,
        tol: float | None = None,
        max_iterations: int | None = None,
        impute: str | None = None,
        seed: int = 0,
        solver: str = "auto",
    ) -> GroupInfluence:
        """Train a model on rows X (m, d) and labels or responses y (m,), with the options of ``ginf train``.

        Columns of a data frame with text or truth values become features of 0 and 1, one for each category; ``impute``
        (median, mean, most-frequent) fills in missing values.  Numbers are not standardised.  With ``exposure`` (m,),
        y counts events and ``estimator`` must be poisson; with ``trials`` (m,), y counts successes and it must be
        binomial.  In both cases the response is y divided by them, they are the weights of the rows, and the y of test
        rows is that quotient.

        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(60, 2))
        >>> model = GroupInfluence.fit(X, np.where(X[:, 0] > 0, "yes", "no"), l2=0.01)
        >>> model.model.dataset.classes
        ('no', 'yes')
        """
        check_choice("estimator", estimator, tuple(ESTIMATORS))
        check_choice("penalty_scaling", penalty_scaling, PENALTY_SCALINGS)
        check_choice("impute", impute, tuple(IMPUTE))
        check_choice("class_weight", class_weight, (BALANCED,))
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
            impute,
            resolve_network(estimator, hidden, activation, curvature, damping, seed),
            counted_in(estimator, exposure, trials),
        )
        return cls(of_rows(X, y, sample_weight, wanted), solver)

    @classmethod
    @python_words
    def load(cls, path: str, *, solver: str = "auto") -> GroupInfluence:
        """The model in a file that ``save`` or ``ginf train`` wrote.

        Test rows can then be data frames with the columns of its table, arrays of its features, or rows of the file,
        named as for ``ginf --test``: "17", "misclassified:5", "all".
        """
        return cls(of_file(path), solver)

    @python_words
    def save(self, path: str, X_test: Any = None, y_test: Any = None, *, force: bool = False) -> None:
        """Write the model with its training rows and the given test rows to a file, for ``load`` and the commands.

        The steps of a pipeline are not in the file, only the features that they made, which therefore stay fixed.

        >>> import numpy as np, tempfile, pathlib
        >>> X = np.random.default_rng(0).normal(size=(30, 2))
        >>> model = GroupInfluence.fit(X, np.where(X[:, 0] > 0, "yes", "no"), l2=0.1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save(f"{folder}/m.h5", X[:2])
        ...     GroupInfluence.load(f"{folder}/m.h5").predict(X[:2]).tolist() == model.predict(X[:2]).tolist()
        True
        """
        dataset, _ = self.made.with_tests(X_test, y_test)
        store(path, replace(self.model, dataset=dataset), force=force)

    @python_words
    def predict(self, X: Any) -> np.ndarray:
        """The predicted class of each row, as a label of y, or the expected response, (n,)."""
        codes = self.model.predict(self.made.with_tests(X, None)[0].X_test)
        return codes if self.made.class_values is None else self.made.class_values[codes]
