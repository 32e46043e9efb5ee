"""Row numbers of groups: random rows, each draw with its own seed, nearest rows, and clusters."""

from __future__ import annotations

import hashlib
import warnings
from typing import Any

import numpy as np

KMEANS_STARTS = 1
"""Starts of k-means: k-means++ already tries several rows per centre, and on 60,000 x 784 a start takes a minute."""

NEIGHBOUR_BLOCK = 2**20
"""Differences formed at a time, 8 MB of float64: enough to be fast, and far less than a copy of X."""


def seed_of(seed: int, text: str, number: int) -> int:
    """A seed of 128 bits for one draw, hashed so that adjacent seeds or numbers give independent draws."""
    return int.from_bytes(
        hashlib.sha256(f"{seed}\n{number}\n{text}".encode("utf-8", "surrogatepass")).digest()[:16], "little"
    )


def random_of(pool: np.ndarray | int, count: int, seed: int, text: str, number: int) -> np.ndarray:
    """``count`` rows of the pool (or of 0..pool - 1), sorted: draw ``number`` of the spec ``text``."""
    rng = np.random.default_rng(seed_of(seed, text, number))
    return np.sort(rng.choice(pool, count, replace=False, shuffle=False)).astype(np.int64, copy=False)


def same(rows: np.ndarray) -> np.ndarray:
    """The rows themselves: the draw of a group without randomness."""
    return rows


def frozen(rows: np.ndarray) -> np.ndarray:
    """The rows as a read-only array, because several draws return it."""
    rows = rows.astype(np.int64, copy=False)
    rows.flags.writeable = False
    return rows


def nearest_rows(X: Any, row: int, count: int) -> np.ndarray:
    """The rows with the smallest Euclidean distance, ties by row number; in blocks, without a copy of X."""
    squared = np.empty(X.shape[0])
    sparse = hasattr(X, "indptr")
    step = max(1, NEIGHBOUR_BLOCK // max(1, X.nnz // X.shape[0] if sparse else X.shape[1]))
    centre = X[[row]].toarray()[0] if sparse else X[row]
    for start in range(0, X.shape[0], step):
        block = X[start : start + step]
        if sparse:
            # A row without an entry differs from the centre by the centre's value.
            there = centre[block.indices]
            block.data = (block.data - there) ** 2 - there**2
            squared[start : start + step] = block.sum(axis=1) + (centre**2).sum()
        else:
            difference = block - centre
            squared[start : start + step] = np.einsum("ij,ij->i", difference, difference)
    squared[row] = -1.0  # first even among equal rows
    return np.sort(np.argsort(squared, kind="stable")[:count])


def kmeans(X: Any, clusters: int, seed: int) -> np.ndarray:
    """The cluster number of every row."""
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    # Threads sum in varying order, and a row that changes its cluster makes another group: one thread only.
    with threadpool_limits(limits=1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct rows than clusters: the caller reports it
        return KMeans(clusters, n_init=KMEANS_STARTS, random_state=seed % 2**32).fit_predict(X)
