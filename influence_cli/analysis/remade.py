"""Groups one by one, where removal changes the remaining rows: imputed values, class weights, whole pipelines."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from influence_cli.analysis.question import OF_MODEL, Question, ask
from influence_cli.core.removal import Removal, removal
from influence_cli.errors import FileError


@dataclass(frozen=True)
class Without:
    """The question about the rows as they are without one group, and the group's removal from them.

    ``aligned`` says whether the parameters have the same meaning as those of the trained model.
    """

    question: Question
    removal: Removal
    aligned: bool


def without(question: Question, rows: np.ndarray) -> Without:
    """The same question without ``rows``, by ``Refit.changed``.

    Raises FileError where the preprocessing cannot be fitted without them, or where the question is about a parameter
    that no longer exists.
    """
    model = question.model
    refit = model.refit
    assert refit is not None
    changed = refit.changed(rows)
    data = changed.dataset
    if question.quantity.startswith(OF_MODEL) and not changed.aligned:
        raise FileError("without the group the features are others, and so are the parameters")
    if question.tests is not None and not model.dataset.labelled.all():
        # For a row without a label the class in question is the one predicted before removal.
        dataset = model.dataset
        data = replace(data, y_test=np.where(dataset.labelled, dataset.y_test, model.predict(dataset.X_test)))
    other = replace(model, dataset=data, factor=None, refit=None)
    group = removal(other.objective.weights, [rows], model.settings.penalty_scaling, changed.penalty)
    asked = ask(other, question.tests, question.quantity, [rows]).of(np.zeros(1, dtype=np.int64), group.removed)
    return Without(asked, group, changed.aligned)
