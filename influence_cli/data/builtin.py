"""The built-in data sets, which need no path.

scikit-learn is imported for ``mnist`` alone, because the import takes longer than a whole run on ``digits``, which is
one of its data files.
"""

from __future__ import annotations

import warnings
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from influence_cli.data.from_arrays import RawData
from influence_cli.errors import FileError

SYNTHETIC_ROWS = (10_000, 2_000)
BLOBS_ROWS = (20_000, 4_000)
MNIST_ROWS = (60_000, 10_000)
"""Numbers of training rows and of test rows."""

MNIST_SHAPE = (28, 28)

SYNTHETIC_MEAN = np.array([1.0, 0.6, 0.4, 0.2, 0.0])
"""Half the difference of the class means; with its norm of 1.25 even the best classifier has an error of 10.6%."""

BLOBS_CENTRES = 2.5 * np.eye(4, 5)
"""Four points that are 3.54 standard deviations apart; 9.3% of the rows lie nearer to the centre of another class."""


def digits(seed: int) -> RawData:
    """1,797 handwritten digits of 8x8 pixels from scikit-learn, scaled from 0..16 to [0, 1], without a test split."""
    found = find_spec("sklearn")
    places = found.submodule_search_locations if found else None
    path = Path(places[0], "datasets", "data", "digits.csv.gz") if places else None
    if path is not None and path.is_file():
        table = np.loadtxt(path, delimiter=",")
        return RawData(table[:, :-1].reshape(-1, 8, 8) / 16.0, table[:, -1].astype(np.int64))
    from sklearn.datasets import load_digits  # another version of scikit-learn keeps the file elsewhere

    bunch = load_digits()
    return RawData(bunch.images / 16.0, bunch.target)


def synthetic(seed: int) -> RawData:
    """Two overlapping Gaussian classes in five features.

    y is 0 or 1 with equal probability, and given y, x ~ N((2y - 1) mu, I) with mu = ``SYNTHETIC_MEAN``.  Hence
    log P(y=1|x)/P(y=0|x) = 2 mu'x exactly: logistic regression is the true model, and the last feature is noise.
    """
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 2, size=sum(SYNTHETIC_ROWS))
    X = rng.standard_normal((len(y), len(SYNTHETIC_MEAN))) + np.outer(2 * y - 1, SYNTHETIC_MEAN)
    return _with_split(X, y, SYNTHETIC_ROWS[0])


def blobs(seed: int) -> RawData:
    """Four overlapping isotropic Gaussian blobs in five features.

    y is 0, 1, 2 or 3 with equal probability, and given y, x ~ N(c_y, I), where c_y is row y of ``BLOBS_CENTRES``.
    The fifth feature is noise.
    """
    rng = np.random.default_rng(seed)
    y = rng.integers(0, len(BLOBS_CENTRES), size=sum(BLOBS_ROWS))
    X = rng.standard_normal((len(y), BLOBS_CENTRES.shape[1])) + BLOBS_CENTRES[y]
    return _with_split(X, y, BLOBS_ROWS[0])


def mnist(seed: int) -> RawData:
    """The 70,000 MNIST digits from OpenML, in their customary order and split, scaled from 0..255 to [0, 1].

    Raises FileError.
    """
    bunch = _fetch_mnist()
    rows = sum(MNIST_ROWS)
    pixels, labels = np.asarray(bunch.data), np.asarray(bunch.target)
    height, width = MNIST_SHAPE
    if pixels.shape != (rows, height * width) or labels.shape != (rows,):
        raise FileError(
            f"{rows} rows of {height * width} pixels were expected from OpenML, "
            f"but found arrays of the shapes {pixels.shape} and {labels.shape}",
            MNIST_HINT,
        )
    images = (pixels / 255.0).reshape(rows, height, width)
    return _with_split(images, labels.astype(np.int64), MNIST_ROWS[0])


MNIST_HINT = (
    "pass a folder with the four MNIST files (train-images-idx3-ubyte, train-labels-idx1-ubyte, "
    "t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte; gzipped or not) with --data PATH"
)


def _fetch_mnist() -> Any:
    """The OpenML bunch, which scikit-learn downloads once and then caches.  Raises FileError."""
    from sklearn.datasets import fetch_openml

    # scikit-learn's fast parser needs pandas, on which ginf does not depend; its own is slow but always available.
    parser = "pandas" if find_spec("pandas") else "liac-arff"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # "a network error occurred": the error below says it better
            return fetch_openml("mnist_784", version=1, as_frame=False, parser=parser, n_retries=1)
    except (OSError, HTTPException, ValueError, EOFError) as error:
        reason = getattr(error, "reason", None) or error
        raise FileError(f"could not be had from OpenML: {reason}", MNIST_HINT) from error


def _with_split(X: np.ndarray, y: np.ndarray, train: int) -> RawData:
    return RawData(X[:train], y[:train], X[train:], y[train:])


BUILTIN = {"digits": digits, "synthetic": synthetic, "blobs": blobs, "mnist": mnist}
"""Name -> function of the seed; only ``synthetic`` and ``blobs`` are random and use it."""
