"""Write the built-in digits, as ``ginf`` splits them by default, as the four IDX files of ``sample_data/digits``.

    python sample_data/make_digits.py [FOLDER]

The bytes are the same on every run: the gzip headers carry neither a time nor a file name.
"""

import gzip
import sys
from pathlib import Path

import numpy as np

from influence_cli.data.load import load

LARGEST = 16
"""The pixels of the original are whole numbers from 0 to 16; ``ginf`` divides them by 16."""


def write_idx(path: Path, array: np.ndarray) -> None:
    """uint8 values behind an IDX header, gzipped."""
    header = bytes([0, 0, 0x08, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
    with path.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as zipped:
        zipped.write(header + array.astype(np.uint8).tobytes())


def main(folder: Path) -> None:
    """The four files in ``folder``, which is made where it is missing."""
    data = load("digits", task="classification")
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, X, codes in (("train", data.X_train, data.y_train), ("t10k", data.X_test, data.y_test)):
        images = np.rint(X * LARGEST).reshape(-1, *data.image_shape)
        write_idx(folder / f"{prefix}-images-idx3-ubyte.gz", images)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte.gz", codes)  # class 3 has the code 3: all ten digits occur


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent / "digits")
