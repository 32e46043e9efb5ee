"""Train and test rows for sources that come without a split.

Own code rather than scikit-learn's ``train_test_split``, which costs 0.7 s to import and refuses to leave a class
out of a test split that has fewer rows than classes.
"""

from __future__ import annotations

import math

import numpy as np

from influence_cli.data.labels import in_a_sentence
from influence_cli.errors import FileError


def stratified_split(
    codes: np.ndarray, classes: tuple[str, ...], test_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted row numbers of the training and test parts, with each class in its proportion.

    The test part has ``test_fraction`` of the rows, rounded, within these bounds: at least one test row, at least
    one training row of every class.  Its places go to the classes by largest remainder.
    """
    counts = np.bincount(codes, minlength=len(classes))
    if counts.min() < 2:
        alone = [label for label, count in zip(classes, counts, strict=True) if count < 2]
        more = f" and {len(alone) - 5} more" if len(alone) > 5 else ""
        which, has = ("class", "has one") if len(alone) == 1 else ("classes", "have one each")
        amount = "for an amount --estimator linear; " if all(map(_is_number, classes)) and len(classes) > 2 else ""
        raise FileError(
            f"a class needs two rows to be split into training and test rows, "
            f"but {which} {', '.join(map(in_a_sentence, alone[:5]))}{more} {has}",
            f"{amount}add rows of that class, leave it out, or give the test rows yourself (--test-data, or X_test and"
            " y_test)",
        )
    places = _test_places(counts, test_fraction)
    rng = np.random.default_rng(seed)
    chosen = np.zeros(len(codes), dtype=bool)
    for code, place in enumerate(places):
        chosen[rng.permutation(np.flatnonzero(codes == code))[:place]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def random_split(rows: int, test_fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Sorted row numbers of the training and test parts: at least one test row and two training rows."""
    if rows < 3:
        raise FileError(
            f"at least 3 rows are needed to split off a test row, but there are {rows}",
            "give the test rows yourself (--test-data, or X_test and y_test)",
        )
    count = min(max(round(rows * test_fraction), 1), rows - 2)
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[count:]), np.sort(order[:count])


def _test_places(counts: np.ndarray, test_fraction: float) -> np.ndarray:
    """How many test rows each class gives; every class keeps one row for training."""
    total = int(counts.sum())
    wanted = min(max(round(total * test_fraction), 1), total - len(counts))
    share = counts * (wanted / total)
    places = np.floor(share).astype(int)
    while places.sum() < wanted:  # at most one round a class
        remainder = np.where(places < counts - 1, share - places, -np.inf)
        places[np.argmax(remainder)] += 1
    return places


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False
