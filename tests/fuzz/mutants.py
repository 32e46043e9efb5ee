"""Damaged and edited files, drawn by a seeded generator: each mutant is a function of the seed and its number."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from artifact_examples import sign_again

ODD = (
    *(None, True, False, -1, 0, 1, 3, 2**31, 2**63, -(2**63), 10**30, 0.5, -0.0, 1e308, 1e-320),
    *("", "x", "loss", "nan", "\u0000", "\udcff", "a" * 3000, [], {}, [[]], {"a": [1]}, ["first"], [None]),
)
"""Values that a key of JSON does not expect."""
TEXTS = ("{}", "[]", "null", "7", '"x"', '{"a": NaN}', "{", "[" * 5000, "", "\ufeff{}", '{"a": 1e999}')


# --- bytes ---


def damaged_bytes(content: bytes, draw: random.Random, spots: list[tuple[int, int]] | None = None) -> bytes:
    """The file with a few bytes changed, moved, lost or zeroed; ``spots`` are offsets and lengths of its pieces."""
    data = bytearray(content)
    kind = draw.choice(("flip", "byte", "zero", "noise", "cut", "insert", "copy", "spot", "delete", "several"))
    at = draw.randrange(max(1, len(data)))
    length = min(len(data) - at, draw.choice((1, 2, 4, 8, 16, 64, 512, 4096)))
    if kind == "flip":
        data[at] ^= 1 << draw.randrange(8)
    elif kind == "byte":
        data[at] = draw.choice((0, 1, 0x7F, 0x80, 0xFF, draw.randrange(256)))
    elif kind == "zero":
        data[at : at + length] = bytes(length)
    elif kind == "noise":
        data[at : at + length] = draw.randbytes(length)
    elif kind == "cut":
        del data[at:]
    elif kind == "insert":
        data[at:at] = draw.randbytes(length)
    elif kind == "copy":
        source = draw.randrange(max(1, len(data)))
        piece = data[source : source + length]
        data[at : at + len(piece)] = piece
    elif kind == "spot" and spots:
        offset, size = draw.choice(spots)
        data[offset : offset + size] = bytes(size) if draw.random() < 0.6 else draw.randbytes(size)
    elif kind == "delete":
        del data[at : at + length]
    else:
        for _ in range(draw.randrange(2, 20)):
            data[draw.randrange(len(data))] = draw.randrange(256)
    return bytes(data)


def pieces(path: Path) -> list[tuple[int, int]]:
    """Where the datasets of an HDF5 file lie in it."""
    found: list[tuple[int, int]] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.chunks is not None:
            found.extend((info.byte_offset, info.size) for info in _chunks(item))
        elif isinstance(item, h5py.Dataset) and item.id.get_offset() is not None:
            found.append((item.id.get_offset(), item.id.get_storage_size()))

    with h5py.File(path) as file:
        file.visititems(visit)
    return [(offset, size) for offset, size in found if size]


def _chunks(item: h5py.Dataset) -> Iterator[Any]:
    return map(item.id.get_chunk_info, range(item.id.get_num_chunks()))


# --- edits by HDF5 itself, all checksums right ---


def edit(path: Path, draw: random.Random, *, sign: bool) -> str:
    """Change the file by h5py and say how; with ``sign`` its digests are those of what it holds then."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        what = draw.choice((_edit_dataset, _edit_dataset, _edit_attribute, _move, _claim))
        done = what(file, names, draw)
    if sign:
        with suppress(Exception):  # of an edit that leaves nothing to sign
            sign_again(path)
    return done


def _edit_dataset(file: h5py.File, names: list[str], draw: random.Random) -> str:
    name = draw.choice(names)
    value = file[name][()]
    attributes = dict(file[name].attrs)
    kind, changed = _changed(np.asarray(value), draw)
    del file[name]
    if changed is not None:
        file.create_dataset(name, data=changed)
        file[name].attrs.update(attributes)
    return f"{name}: {kind}"


def _changed(value: np.ndarray, draw: random.Random) -> tuple[str, Any]:
    """Another value of the dataset, and what was done to it; None to delete it."""
    kind = draw.choice(("one", "all", "order", "rows", "type", "shape", "gone", "empty"))
    if kind == "one" and value.size:
        flat = value.copy().reshape(-1)
        at = draw.randrange(flat.size)
        flat[at] = _other(flat[at], draw)
        return kind, flat.reshape(value.shape)
    if kind == "all":
        return kind, np.full(value.shape, _other(value.dtype.type(0), draw) if value.dtype.kind != "S" else b"x")
    if kind == "order":
        return kind, value[::-1].copy()
    if kind == "rows":
        return kind, draw.choice((value[:-1], np.concatenate([value, value[:1]]), value[:1], value[1:]))
    if kind == "type":
        with suppress(ValueError, TypeError):
            return kind, value.astype(draw.choice(("f4", "f8", ">f8", "i1", "i4", "i8", "u8", "S3", "c16", "?")))
    if kind == "shape":
        return kind, draw.choice((value.reshape(-1), value.reshape(1, *value.shape), value.reshape(-1)[:1].reshape(())
                                  if value.size else value))  # fmt: skip
    if kind == "empty":
        return kind, value[:0]
    return kind, None


def _other(number: Any, draw: random.Random) -> Any:
    kind = np.asarray(number).dtype.kind
    if kind == "f":
        return draw.choice(
            (0.0, -1.0, 1.0, float(number) * (1 + 1e-15), np.nan, np.inf, 1e308, float(number) + 1, 1e-300)
        )
    if kind in "iu":
        return np.asarray(draw.choice((0, 1, 2, 5, 100, int(number) + 1, 255, 127))).astype(np.asarray(number).dtype)
    if kind == "S":
        return draw.choice((b"", b"x", b"\xff", b"ok", b"loss", b"rows:0", b"\x1b[2J"))
    return number


def _edit_attribute(file: h5py.File, names: list[str], draw: random.Random) -> str:
    owner = file if draw.random() < 0.9 else file[draw.choice(names)]
    keys = list(owner.attrs)
    if not keys:
        return "nothing"
    key = draw.choice(keys)
    value = owner.attrs[key]
    text = value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value
    kind = draw.choice(("json", "json", "json", "text", "number", "gone", "bytes", "array"))
    if kind == "json" and isinstance(text, str) and text.startswith("{"):
        owner.attrs[key] = json.dumps(tweaked(json.loads(text), draw))
    elif kind == "text":
        other = owner.attrs[draw.choice(keys)]
        owner.attrs[key] = draw.choice((*TEXTS, other))
    elif kind == "number":
        owner.attrs[key] = draw.choice((0, 1, 2, 3, 4, -1, 0.5, np.nan, 2**40))
    elif kind == "bytes":
        owner.attrs[key] = np.bytes_(draw.randbytes(draw.randrange(1, 20)).replace(b"\0", b"1"))
    elif kind == "array":
        owner.attrs[key] = np.arange(3)
    else:
        del owner.attrs[key]
    return f"@{key}: {kind}"


def tweaked(value: Any, draw: random.Random) -> Any:
    """JSON with one value anywhere in it another, or gone."""
    if isinstance(value, dict) and value and draw.random() < 0.9:
        key = draw.choice(sorted(value))
        if draw.random() < 0.2:
            return {other: value[other] for other in value if other != key}
        return {**value, key: tweaked(value[key], draw)}
    if isinstance(value, list) and value and draw.random() < 0.6:
        at = draw.randrange(len(value))
        return [*value[:at], tweaked(value[at], draw), *value[at + 1 :]]
    if isinstance(value, float) and draw.random() < 0.4:
        return value * 1.5 + 0.1
    return draw.choice(ODD)


def _move(file: h5py.File, names: list[str], draw: random.Random) -> str:
    """The dataset is elsewhere: behind a link, in another file, or under another's name."""
    name, other = draw.choice(names), draw.choice(names)
    kind = draw.choice(("soft", "external", "pipe", "storage", "virtual", "hard", "group", "swap"))
    shape, dtype = file[name].shape, file[name].dtype
    if kind == "swap" and name != other:
        file.move(name, "moved")
        file.move(other, name)
        file.move("moved", other)
        return f"{name}: swapped with {other}"
    kept = file[other]
    del file[name]
    if kind == "soft":
        file[name] = h5py.SoftLink(f"/{other}")
    elif kind == "external":
        file[name] = h5py.ExternalLink("other.h5", f"/{other}")
    elif kind == "pipe":
        file[name] = h5py.ExternalLink("pipe", f"/{other}")
    elif kind == "hard" and name != other:
        file[name] = kept
    elif kind == "storage" and dtype.kind in "fiu" and shape:
        file.create_dataset(name, shape, dtype, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])
    elif kind == "virtual" and dtype.kind in "fiu" and shape:
        layout = h5py.VirtualLayout(shape, dtype)
        layout[...] = h5py.VirtualSource("gone.h5", "x", shape)
        file.create_virtual_dataset(name, layout)
    else:
        file.create_group(name)
    return f"{name}: {kind}"


def _claim(file: h5py.File, names: list[str], draw: random.Random) -> str:
    """The dataset claims to be far larger than the file."""
    name = draw.choice(names)
    shape, dtype = file[name].shape, file[name].dtype
    del file[name]
    wide = tuple(draw.choice((10**3, 10**6, 10**9)) for _ in shape) or (10**9,)
    options: dict[str, Any] = draw.choice(({}, {"compression": "gzip"}))
    with suppress(ValueError):
        made = file.create_dataset(name, wide, dtype, chunks=tuple(min(one, 1000) for one in wide), **options)
        if draw.random() < 0.5:
            made[tuple(slice(0, 1) for _ in wide)] = np.zeros((1,) * len(wide), dtype)
    return f"{name}: claims {wide}"


# --- text ---

CELLS = (
    *(
        "",
        " ",
        "NA",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e-400",
        "0x10",
        "1,5",
        "1.5.2",
        "--1",
        '"',
        '""',
        "'",
        "\\",
        "\t",
    ),
    *(
        "2024-01-01",
        "01/02/24",
        "true",
        "#",
        "\x00",
        "\x1b[31m",
        "\ufeff",
        "é",
        "𝔘",
        "a" * 5000,
        "9" * 400,
        "=1+1",
        "\r",
    ),
    *("1_000", "1 000", "5%", "$3", "NULL", "None", "-0", "+1", ".5", "5.", "1e5", "１"),
)


def damaged_text(content: bytes, draw: random.Random, separator: bytes = b",") -> bytes:
    """A table or list with cells, lines or its encoding changed."""
    lines = content.split(b"\n")
    kind = draw.choice(("cell", "cells", "line", "drop", "twice", "header", "join", "encode", "end", "many", "bytes"))
    at = draw.randrange(len(lines))
    if kind in ("cell", "cells", "header"):
        for row in [0] if kind == "header" else [at] if kind == "cell" else range(1, len(lines)):
            cells = lines[row].split(separator)
            cells[draw.randrange(len(cells))] = draw.choice(CELLS).encode("utf-8", "surrogatepass")
            lines[row] = separator.join(cells)
    elif kind == "line":
        lines[at] = draw.choice((b"", b",,,", b'"', lines[at] + separator + b"1", lines[at][: len(lines[at]) // 2]))
    elif kind == "drop":
        del lines[at : at + draw.choice((1, 10, 1000))]
    elif kind == "twice":
        lines[at:at] = lines[at : at + draw.choice((1, 10))]
    elif kind == "join":
        return content.replace(separator, draw.choice((b";", b"\t", b" ", b"|", b",,")))
    elif kind == "encode":
        text = content.decode("utf-8", "replace")
        return text.encode(draw.choice(("utf-16", "utf-32", "utf-8-sig", "latin-1")), "replace")
    elif kind == "end":
        return content.replace(b"\n", draw.choice((b"\r", b"\r\n", b"\n\n", b"\x0b", b"\xe2\x80\xa8", b"")))
    elif kind == "many":
        return b"\n".join(line + separator * draw.choice((1, 50)) for line in lines)
    else:
        return damaged_bytes(content, draw)
    return b"\n".join(lines)


Mutator = Callable[[bytes, random.Random], bytes]
