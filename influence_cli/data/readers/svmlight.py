"""The format of svmlight and libsvm, by scikit-learn, in compressed rows."""

from __future__ import annotations

import zlib
from pathlib import Path

from influence_cli.data.prepare import RawData
from influence_cli.data.sparse import refuse_wide
from influence_cli.errors import FileError

HINT = "each line must be LABEL INDEX:VALUE INDEX:VALUE ..."


def read_svmlight(path: Path, name: str, test: Path | None = None, test_name: str = "") -> RawData:
    """``label index:value ...`` a line; the test file gets the features of the training file.

    Whether indices begin at 0 or 1 is read from the files together, as scikit-learn does.
    """
    from sklearn.datasets import load_svmlight_files

    paths = [path] if test is None else [path, test]
    try:
        parts = load_svmlight_files([str(one) for one in paths], zero_based="auto")
    except (ValueError, OverflowError, MemoryError, EOFError, OSError, zlib.error, UnicodeDecodeError) as error:
        both = name if test is None else f"{name} and {test_name}"
        raise FileError(f"{both}: the svmlight format was expected, but found something else ({error})", HINT) from None
    if not parts[0].shape[0]:
        raise FileError(f"{name}: the file holds no rows", HINT)
    if not parts[0].shape[1]:
        raise FileError(f"{name}: no row has a feature", HINT)
    refuse_wide(parts[0].shape[1], name)
    return RawData.of(name, parts)
