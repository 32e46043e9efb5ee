"""The entries of a model's data that come in several: compressed rows, and columns that are many."""

from __future__ import annotations

from influence_cli.artifacts.entries import Entry

LINK = "@data_link"
PIPELINE = "/pipeline/skops"


def compressed(split: str, rows: str, stored: str) -> tuple[Entry, ...]:
    """Features in compressed rows, as SciPy's csr_array has them."""
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
    """Short columns of numbers of one type, where they are many."""
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
