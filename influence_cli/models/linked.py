"""Linked models: the rows are read again from the files or built-in data from which ``ginf train`` read them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

from influence_cli.data.dataset import Dataset
from influence_cli.data.load import load
from influence_cli.data.options import TableOptions
from influence_cli.data.readers.in_place import for_few
from influence_cli.data.sources import located
from influence_cli.errors import UsageError, unknown_word
from influence_cli.models.rank import without_dependent
from influence_cli.models.sample_weights import weighted
from influence_cli.models.settings import ESTIMATORS


def link_to(data: str, test_data: str | None, from_model: str | None) -> dict[str, str]:
    """What a linked model keeps in place of its rows: locations that are valid wherever ginf is started."""
    sources = {"data": data, "test_data": test_data, "from": from_model}
    return {key: located(source) for key, source in sources.items() if source is not None}


def linked_rows(settings: Mapping[str, Any], link: Mapping[str, str]) -> Dataset:
    """The data of a model, read with the options that its file keeps.  Raises FileError or UsageError."""
    for key in ("estimator", "seed", "test_fraction"):
        if settings.get(key) is None:
            raise UsageError(f"the settings of a linked model need {key}")
    if settings["estimator"] not in ESTIMATORS:
        raise unknown_word("estimator", str(settings["estimator"]), tuple(ESTIMATORS))
    table = TableOptions.from_dict({**settings, **link})
    seed = settings["seed"]
    if "from" in link:
        from influence_cli.models.skops import read_rows

        return read_rows(link["from"], link["data"], table, seed=seed).dataset
    task, fraction = ESTIMATORS[settings["estimator"]], settings["test_fraction"]
    with for_few(None) if table.standardize or not settings.get("l2") else nullcontext():  # these look at every row
        dataset = load(link["data"], task=task, test_fraction=fraction, seed=seed, table=table)
    dataset = weighted(dataset, table.weights, settings.get("class_weight"))[0]
    if settings.get("l2") == 0 and not settings.get("hidden"):
        reduced = without_dependent(dataset, bool(settings.get("fit_intercept")))
        return dataset if reduced is None else reduced.dataset
    return dataset
