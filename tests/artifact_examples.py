"""Small artifacts with awkward values, the same on every machine, and what it means for two to be equal."""

from contextlib import suppress
from dataclasses import replace

import h5py
import numpy as np
from scipy.sparse import csr_array

from influence_cli.artifacts import digests, storage
from influence_cli.artifacts.entries import CONTENT_DIGEST, DIGESTS
from influence_cli.artifacts.model import ModelArtifact, load_model
from influence_cli.core.solvers.cholesky import CholeskyFactor
from influence_cli.data.dataset import Dataset
from influence_cli.results import GroupTable, InfluenceResult, Provenance, SelectionResult, TruthResult


def numbers(*shape):
    """Irregular but without a generator, whose stream may change with its library: archived files depend on it."""
    return ((np.arange(np.prod(shape)) * 7919 % 1009) / 1009 - 0.5).reshape(shape)


def example_dataset():
    return Dataset(
        name="été/digits.npz",
        X_train=numbers(5, 4),
        y_train=np.array([0, 1, 2, 1, 0]),
        X_test=numbers(3, 4),
        y_test=np.array([2, 0, 1]),
        feature_names=("hauteur", "größe", "x 3", "\udcff"),
        classes=("null", "1", "二"),
        image_shape=(2, 2),
    )


def sparse_dataset():
    """The same without a third of its numbers, a whole row and a whole column among them, in compressed rows."""
    X = np.where(np.abs(numbers(8, 4)) < 0.17, 0.0, numbers(8, 4))
    X[1], X[:, 2] = 0.0, 0.0
    return replace(example_dataset(), X_train=csr_array(X[:5]), X_test=csr_array(X[5:]), image_shape=None)


def wide_dataset():
    """Many columns: of floats with gaps, of whole numbers, of text, one of two types and one without test rows."""
    train = {f"f{i}": np.where(numbers(5) > 0.4, np.nan, numbers(5) + i) for i in range(64)}
    train |= {f"i{i}": np.arange(5) * i for i in range(64)} | {"text": np.array(["a", None, "b", "a", "a"], object)}
    test = {name: values[:3] for name, values in train.items()}
    test["i1"] = np.array([np.nan, 1.0, 2.0])
    del test["f5"]
    return replace(example_dataset(), columns_train=train, columns_test=test, id_column="i2")


def example_wide_model(**changes):
    return example_model(**{"dataset": wide_dataset(), **changes})


def example_sparse_model(**changes):
    return example_model(**{"dataset": sparse_dataset(), **changes})


def example_model(factor=True, **changes):
    fields = {
        "dataset": example_dataset(),
        "theta": np.array([0.1, -0.0, 5e-324, 1e300, np.pi, np.nextafter(1, 2)]),
        "residuals": numbers(5, 3),
        "factor": CholeskyFactor(np.tril(numbers(6, 6).astype(np.float32)), 0.01) if factor else None,
        "settings": {"estimator": "logistic", "l2": 0.1 + 0.2, "fit_intercept": True, "seed": None, "names": ["ä"]},
        "training": {"grad_norm": 1e-9, "iterations": 7, "seconds": 0.25},
    }
    return ModelArtifact(**{**fields, **changes})


EXAMPLE_LINK = {"data": "/été/digits.npz", "test_data": "/\udcff.npz"}


def example_linked_model(**changes):
    return example_model(**{"link": EXAMPLE_LINK, **changes})


def load_linked_model(path):
    """With the data that is at the other end of the link."""
    return load_model(path, fetch=lambda settings, link: replace(example_dataset(), name=link["data"]))


def example_groups():
    return GroupTable(
        label=("coherent:3", "random:40%#1", "rows:@\udcff.txt", ""),
        kind=("coherent", "random", "rows", "rows"),
        size=np.array([3, 2, 1, 1]),
        fraction=np.array([0.6, 0.4, 0.2, 0.2]),
        digest=("00" * 32, "ff" * 32, "0a" * 31 + "00", "1b" * 32),
    )


def example_influence(**changes):
    fields = {
        "provenance": Provenance("d" * 64, "e" * 64, {"groups": ["coherent:3"], "seed": 3, "C": None}),
        "groups": example_groups(),
        "tests": np.array([17, -1, -2]),
        "quantity": "loss",
        "evaluate": "linear",
        "base": np.array([0.5, np.nan, -0.0]),
        "values": {"second": numbers(4, 3), "first-koh": np.full((4, 3), np.nan), "first": -numbers(4, 3)},
        "status": ("ok", "singular: not solved", "ok", "removes a whole class"),
    }
    return InfluenceResult(**{**fields, **changes})


def example_truth(**changes):
    actual = numbers(4, 3)
    actual[1] = np.nan
    fields = {
        "provenance": Provenance("d" * 64, "e" * 64, {"groups": ["coherent:3"], "tol": 1e-8}),
        "groups": example_groups(),
        "tests": np.array([17, -1, -2]),
        "quantity": "margin",
        "base": np.array([0.5, np.nan, -0.0]),
        "actual": actual,
        "grad_norm": np.array([1e-9, np.inf, 0.0, 3e-9]),
        "iterations": np.array([4, 100, 0, 9]),
        "seconds": np.array([0.1, 0.2, 0.3, 0.4]),
        "status": ("ok", "stalled", "ok", "ok"),
    }
    return TruthResult(**{**fields, **changes})


def example_selection(**changes):
    fields = {
        "provenance": Provenance("d" * 64, "e" * 64, {"strategies": ["greedy", "random"], "seed": 1, "verify": False}),
        "quantity": "loss",
        "entries": tuple(
            {
                "strategy": strategy,
                "size": 3,
                "test": 17,
                "predicted_first": 0.25,
                "predicted_second": -0.5,
                "actual": float("nan"),
                "seconds": 0.125,
                "rows": rows,
                "base": 1.5,
                "status": "ok",
            }
            for strategy, rows in (("greedy", np.array([1, 5, 9])), ("random", None))
        ),
    }
    return SelectionResult(**{**fields, **changes})


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def assert_same(a, b):
    """Equal to the bit, field by field, dataclasses within dataclasses."""
    assert type(a) is type(b)
    if isinstance(a, csr_array):
        assert a.shape == b.shape
        for part in ("data", "indices", "indptr"):
            assert_same(getattr(a, part), getattr(b, part))
    elif isinstance(a, np.ndarray):
        assert a.tolist() == b.tolist() if a.dtype == object else same_bits(a, b)
    elif isinstance(a, tuple | list):
        assert len(a) == len(b)
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    elif isinstance(a, float):
        assert a == b or (a != a and b != b)
    elif isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            assert_same(a[key], b[key])
    elif hasattr(a, "__dataclass_fields__"):
        for name in a.__dataclass_fields__:
            one, other = getattr(a, name), getattr(b, name)
            if name in ("config", "settings", "training"):
                assert one == other
            else:
                assert_same(one, other)
    else:
        assert a == b


def sign_again(path):
    """Digests of what the file holds now: whoever changes a file and knows its layout can do that."""
    with h5py.File(path, "r+") as file:
        records = {}

        def visit(name, item):
            if isinstance(item, h5py.Dataset) and item.shape is not None and item.size < 1e6:
                with suppress(TypeError, AttributeError, ValueError):  # of types that no file of ginf's has
                    records[f"/{name}"] = digests.record(np.asarray(item[()]), dict(item.attrs))

        file.visititems(visit)
        if DIGESTS[1:] in file.attrs:
            file.attrs[DIGESTS[1:]] = storage.to_json(records)
            kept = {f"@{name}": value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
                    for name, value in file.attrs.items()}  # fmt: skip
            with suppress(ValueError):
                file.attrs[CONTENT_DIGEST[1:]] = digests.content(kept)
