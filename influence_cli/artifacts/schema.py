"""What each kind of file contains: the one source of the writer, the validator and docs/format.md."""

from __future__ import annotations

from influence_cli.artifacts import json_keys
from influence_cli.artifacts.entries import HEADER, Entry, Kind, markdown
from influence_cli.artifacts.schema_data import LINK, OF_LAYERS, PIPELINE, SUMS, compressed, many_columns

_ORIGIN = (
    Entry("@data_digest", "str", (), "SHA-256 of the training and test rows, in hexadecimal"),
    Entry("@model_digest", "str", (), "SHA-256 of theta, the data digest and the model's settings, in hexadecimal"),
)

_RESULT = (
    *_ORIGIN,
    Entry("@quantity", "str", (), "what was measured: the f of f(after removal) - f(before)"),
    Entry("/groups/label", "str", ("G",), "the specification that gave the group"),
    Entry("/groups/kind", "str", ("G",), "kind of the group (random, coherent, rows, ...)"),
    Entry("/groups/size", "int64", ("G",), "rows in the group"),
    Entry("/groups/fraction", "float64", ("G",), "size / m"),
    Entry("/groups/digest", "uint8", ("G", 32), "SHA-256 of the sorted row numbers as little-endian int64"),
    Entry(
        "/groups/cell",
        "str",
        ("G",),
        "what the groups of a kind that are judged together share: their size, or the spec of groups of many sizes",
        required=False,
    ),
    Entry("/groups/status", "int32", ("G",), "index into /statuses"),
    Entry("/statuses", "str", ("S",), 'the different outcomes; "ok" is one without reservation'),
    Entry(
        "/tests/row",
        "int64",
        ("T",),
        "row of the test split; -1 one figure for all rows, -2 none, -3 the rows that a group removes,"
        " from -4 down none and each of several quantities of the model",
    ),
    Entry("/tests/base", "float64", ("T",), "f before removal; NaN where undefined or not one", finite=False),
    Entry("/groups/base", "float64", ("G",), "f of each group's own rows, where /tests/row is -3", False, finite=False),
    Entry(
        "/tests/names",
        "str",
        ("T",),
        "JSON of true and predicted class or response, record in the file, and identifier of the test row",
        required=False,
    ),
    Entry("/groups/names", "str", ("G",), "the same of single rows that are measured by themselves", required=False),
)

_PROVEN = tuple(
    Entry(
        f"/proven/{end}",
        "float64",
        ("G", "T"),
        f"proven {side} bound of the change; NaN where nothing is proven",
        required=False,
        finite=False,
    )
    for end, side in (("low", "lower"), ("high", "upper"))
)

_CREDIT = (
    Entry("/credit/*", "float64", ("G", "T"), "a group's value, or its _error, in the unit of f", False, finite=False),
    Entry("/credit_state", "uint8", ("G", "T"), "0 of minima, 1 of limits, 2 a coalition has no figure", False),
)


_CHANGE = "change of f if the group is removed; NaN where it could not be had"
RESIDUALS = "gradient of a row: residual times features; left out of a linked model whose rows are streamed"

KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "model",
            "a trained model with the data it was trained on",
            "ginf train ... -o model.h5",
            (
                *_ORIGIN,
                Entry("@data_name", "str", (), "name or path of the data source"),
                Entry(
                    LINK,
                    "json",
                    (),
                    "what the features and columns are made of again by the options in @config (--link-data): absolute "
                    "paths, or names of built-in data, of data, test_data and from; @data_digest holds for them",
                    required=False,
                ),
                Entry("@training", "json", (), "how training ended: grad_norm, iterations, seconds, ..."),
                Entry(
                    "/data/X_train",
                    "float64",
                    ("m", "d"),
                    "features of the training rows",
                    large=True,
                    unless=("/data/X_train_csr/data", LINK),
                ),
                *compressed("X_train", "m", "z"),
                Entry("/data/y_train", "int64|float64", ("m",), "class codes into /data/classes, or responses"),
                Entry(
                    "/data/X_test",
                    "float64",
                    ("n", "d"),
                    "features of the test rows",
                    large=True,
                    unless=("/data/X_test_csr/data", LINK),
                ),
                *compressed("X_test", "n", "y"),
                Entry(
                    "/data/y_test",
                    "int64|float64",
                    ("n",),
                    "as /data/y_train; -1 or NaN for a test row without a label",
                    finite=False,
                ),
                Entry(
                    "/data/weights",
                    "float64",
                    ("m",),
                    "weights of the training rows, summing to 1; all 1/m where missing",
                    required=False,
                ),
                *(
                    Entry(
                        f"/data/records_{split}",
                        "int64",
                        (rows,),
                        f"numbers of the {words} rows in their file, 1 the first; unknown where missing",
                        required=False,
                        unless=(LINK,),
                    )
                    for split, rows, words in (("train", "m", "training"), ("test", "n", "test"))
                ),
                Entry("/data/classes", "str", ("c",), "class labels in the order of their codes; none for regression"),
                Entry("/data/feature_names", "str", ("d",), "names of the features"),
                Entry("/data/image_shape", "int64", (2,), "height and width if a row is an image", required=False),
                Entry(
                    "/columns/names",
                    "str",
                    ("k",),
                    "columns of the table, which name groups",
                    required=False,
                    unless=(LINK,),
                ),
                Entry(
                    "/columns/train/*",
                    "int32|int64|float64",
                    ("m",),
                    "the column of that number in /columns/names as it was read, NaN where missing; int32 are indices "
                    "into /columns/vocabulary, -1 where missing",
                    required=False,
                    finite=False,
                    unless=(LINK,),
                ),
                Entry(
                    "/columns/test/*",
                    "int32|int64|float64",
                    ("n",),
                    "the same of the test rows",
                    required=False,
                    finite=False,
                    unless=(LINK,),
                ),
                *(one for kind in ("float64", "int64") for one in many_columns(kind)),
                Entry(
                    "/columns/vocabulary",
                    "str",
                    ("v",),
                    "the different texts of all columns",
                    required=False,
                    unless=(LINK,),
                ),
                Entry("@id_column", "str", (), "the column that identifies rows", required=False),
                Entry(
                    "@preparation",
                    "json",
                    (),
                    "how the features were made of the columns: imputed values, means, scales, categories",
                    required=False,
                ),
                Entry(
                    PIPELINE,
                    "uint8",
                    ("s",),
                    "the bytes of the .skops file of --from, whose preprocessing is made again without a group",
                    required=False,
                    unless=(LINK,),
                ),
                Entry("/params/theta", "float64", ("P",), "trained parameters"),
                Entry("/gradients/residuals", "float64", ("m", "K"), RESIDUALS, required=False),
                *SUMS,
                OF_LAYERS,
                Entry(
                    "/hessian/cholesky",
                    "float32|float64",
                    ("P", "P"),
                    "L' (upper triangle) where L L' is the Hessian plus damping times the identity; "
                    "row-major L' is L in the column order of LAPACK. What lies below the diagonal means nothing",
                    required=False,
                    large=True,
                ),
                Entry("/hessian/cholesky@damping", "float64", (), "added to the Hessian's diagonal"),
                Entry(
                    "/hessian/cholesky@sha256",
                    "str",
                    (),
                    "SHA-256 of the dataset's bytes, in hexadecimal; before version 3, which has @digests",
                    required=False,
                ),
            ),
        ),
        Kind(
            "influence",
            "estimated changes on removal of groups",
            "ginf influence ... -o influence.h5",
            (
                *_RESULT,
                Entry("@evaluate", "str", (), "linear or exact"),
                Entry("/methods", "str", ("M",), "names of the estimators in the order asked for"),
                Entry("/values/*", "float64", ("G", "T"), f"one dataset an estimator: {_CHANGE}", finite=False),
                Entry(
                    "/extrapolated",
                    "uint8",
                    ("G", "T"),
                    "what each pair's truth is: 0 a minimum's, 1 none, 2 a limit, 3 not known; 0 throughout if missing",
                    required=False,
                ),
                Entry(
                    "/errors/*",
                    "float64",
                    ("G", "T"),
                    "how far an estimator's figures may be off, as estimated, in the unit of f",
                    required=False,
                    finite=False,
                ),
                Entry(
                    "/refined/steps",
                    "int64",
                    ("G",),
                    "steps of the retraining's iteration that refined took",
                    required=False,
                ),
                Entry(
                    "/refined/unmet",
                    "uint8",
                    ("G", "T"),
                    "1 where the error of refined is over the tolerance that was asked for",
                    required=False,
                    beside="/refined/steps",
                ),
                *_PROVEN,
                Entry(
                    "/verified/actual",
                    "float64",
                    ("G", "T"),
                    f"by retraining, where it was asked for as well: {_CHANGE}",
                    required=False,
                    finite=False,
                ),
            ),
        ),
        Kind(
            "truth",
            "changes on removal of groups, measured by retraining",
            "ginf groundtruth ... -o truth.h5",
            (
                *_RESULT,
                Entry("/values/actual", "float64", ("G", "T"), _CHANGE, finite=False),
                *_PROVEN,
                Entry(
                    "/values/repeats",
                    "float64",
                    ("R", "G", "T"),
                    "the changes from each of several seeds; /values/actual is their mean",
                    required=False,
                    finite=False,
                ),
                Entry(
                    "/values/actual_error",
                    "float64",
                    ("G", "T"),
                    "how far each change may be off, in its unit; of earlier versions not known",
                    required=False,
                    finite=False,
                ),
                Entry(
                    "/unbounded",
                    "uint8",
                    ("G", "T"),
                    "1 where a change is taken along a direction without a minimum; of earlier versions not known",
                    required=False,
                ),
                *_CREDIT,
                Entry("/retraining/grad_norm", "float64", ("G",), "gradient norm at the last pass", finite=False),
                Entry("/retraining/iterations", "int64", ("G",), "iterations of the retraining"),
                Entry("/retraining/seconds", "float64", ("G",), "seconds: its share of the block's time", finite=False),
            ),
        ),
        Kind(
            "selection",
            "the most influential groups that were found",
            "ginf select ... -o selection.h5",
            (
                *_ORIGIN,
                Entry("@quantity", "str", (), "what was measured: the f of f(after removal) - f(before)"),
                Entry("/records/strategy", "str", ("R",), "what found the group"),
                Entry("/records/size", "int64", ("R",), "rows in the group; 0 for a mean over groups of several sizes"),
                Entry(
                    "/records/test",
                    "int64",
                    ("R",),
                    "row of the test split; -1 one figure for all rows, -2 none, -3 the rows that a group removes,"
                    " from -4 down none and each of several quantities of the model",
                ),
                Entry("/records/base", "float64", ("R",), "f before removal; NaN where undefined", finite=False),
                Entry("/records/predicted_first", "float64", ("R",), f"first-order {_CHANGE}", finite=False),
                Entry("/records/predicted_second", "float64", ("R",), f"second-order {_CHANGE}", finite=False),
                Entry("/records/actual", "float64", ("R",), "change by retraining; NaN without", finite=False),
                Entry("/records/seconds", "float64", ("R",), "seconds that the search took", finite=False),
                Entry("/records/details", "str", ("R",), "the record's other keys, JSON"),
                Entry("/rows/number", "int64", ("N",), "row numbers of all groups, one group behind the other"),
                Entry("/rows/end", "int64", ("R",), "where a record's rows end, and the next one's begin"),
            ),
        ),
    )
}


def documentation(kind: str) -> str:
    """The table of one kind (or of ``header``, common to all) for docs/format.md, and the keys of its JSON."""
    if kind == "header":
        return markdown(HEADER)
    return "\n".join(
        (markdown(KINDS[kind].entries), *(json_keys.sentence(kind, name) for name in json_keys.KEYS[kind]))
    )
