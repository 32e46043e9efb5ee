"""A folder of four IDX files, the format of MNIST, plain or gzipped.

Every kind of damage raises a FileError that says what was expected and what was found.
"""

from __future__ import annotations

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from influence_cli.data.from_arrays import RawData
from influence_cli.data.memory import BoundedGzip
from influence_cli.errors import FileError, about

IDX_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
"""The third byte of an IDX file -> the type of its values."""

IDX_MOST_DIMENSIONS = 4
"""Most dimensions of an array, as for colour images; a larger number is a sign of damage."""

IDX_NAME = re.compile(r"(?:\w+[-._])*?(train|t10k|test)[-._](images|labels)[-._]idx\d[-._]ubyte(\.gz)?", re.IGNORECASE)
"""``train-images-idx3-ubyte``, or with a prefix, as in EMNIST: ``emnist-letters-train-images-idx3-ubyte.gz``."""
IDX_STANDARD = {
    ("train", "images"): "train-images-idx3-ubyte",
    ("train", "labels"): "train-labels-idx1-ubyte",
    ("test", "images"): "t10k-images-idx3-ubyte",
    ("test", "labels"): "t10k-labels-idx1-ubyte",
}

GZIP_MAGIC = b"\x1f\x8b"


def read_idx_folder(folder: Path) -> RawData:
    """The arrays of the four MNIST-style files of a folder, plain or gzipped.  Raises FileError.

    uint8 images are divided by the largest value of the training images: 255 for MNIST, 16 for the 8x8 digits.
    """
    arrays = {}
    for role, path in _find_idx(folder).items():
        with about(str(path)):
            arrays[role] = _read_idx(path)
    for split in ("train", "test"):
        images, labels = arrays[split, "images"], arrays[split, "labels"]
        if images.ndim < 2 or labels.ndim != 1:
            raise FileError(
                f"the {split} images must have two or more dimensions and the labels one, "
                f"but they have {images.ndim} and {labels.ndim}",
                "are the image and label files swapped?",
            )
        if len(images) != len(labels):
            raise FileError(
                f"the {split} split must have one label an image, "
                f"but it has {len(images)} images and {len(labels)} labels",
                "take all four files from one source",
            )
    train, test = arrays["train", "images"], arrays["test", "images"]
    if train.shape[1:] != test.shape[1:]:
        sizes = ["x".join(map(str, images.shape[1:])) for images in (train, test)]
        raise FileError(
            f"test images must have the size of the training images, {sizes[0]}, but they are {sizes[1]}",
            "take all four files from one source",
        )
    if train.dtype == np.uint8:
        largest = float(train.max(initial=0)) or 1.0
        train, test = train / largest, test / largest
    return RawData(train, arrays["train", "labels"], test, arrays["test", "labels"])


def _find_idx(folder: Path) -> dict[tuple[str, str], Path]:
    """(train|test, images|labels) -> the file; a plain file takes precedence over its gzipped copy."""
    files: dict[tuple[str, str], Path] = {}
    try:
        paths = sorted(path for path in folder.iterdir() if path.is_file())
    except OSError as error:
        raise FileError(f"the folder cannot be read: {error.strerror}") from error
    for path in paths:  # sorted, so that a plain file comes before its gzipped copy
        match = IDX_NAME.fullmatch(path.name)
        if match is None:
            continue
        role = ("train" if match[1].lower() == "train" else "test", match[2].lower())
        other = files.setdefault(role, path)
        if other.name != path.name and other.name != path.name.removesuffix(".gz"):
            raise FileError(
                f"one file of {role[0]} {role[1]} was expected, but found {other.name} and {path.name}",
                "leave only one of them in the folder",
            )
    missing = [standard for role, standard in IDX_STANDARD.items() if role not in files]
    if missing:
        which = f"it has no {', '.join(missing)}" if files else "it has none of them"
        raise FileError(
            f"a folder of data must hold the four IDX files, but {which}",
            f"the files are {', '.join(IDX_STANDARD.values())}, each plain or as .gz",
        )
    return files


def _read_idx(path: Path) -> np.ndarray:
    """The array of one IDX file, in the byte order of the file.  Raises FileError.

    The format is two zero bytes, the type of the values, the number of dimensions, each dimension as a big-endian
    uint32, and the values in C order.  Gzip is recognised by content, because browsers unpack files but keep ``.gz``.
    """
    content = _read_bytes(path)
    magic = content[:4]
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or not 1 <= magic[3] <= IDX_MOST_DIMENSIONS:
        beginning = f"begins with the bytes {magic.hex(' ')}" if magic else "is empty"
        raise FileError(
            f"an IDX file begins with 00 00, a type and a number of dimensions, but this file {beginning}",
            "download the file again",
        )
    dtype, start = np.dtype(IDX_TYPES[magic[2]]), 4 + 4 * magic[3]
    shape = struct.unpack(f">{magic[3]}I", content[4:start]) if len(content) >= start else ()
    expected = start + math.prod(shape) * dtype.itemsize if shape else start
    if len(content) != expected:
        what = f"for {'x'.join(map(str, shape))} values" if shape else "for the header"
        raise FileError(
            f"{expected} bytes were expected {what}, but found {len(content)}",
            "the file is cut short or damaged: download it again",
        )
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def _read_bytes(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise FileError(f"the file cannot be read: {error.strerror}") from error
    if not content.startswith(GZIP_MAGIC):
        return content
    try:
        with BoundedGzip(path) as file:
            return file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileError(
            f"a whole gzip file was expected, but it is cut short or damaged ({error})",
            "download the file again",
        ) from error
