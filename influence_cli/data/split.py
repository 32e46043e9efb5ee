"""Training and test rows for sources without a split.

scikit-learn's ``train_test_split`` is not used, because its import takes 0.7 s and it refuses a test split with fewer
rows than classes.
"""

from __future__ import annotations

import math

import numpy as np

from influence_cli.data.labels import in_a_sentence
from influence_cli.errors import FileError


def stratified_split(
    codes: np.ndarray, classes: tuple[str, ...], test_fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sorted row numbers of the training and the test part, in which the classes keep their proportions.

    The test part has ``test_fraction`` of the rows, rounded, but at least one, and every class keeps at least one
    training row.  The test rows are allotted to the classes by the largest-remainder method.  Raises FileError if a
    class has fewer than two rows.
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
    """Sorted row numbers of the training part (at least two rows) and the test part (at least one).

    Raises FileError for fewer than 3 rows.
    """
    if rows < 3:
        raise FileError(
            f"at least 3 rows are needed to split off a test row, but there are {rows}",
            "give the test rows yourself (--test-data, or X_test and y_test)",
        )
    count = min(max(round(rows * test_fraction), 1), rows - 2)
    order = np.random.default_rng(seed).permutation(rows)
    return np.sort(order[count:]), np.sort(order[:count])


def _test_places(counts: np.ndarray, test_fraction: float) -> np.ndarray:
    """The number of test rows of each class, which leaves at least one row of every class for training."""
    total = int(counts.sum())
    wanted = min(max(round(total * test_fraction), 1), total - len(counts))
    share = counts * (wanted / total)
    places = np.floor(share).astype(int)
    while places.sum() < wanted:  # at most one iteration for each class
        remainder = np.where(places < counts - 1, share - places, -np.inf)
        places[np.argmax(remainder)] += 1
    return places


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False
