"""What is asked of a model: test rows and a quantity become functions of theta, in chunks that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from influence_cli.analysis.pooled import SCORE, in_words, own_score, pooled, pooled_target
from influence_cli.core.joint_targets import OwnTarget
from influence_cli.core.quantities import (
    MeanTarget,
    OfWeights,
    ParameterTarget,
    RowTarget,
    Target,
    of_columns,
    row_quantity,
    under,
)
from influence_cli.core.wald import wald_target
from influence_cli.core.weights import Weights
from influence_cli.errors import UsageError, composed, did_you_mean
from influence_cli.models.scales import units
from influence_cli.models.trained import TrainedModel
from influence_cli.results import (
    MEAN_TEST,
    NO_TEST,
    REMOVED_TEST,
    SEVERAL,
    Provenance,
    RowNames,
    names_in,
    quantity_of,
)
from influence_cli.specs.names import written

TEST_BYTES = 1e9
"""Bytes that gradients and adjoints of one chunk of test rows may take."""


TRIED = 10_000
"""Rows on which it is tried whether a score can be computed."""
SOME, NO_SLOPE = 16, 1e-5
"""Rows whose longest gradient is the scale, and the share of it that counts as zero: training leaves about 1e-8."""
OF_MODEL = ("param:", "t:")
"""Prefixes of the quantities that need no test row."""
OF_TRUE_CLASS = {"prob": "probability of the {}", "margin": "log-odds of the {} against its rival"}
NEEDS_LABEL = ("loss",)
"""Quantities that are undefined for a row without a label; the others then take the predicted class."""


@dataclass(frozen=True)
class TestRows:
    """Chosen test rows; ``mean`` asks for the mean of f over them instead of one figure per row, and ``removed`` for
    the mean over the rows that each group removes, with ``rows`` empty."""

    __test__ = False

    rows: np.ndarray
    mean: bool = False
    removed: bool = False


@dataclass(frozen=True, eq=False)
class Question:
    """A quantity of a model's test rows: what every analysis is handed.

    ``codes`` (T,) are the test rows as ``results`` encodes them; the ``targets`` together give one f per code, in the
    same order.
    """

    model: TrainedModel
    tests: TestRows | None
    quantity: str
    codes: np.ndarray
    targets: tuple[Target, ...]

    def __len__(self) -> int:
        """T, the number of figures per group."""
        return len(self.codes)

    @property
    def of_removed(self) -> bool:
        """Whether each group is asked about its own rows: ``value`` is then (1, G) for theta (P, 1 or G)."""
        return self.codes.tolist() == [REMOVED_TEST]

    @property
    def of_weights(self) -> bool:
        """Whether f depends on the remaining rows and not on theta alone."""
        return isinstance(self.targets[0], OfWeights)

    @property
    def by_group(self) -> bool:
        """Whether f is a different function of theta for every group."""
        return self.of_removed or self.of_weights

    def of(self, columns: np.ndarray, w: Weights | None = None) -> Question:
        """The question for some of the groups (``columns``), after whose removal the rows have the weights w."""
        if self.of_weights and w is not None:
            return replace(self, targets=tuple(under(target, w) for target in self.targets))
        if not self.by_group:
            return self
        return replace(self, targets=tuple(of_columns(target, columns) for target in self.targets))

    def value(self, theta: np.ndarray) -> np.ndarray:
        """f (T, G) at theta (P, G)."""
        return np.concatenate([target.value(theta) for target in self.targets])

    def base(self) -> np.ndarray:
        """f before removal: (T,), or (1, G) where each group is asked about its own rows."""
        value = self.value(self.model.theta)
        return value if self.of_removed else value[:, 0]

    @cached_property
    def names(self) -> RowNames:
        """The names and labels of the test rows, or (G,) of single rows that are asked about themselves; unknown where
        a figure belongs to no single row."""
        rows = self._single_rows() if self.of_removed else self.codes
        if self.tests is None or (rows < 0).any():
            return RowNames.unknown(len(self))
        data = self.model.dataset
        known, labels = data.labelled[rows], data.y_test[rows]
        guess = self.model.predict(data.X_test[rows])
        label = data.classes.__getitem__ if data.classes else float
        nothing = [None] * len(rows)
        return RowNames(
            tuple(label(value) if has else None for value, has in zip(labels.tolist(), known, strict=True)),
            tuple(label(value) for value in guess.tolist()),
            tuple(nothing if data.records_test is None else data.records_test[rows].tolist()),
            tuple(nothing if data.ids_test is None else without_nan(data.ids_test[rows])),
        )

    def _single_rows(self) -> np.ndarray:
        """The rows (G,) of groups of one row each that are asked about themselves, -1 for larger groups."""
        (target_of_rows,) = (target for target in self.targets if isinstance(target, OwnTarget))
        assert isinstance(target_of_rows.targets, _Removed)
        return np.array([rows[0] if len(rows) == 1 else -1 for rows in target_of_rows.targets.groups], dtype=np.int64)

    def named(self, provenance: Provenance) -> Provenance:
        """The provenance with the quantity in words, where these depend on the data."""
        if self.tests is None:
            asked = _coefficients(self.model, [quantity_of(self.quantity, code) for code in self.codes.tolist()])
        else:
            parts = None if self.of_removed else pooled(self.quantity)
            asked = self._of_which_class() if parts is None else in_words(self.model, self.tests.rows, parts)
        return provenance if asked is None else replace(provenance, config={**provenance.config, "asked": asked})

    def _of_which_class(self) -> str | None:
        """A quantity of the true class in words, where some of the test rows have no label; else None."""
        assert self.tests is not None
        unknown = ~self.model.dataset.labelled[self.tests.rows]
        if self.quantity not in OF_TRUE_CLASS or not unknown.any():
            return None
        which = "predicted class" if unknown.all() else "true class (the predicted one of rows without a label)"
        return OF_TRUE_CLASS[self.quantity].format(which)

    def each(self) -> list[Target]:
        """One target per code."""
        if len(self.codes) == 1:
            return list(self.targets)
        return [part for target in self.targets for part in _rows_of(target)]


def _coefficients(model: TrainedModel, quantities: Sequence[str]) -> str | None:
    """What the coefficients belong to, with the unit of standardised features, one line each; None if no feature is."""
    known = dict(zip(model.parameter_names, units(model), strict=True))
    parts = [quantity.partition(":")[::2] for quantity in quantities]
    indices = [known.get(name) if kind == "param" else None for kind, name in parts]
    if all(unit is None for unit in indices):
        return None
    return "\n".join(
        f"parameter {name}" if unit is None else f"parameter {name} (for one standard deviation, {unit:.4g})"
        for (_, name), unit in zip(parts, indices, strict=True)
    )


def ask(
    model: TrainedModel, tests: TestRows | None, quantity: str, groups: Sequence[np.ndarray] | None = None
) -> Question:
    """The question; ``groups`` are the rows of each group if groups are asked about their own rows, and the model's
    test rows are then its training rows.  Raises UsageError where quantity, model and test rows do not fit together."""
    quantity = composed(quantity)
    if tests is not None and tests.removed:
        if groups is None:
            raise UsageError("--test removed is about given groups", hint="name test rows: --test 17")
        return Question(model, tests, quantity, np.array([REMOVED_TEST]), (_of_removed(model, quantity, groups),))
    codes, targets = _codes_and_targets(model, tests, quantity)
    return Question(model, tests, quantity, codes, tuple(targets))


def _of_model(model: TrainedModel, quantity: str) -> tuple[np.ndarray, list[Target]]:
    """One or several parameters, or their t."""
    kind, _, text = quantity.partition(":")
    known = [composed(name) for name in model.parameter_names]
    asked = [text] if text in known else names_in(text) or [text]
    for name in asked:
        if name not in known:
            spelled = [written([one]) for one in known]
            shown = ", ".join(spelled[:6]) + (", ..." if len(known) > 6 else "")
            guess = did_you_mean(name, spelled, "")
            hint = f"the parameters are {shown}" + (f"; {guess}" if guess else "")
            which = f": {name}" if len(asked) > 1 else ""
            raise UsageError(f"--quantity {quantity}: no parameter has that name{which}", hint=hint)
    if len(set(asked)) < len(asked):
        raise UsageError(f"--quantity {quantity} names a parameter twice")
    codes = np.array([NO_TEST]) if len(asked) == 1 else SEVERAL - np.arange(len(asked))
    places = [known.index(name) for name in asked]
    if kind == "t":
        return codes, [wald_target(model.objective, at, model.theta, model.observations) for at in places]
    return codes, [ParameterTarget(at) for at in places]


def _codes_and_targets(model: TrainedModel, tests: TestRows | None, quantity: str) -> tuple[np.ndarray, list[Target]]:
    if quantity.startswith(OF_MODEL):
        of_model = _of_model(model, quantity)
        if tests is not None:
            raise UsageError(f"--quantity {quantity} is about the model alone", hint="leave --test out")
        return of_model
    if tests is None:
        several = "misclassified:5" if model.dataset.classes else "0:50"
        hint = "for example --test all" if pooled(quantity) else f"for example --test 17 or --test {several}"
        raise UsageError(f"--quantity {quantity} needs test rows", hint=hint)
    if (together := pooled(quantity)) is not None:
        return np.array([MEAN_TEST]), [pooled_target(model, tests.rows, together)]
    rule = row_quantity(quantity, model.family, model.dataset.classes)
    X, y = model.dataset.X_test, _true_or_predicted(model, tests, quantity)
    if tests.mean:
        return np.array([MEAN_TEST]), [MeanTarget(RowTarget(model.objective, rule, X[tests.rows], y[tests.rows]))]
    step = piece(model.objective.size)
    parts = [tests.rows[start : start + step] for start in range(0, len(tests.rows), step)]
    return tests.rows, [RowTarget(model.objective, rule, X[part], y[part]) for part in parts]


@dataclass(frozen=True)
class _Removed(Sequence[Target]):
    """f of the rows of each group, made on access; the model's test rows are its training rows."""

    groups: Sequence[np.ndarray]
    make: Callable[[np.ndarray], Target]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, at: Any) -> Any:
        return self.make(self.groups[at])


def _of_removed(model: TrainedModel, quantity: str, groups: Sequence[np.ndarray]) -> OwnTarget:
    data, parts = model.dataset, pooled(quantity)
    if quantity.startswith(OF_MODEL) or (parts is not None and parts.kind != SCORE):
        raise UsageError(
            f"--quantity {quantity} does not go with --test removed, which measures each group by its own rows",
            hint="use loss, margin, prob, prediction or score:NAME",
        )
    if parts is not None:
        some = np.linspace(0, data.rows - 1, min(data.rows, TRIED)).astype(np.int64)
        pooled_target(model, some, parts)  # raises where the model has no such score

        def score(rows: np.ndarray) -> Target:
            assert parts is not None
            return own_score(model, rows, parts)

        return OwnTarget(_Removed(groups, score))
    rule = row_quantity(quantity, model.family, data.classes)
    y = _true_or_predicted(model, TestRows(np.arange(data.rows)), quantity)

    def mean(rows: np.ndarray) -> Target:
        return MeanTarget(RowTarget(model.objective, rule, data.X_test[rows], y[rows]))

    return OwnTarget(_Removed(groups, mean))


def without_nan(values: np.ndarray) -> list[Any]:
    """Plain Python values, with None in place of NaN."""
    return [None if isinstance(one, float) and np.isnan(one) else one for one in values.tolist()]


def at_minimum(question: Question) -> bool:
    """Whether f is the mean training loss, which training has minimised, so that only the penalty gives it a slope."""
    (target, *more), theta = question.targets, question.model.theta
    if more or question.quantity != "loss" or not isinstance(target, MeanTarget):
        return False
    if len(target.rows.y) != question.model.dataset.rows:
        return False
    left = target.gradient(theta) + question.model.objective.penalty.product(theta)
    few = replace(target.rows, X=target.rows.X[:SOME], y=target.rows.y[:SOME]).gradient(theta)
    return bool(np.linalg.norm(left) <= NO_SLOPE * np.linalg.norm(few, axis=0).max())


def _rows_of(target: Target) -> list[Target]:
    if not isinstance(target, RowTarget):
        return [target]
    parts = [slice(row, row + 1) for row in range(len(target.y))]
    return [replace(target, X=target.X[part], y=target.y[part]) for part in parts]


def piece(size: int) -> int:
    """Test rows in one chunk, for a model of ``size`` parameters."""
    return max(64, int(TEST_BYTES / (16 * size)))


def _true_or_predicted(model: TrainedModel, tests: TestRows, quantity: str) -> np.ndarray:
    """The labels of the test rows; for chosen rows without a label, what the model predicts.

    For ``prob:CLASS`` every row has this class.
    """
    data = model.dataset
    if quantity.startswith("prob:"):
        return np.full(len(data.y_test), data.classes.index(quantity.removeprefix("prob:")))
    unknown = tests.rows[~data.labelled[tests.rows]]
    if not len(unknown):
        return data.y_test
    if quantity in NEEDS_LABEL:
        which = f"test row {unknown[0]} has none"
        if len(unknown) > 1:
            which = f"test row {unknown[0]} and {len(unknown) - 1:,} more have none"
        instead = "prob or margin (of the predicted class)" if data.classes else "prediction"
        raise UsageError(
            f"--quantity {quantity} needs the label of the test row, and {which}",
            hint=f"add the label to the file of test rows, or ask for --quantity {instead}",
        )
    y = data.y_test.copy()
    y[unknown] = model.predict(data.X_test[unknown])
    return y
