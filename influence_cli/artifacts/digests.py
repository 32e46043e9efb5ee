"""SHA-256 digests of a file's contents, which reveal damage or edits that HDF5's checksums miss.

Fletcher-32 of a block of zeros is zero, so that HDF5 accepts a zeroed chunk with a zeroed checksum.  A dataset has a
digest for each span of rows, so that a large one can be checked span by span as it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from influence_cli.artifacts.entries import CONTENT_DIGEST

SPAN_BYTES = 64 * 1024 * 1024  # bytes of a span: 2,400 digests for 150 GB, and little to read again if one is wrong


def record(array: np.ndarray, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """The entry in @digests for a dataset with the values ``array`` and these attributes."""
    rows = _rows_of_a_span(array)
    return {
        "dtype": array.dtype.newbyteorder("=").str,
        "shape": list(array.shape),
        "rows": rows,
        "sha256": _spans(array, rows),
        "attributes": dict(attributes),
    }


def problem(kept: Any, array: np.ndarray, attributes: Mapping[str, Any]) -> str | None:
    """What is wrong with a dataset whose entry in @digests is ``kept``; None if it is as it was written."""
    try:
        same = (
            kept["dtype"] == array.dtype.newbyteorder("=").str
            and tuple(kept["shape"]) == array.shape
            and kept["sha256"] == _spans(array, max(1, int(kept["rows"])))
        )
        if same and kept["attributes"] == dict(attributes):
            return None
    except (TypeError, KeyError, ValueError, OverflowError):
        return "damaged: expected its entry in @digests, found something else there"
    return "damaged: expected the content whose SHA-256 is in @digests, found another"


def content(attributes: Mapping[str, Any]) -> str:
    """The SHA-256 of the root's attributes except itself; since @digests is one of them, it covers the whole file.

    Raises ValueError for values that a ginf file cannot contain.
    """
    kept = {name: value for name, value in attributes.items() if name != CONTENT_DIGEST}
    try:
        text = json.dumps(kept, sort_keys=True, allow_nan=False, default=lambda value: value.item())
    except (TypeError, AttributeError) as error:
        raise ValueError(f"attributes of other types than text and numbers ({error})") from error
    return hashlib.sha256(text.encode()).hexdigest()


def _rows_of_a_span(array: np.ndarray) -> int:
    row = array.itemsize * int(np.prod(array.shape[1:], dtype=np.int64))
    return max(1, SPAN_BYTES // max(row, 1))


def _spans(array: np.ndarray, rows: int) -> list[str]:
    """A digest for each ``rows`` rows, at least one."""
    whole = np.ascontiguousarray(array).reshape(-1) if not array.ndim else np.ascontiguousarray(array)
    starts = range(0, max(len(whole), 1), rows)
    return [hashlib.sha256(_bytes(whole[start : start + rows])).hexdigest() for start in starts]


def _bytes(array: np.ndarray) -> memoryview | bytes:
    """The bytes of a contiguous array, without a copy."""
    return array.reshape(-1).view(np.uint8).data if array.size else b""
