"""The entries of a model that come in groups: compressed rows, shared arrays of columns, and sums over all rows."""

from __future__ import annotations

from influence_cli.artifacts.entries import Entry

LINK = "@data_link"
PIPELINE = "/pipeline/skops"
_SQUARES = "/sums/squares"
SUMS = (
    Entry(
        _SQUARES,
        "float64",
        ("D",),
        "weighted mean squares of the features, and of the intercept's ones; with what follows it spares later commands"
        " passes over all rows",
        required=False,
    ),
    Entry(
        "/sums/gradient",
        "float64",
        ("Q",),
        "gradient of the loss at theta, without the penalty; Q is P, which a model's settings are held against first",
        beside=_SQUARES,
    ),
    Entry(
        "/sums/hessian",
        "float64",
        ("Q", "Q"),
        "the Hessian of loss and penalty at theta, without damping; where it has fewer numbers than the features",
        required=False,
        large=True,
        beside=_SQUARES,
    ),
    Entry(
        "/sums/gram",
        "float64",
        ("D", "D"),
        "weighted mean of the features' outer products: the first Kronecker factor of the Hessian's approximation",
        required=False,
        large=True,
        beside=_SQUARES,
    ),
    Entry(
        "/sums/typical",
        "float64",
        ("K", "K"),
        "weighted mean of the loss's second derivatives in the outputs: the second one",
        beside="/sums/gram",
    ),
)
"""The fields of ``core.objectives.kept.Kept``."""
LAYERS = "/sums/layers"
OF_LAYERS = Entry(
    LAYERS,
    "float64",
    ("L",),
    "of a network, layer by layer: the weighted mean of the curvature in the units' inputs, and that of the outer"
    " products of what goes into the layer, each row by row; K-FAC is made of them",
    required=False,
)


def compressed(split: str, rows: str, stored: str) -> tuple[Entry, ...]:
    """Features in compressed rows, as in SciPy's csr_array."""
    folder = f"/data/{split}_csr"
    data = f"{folder}/data"
    return (
        Entry(
            data,
            "float64",
            (stored,),
            f"the numbers of {split}, row by row",
            required=False,
            large=True,
            unless=(LINK,),
        ),
        Entry(
            f"{folder}/indices", "int32|int64", (stored,), "their columns, rising within a row", large=True, beside=data
        ),
        Entry(
            f"{folder}/indptr",
            "int32|int64",
            (f"{rows}+1",),
            "where a row's numbers begin, and the last one's end",
            beside=data,
        ),
    )


def many_columns(kind: str) -> tuple[Entry, ...]:
    """The shared array of short numeric columns of one type, if there are many."""
    numbers, folder = f"/columns/many/{kind}", "/columns/many"
    rows = (("train", "m", "training"), ("test", "n", "test"))
    return (
        Entry(
            numbers,
            "int64",
            (f"q_{kind}",),
            f"numbers in /columns/names of the {kind} columns that lie here and not in /columns/train, /columns/test",
            required=False,
            unless=(LINK,),
            since=4,
        ),
        *(
            Entry(
                f"{folder}/{kind}_{split}",
                kind,
                (f"q_{kind}", count),
                f"their values in the {words} rows, a column a row; NaN where missing",
                finite=False,
                beside=numbers,
            )
            for split, count, words in rows
        ),
    )
