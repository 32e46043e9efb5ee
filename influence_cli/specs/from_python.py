"""Groups of a Python user -> a plan: specs, row numbers, masks, lists of these, or dictionaries from names to them.

pandas objects refer to rows by the labels of the frame from which the model was made, arrays and lists by position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Real
from typing import Any

import numpy as np

from influence_cli.core.quantities import Loss, RowTarget
from influence_cli.data.dataset import Dataset
from influence_cli.data.row_labels import is_labelled, is_pandas, labelled_rows
from influence_cli.errors import UsageError
from influence_cli.models.trained import TrainedModel
from influence_cli.specs.draws import same
from influence_cli.specs.groups import check_row, parse_group
from influence_cli.specs.names import RowNames
from influence_cli.specs.plan import TrainRows, plan_groups
from influence_cli.specs.planned import GroupPlan, PlannedGroup

Groups = Any
"""A spec, row numbers, a mask (m,), a pandas Index or Series, a list of these, a dictionary from names to them, or what
the groupby method of pandas returns."""
SHOWN_ROWS = 8
"""Number of rows up to which a group without a name is named after them."""


def resolve_groups(groups: Groups, model: TrainedModel, seed: int, labels: Any = None) -> GroupPlan:
    """The plan, in the order given; ``labels`` are the index of the training rows, if they have one.

    Raises UsageError that says which group is invalid.
    """
    m = model.dataset.rows
    planned: list[PlannedGroup] = []
    notes: list[str] = []
    groups = _by_name(groups)
    if isinstance(groups, str) and parse_group(groups).each:
        return _plan(groups, model, seed)
    if isinstance(groups, Mapping):
        for name, one in groups.items():
            named, of_named = _named(_group_name(name), one, model, seed, labels)
            planned += named
            notes += of_named
    else:
        for number, one in enumerate(_several(groups)):
            if isinstance(one, str):
                drawn = _plan(one, model, seed)
                planned += drawn
                notes += drawn.notes
            else:
                planned.append(_rows(None, number, one, m, labels))
    if not planned:
        raise UsageError("expected at least one group, found none", hint="for example groups='random:5%'")
    seen: set[str] = set()
    for group in planned:
        if group.label in seen:
            raise UsageError(f"the group {group.label!r} is asked for twice", hint="give each group once")
        seen.add(group.label)
    return GroupPlan(tuple(planned), m, tuple(notes))


def pool_rows(plan: GroupPlan) -> np.ndarray:
    """All rows of all groups, sorted."""
    return np.unique(np.concatenate([plan.rows(index) for index in range(len(plan))]))


def _by_name(groups: Groups) -> Any:
    """The result of ``groupby`` in pandas, or a frame of truth values, as a dictionary by name; others unchanged."""
    if isinstance(getattr(groups, "groups", None), Mapping) and type(groups).__module__.startswith("pandas."):
        return groups.groups
    if is_pandas(groups, "DataFrame"):
        if not all(kind.kind == "b" for kind in groups.dtypes):
            raise UsageError(
                "expected groups, found a DataFrame whose columns are not all truth values",
                hint="give DATA.index for its rows, or DATA.groupby('site') for a group a value",
            )
        return {name: groups[name] for name in groups.columns}
    return groups


def _group_name(name: Any) -> str:
    """The key of a dictionary as text; a tuple, as ``groupby`` gives for several columns, joined by commas."""
    return ",".join(map(str, name)) if isinstance(name, tuple) else str(name)


def _several(groups: Groups) -> list[Any]:
    """The groups as a list; a single group (a text, or a flat sequence of numbers or truth values) is one item."""
    if isinstance(groups, str) or is_labelled(groups):
        return [groups]
    if hasattr(groups, "__array__"):
        array = np.asarray(groups)
        return [array] if array.ndim < 2 and array.dtype.kind in "biuf" else list(array)
    if not isinstance(groups, Sequence):
        raise UsageError(
            f"expected groups as specs, row numbers, masks or a dictionary, found {type(groups).__name__}",
            hint="for example groups={'site A': rows}",
        )
    if all(isinstance(one, bool | int | np.bool_ | np.integer) for one in groups) and len(groups):
        return [np.asarray(groups)]
    return list(groups)


def row_names(dataset: Dataset) -> tuple[RowNames, RowNames]:
    """The names of the training rows, and of the test rows."""
    train = RowNames("training rows", dataset.records_train, dataset.ids_train)
    test = RowNames("test rows", dataset.records_test, dataset.ids_test)
    return replace(train, others=test), replace(test, others=train)


def train_rows(dataset: Dataset, model: TrainedModel | None = None) -> TrainRows:
    """The training rows as groups need them."""
    columns, names = dataset.columns_train or {}, row_names(dataset)[0]
    rows = TrainRows(dataset.X_train, dataset.y_train, tuple(dataset.classes), columns, names)
    if model is None or dataset.streamed is not None:
        return rows
    loss = RowTarget(model.objective, Loss(model.family), dataset.X_train, dataset.y_train)
    return replace(rows, fitted=loss, theta=model.theta)


def _named(
    name: str, one: Any, model: TrainedModel, seed: int, labels: Any
) -> tuple[list[PlannedGroup], tuple[str, ...]]:
    """One group of that name, and the notes on it; the several groups of a spec are numbered."""
    if not isinstance(one, str):
        return [_rows(name, 0, one, model.dataset.rows, labels)], ()
    plan = _plan(one, model, seed)
    names = [name] if len(plan) == 1 else [f"{name}#{number}" for number in range(len(plan))]
    return [replace(group, label=label) for group, label in zip(plan, names, strict=True)], plan.notes


def _plan(text: str, model: TrainedModel, seed: int) -> GroupPlan:
    return plan_groups([parse_group(text)], train_rows(model.dataset, model), seed=seed)


def _rows(name: str | None, number: int, one: Any, m: int, labels: Any) -> PlannedGroup:
    where = f"group {name!r}" if name is not None else f"group {number}"
    rows = labelled_rows(one, labels, where, "X") if is_labelled(one) else np.asarray(one)
    if rows.ndim != 1 or (rows.dtype.kind not in "biu" and rows.size):
        raise UsageError(
            f"{where}: expected row numbers or a mask of {m:,} truth values, found an array of the shape {rows.shape}"
            f" and type {rows.dtype}"
        )
    if rows.dtype.kind == "b":
        if len(rows) != m:
            found_values = f"found {len(rows):,}"
            raise UsageError(f"{where}: expected a mask with {m:,} truth values, one a training row, {found_values}")
        rows = np.flatnonzero(rows)
    numbers = np.sort(rows).astype(np.int64)
    if not len(numbers):
        raise UsageError(f"{where} is empty; expected at least one row")
    for row in (int(numbers[0]), int(numbers[-1])):
        check_row(row, where, m)
    repeated = numbers[:-1][numbers[1:] == numbers[:-1]]
    if len(repeated):
        raise UsageError(f"{where}: row {repeated[0]} is listed twice; expected each row once")
    if len(numbers) >= m:
        raise UsageError(f"{where} holds all {m:,} training rows: nothing would be left to train on")
    if name is None:
        few = len(numbers) <= SHOWN_ROWS
        name = "rows:" + ",".join(map(str, numbers.tolist())) if few else f"rows#{number}"
    numbers.flags.writeable = False
    return PlannedGroup(name, "rows", len(numbers), (name, 0), partial(same, numbers))


def count_of_rows(size: int | float, m: int, available: int) -> int:
    """A number of rows from a number, or from a share of the m rows.  Raises UsageError if fewer are available."""
    if isinstance(size, bool) or not isinstance(size, Real) or not (size < 1 or size % 1 == 0):
        raise UsageError(f"size {size!r}: expected a whole number of rows, or a share of them between 0 and 1")
    count = round(size * m) if size < 1 else int(size)
    if not 1 <= count <= min(available, m - 1):
        raise UsageError(f"size {size}: expected 1 to {min(available, m - 1):,} rows, found {count:,}")
    return count
