"""Conversion of any kind of artifact to HDF5 and back, by its schema."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from influence_cli import __version__
from influence_cli.artifacts import digests, json_keys
from influence_cli.artifacts.atomic import Sink, replacing
from influence_cli.artifacts.entries import (
    CONTENT_DIGEST,
    DIGESTED_FROM,
    DIGESTS,
    FORMAT,
    Entry,
    Found,
    Kind,
    check,
    unknown,
)
from influence_cli.artifacts.opening import (
    UNPACKED_BYTES,
    UNPACKED_TIMES,
    Attribute,
    attribute,
    check_header,
    check_readable,
    damage_named,
    describe,
    describe_stored,
    make,
    root_attributes,
    stored_array,
    survey,
    texts,
)
from influence_cli.artifacts.schema import KINDS
from influence_cli.errors import FileError

PathLike = str | os.PathLike[str]

# The format of HDF5 1.10 has checksums for all metadata; the older one's index of chunks has none.  A process killed
# while it writes leaves its file marked as open, which is harmless here: only temporary files are written to.
_LIBVER = ("v110", "v110")
_CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True, eq=False)
class Opened:
    """The checked contents of a file: datasets and attributes by path, as in the schema."""

    path: Path
    kind: str
    config: dict[str, Any]
    arrays: dict[str, Any]


def write(path: PathLike, kind: str, arrays: Mapping[str, Any], config: Mapping[str, Any], *, force: bool) -> None:
    """Write a new file atomically; ``arrays`` has arrays, lists of strings, scalars and (JSON) dictionaries by path.

    Raises ValueError for what contradicts the schema (a defect of the caller), UsageError if the file exists and
    ``force`` is not set, and FileError if it cannot be written.
    """
    spec = KINDS[kind]
    header = {
        "@format": FORMAT,
        "@format_version": spec.version(arrays),
        "@kind": kind,
        "@generated_by": f"ginf {__version__}",
        "@config": dict(config),
    }
    values = {**header, **arrays}
    _check_values(spec, values, {name: describe(value) for name, value in values.items()})
    packed = _packed(values)
    packed[DIGESTS] = to_json(_records(packed))
    packed[CONTENT_DIGEST] = _content_digest(packed)
    with replacing(path, force=force) as sink, h5py.File(sink, "w", libver=_LIBVER) as file:
        _put_all(file, spec, packed, sink)


def extend(path: PathLike, kind: str, arrays: Mapping[str, Any], *, expect: Mapping[str, str] | None = None) -> None:
    """Add or replace entries of an existing file atomically, through a copy; ``arrays`` has datasets and their
    attributes.

    ``expect`` gives values that root attributes must have, so that nothing is added to a file that another process has
    replaced since it was read.  A file of an older version keeps its version.
    """
    target, spec = Path(path), KINDS[kind]
    check_readable(target, spec)
    with replacing(path, force=True, extend=True) as sink:
        with damage_named(target, spec), h5py.File(sink, "r") as file:
            version = check_header(file, target, spec)
            for name, value in (expect or {}).items():
                if attribute(file, name.removeprefix("@")) != value:
                    raise FileError(f"{path} was replaced meanwhile: its {name[1:]} is another", hint="run it again")
            root = root_attributes(file)
            kept, unsigned = _kept_digests(root, version)
            stored, problems = survey(file, spec, target.stat().st_size)
            if problems or unsigned:
                raise invalid(path, kind, problems | unsigned)
            described = {name: describe_stored(item) for name, item in stored.items()}
        _check_values(spec, arrays, {**described, **{name: describe(value) for name, value in arrays.items()}})
        packed = _packed(arrays)
        replaced: dict[str, Any] = {}
        if kept is not None:
            replaced[DIGESTS] = to_json({**kept, **_records(packed)})
            replaced[CONTENT_DIGEST] = digests.content({**root, **replaced})
        with damage_named(target, spec), h5py.File(sink, "r+", libver=_LIBVER) as file:
            for name in arrays:
                if "@" not in name and name in file:
                    del file[name]
            _put_all(file, spec, {**packed, **replaced}, sink)


def read(path: PathLike, kind: str, keys: Collection[str] | None = None) -> Opened:
    """Open and check a file; ``keys`` limits which datasets are read (attributes always are).

    FileError names every problem of the file at once, and the command that creates a correct one.
    """
    path, spec = Path(path), KINDS[kind]
    check_readable(path, spec)
    values: dict[str, Any] = {}
    with damage_named(path, spec), h5py.File(path, "r", locking=False) as file:  # never changed in place: no lock
        version = check_header(file, path, spec)
        stored, problems = survey(file, spec, path.stat().st_size)
        kept, unsigned = _kept_digests(root_attributes(file), version)
        described = {name: describe_stored(item) for name, item in stored.items()}
        problems = {**_listed(spec, kept, stored), **check(spec, described), **problems}
        for name, item in stored.items():
            entry = spec.entry(name)
            wanted = "@" in name or keys is None or name in keys or (entry is not None and entry.path in keys)
            if name in problems or not wanted:
                continue
            values[name], problem = _value(spec, name, item, kept)
            if problem is not None:
                problems[name] = problem
    if problems or unsigned:
        raise invalid(path, kind, problems | unsigned)
    return Opened(path, kind, values.pop("@config"), values)


def kind_of(path: PathLike, expected: Kind) -> str:
    """The kind that a file claims to be; FileError, which says what was expected, if it is not a ginf file."""
    path = Path(path)
    check_readable(path, expected)
    with damage_named(path, expected), h5py.File(path, "r", locking=False) as file:
        if attribute(file, "format") != FORMAT:
            check_header(file, path, expected)
        kind = attribute(file, "kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise FileError(f"{path} is of kind {kind!r}, expected one of {', '.join(KINDS)}", hint=make(expected))
    return kind


def invalid(path: PathLike, kind: str, problems: Mapping[str, str]) -> FileError:
    """The error for a file that is HDF5 and ginf's but lacks what its kind requires."""
    lines = [f"{name}: {problem}" for name, problem in problems.items()]
    text = lines[0] if len(lines) == 1 else "\n".join(["", *(f"  {line}" for line in lines)])
    return FileError(f"{path} is not a valid {kind} file: {text}", hint=make(KINDS[kind]))


def to_json(value: Any) -> str:
    """JSON of one form only, so that equal settings have equal digests; ASCII, so that any HDF5 tool can show it."""
    return json.dumps(value, sort_keys=True, allow_nan=False, default=_plain)


# --- writing ---


def _check_values(spec: Kind, values: Mapping[str, Any], described: Mapping[str, Found]) -> None:
    problems = dict.fromkeys(unknown(spec, values), "not in the schema")
    problems.update(check(spec, described))
    for name, value in values.items():
        entry = spec.entry(name)
        if name not in problems and entry and (problem := _value_problem(entry, value)):
            problems[name] = problem
    if problems:
        raise ValueError(f"not a {spec.name}: " + "; ".join(f"{name}: {text}" for name, text in problems.items()))


def _packed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as they are passed to HDF5: text and JSON encoded, numbers as they are."""
    return {name: _encoded(name, value) for name, value in values.items()}


def _encoded(name: str, value: Any) -> Any:
    if "@" in name:
        return to_json(value) if isinstance(value, dict) else value
    return value if isinstance(value, np.ndarray) else _text(value)


def _records(packed: Mapping[str, Any]) -> dict[str, Any]:
    """The entry of @digests for each dataset."""
    attributes: dict[str, dict[str, Any]] = {}
    for path, value in packed.items():
        attributes.setdefault(_owner(path), {})[path.partition("@")[2]] = value
    return {name: digests.record(value, attributes.get(name, {})) for name, value in packed.items() if "@" not in name}


def _content_digest(packed: Mapping[str, Any]) -> str:
    return digests.content({name: value for name, value in packed.items() if name.startswith("@")})


def _owner(path: str) -> str:
    return path.partition("@")[0] if "@" in path else ""


def _put_all(file: h5py.File, spec: Kind, packed: Mapping[str, Any], sink: Sink) -> None:
    for name in sorted(packed, key=lambda name: "@" in name):  # attributes after their owners
        if sink.failure is None:  # after a failure HDF5 only has to close its file
            _put(file, name, spec.entry(name), packed[name])


def _put(file: h5py.File, name: str, entry: Entry | None, value: Any) -> None:
    owner, _, attribute_name = name.partition("@")
    if attribute_name:
        target = file[owner or "/"]
        target.attrs.create(attribute_name, _text([value])[0] if isinstance(value, str) else value)
    elif value.size == 0 or (entry is not None and entry.large):
        file.create_dataset(name, data=value, dtype=value.dtype)
    elif value.dtype.kind == "S":
        packing = {"compression": "gzip", "compression_opts": 1, "fletcher32": True}
        made = file.create_dataset(name, data=value, dtype=value.dtype, chunks=_chunks(value), **packing)
        if value.nbytes > max(UNPACKED_BYTES, UNPACKED_TIMES * made.id.get_storage_size()):
            raise FileError(
                f"the texts of {name} differ too much in length to be stored: the longest has {value.itemsize:,} bytes"
            )
    else:
        # not compressed: the last bits of an estimate are noise, and gzip takes ten times as long to save 4 to 10%
        file.create_dataset(name, data=value, chunks=_chunks(value), fletcher32=True)


def _chunks(array: np.ndarray) -> tuple[int, ...]:
    """Blocks of whole rows of about 256 KiB, or parts of a row that is longer."""
    length = _CHUNK_BYTES // array.itemsize
    chunks = []
    for size in reversed(array.shape):
        chunks.append(max(1, min(size, length)))
        length //= chunks[-1]
    return tuple(reversed(chunks))


def _text(items: Sequence[str]) -> np.ndarray:
    """UTF-8 of one length, padded with zeros, which compression removes.

    HDF5 stores strings of variable length in a heap without checksums, where one wrong bit made the library loop for
    ever.  In this form text is checked like everything else, and an attribute is not limited to 64 KiB either.
    """
    whole = "\0".join(items)
    if whole.isascii() and whole.count("\0") == len(items) - 1:  # as fast as a loop over the names
        length = max([1, *map(len, items)])
        return np.array(items, dtype=f"S{length}").astype(h5py.string_dtype("utf-8", length))
    # a file name that is not UTF-8 reaches a label or a config as surrogates, which must be restored on reading
    try:
        encoded = [item.encode("utf-8", "surrogateescape") for item in items]
    except UnicodeEncodeError as error:
        raise FileError(f"a name holds half a character, which no file can store: {error.object[:60]!a}") from error
    for item, original in zip(encoded, items, strict=True):
        if b"\0" in item:
            raise FileError(f"a name holds a zero byte, which HDF5 cannot store: {original[:60]!r}")
    length = max([1, *map(len, encoded)])
    return np.array(encoded, dtype=h5py.string_dtype("utf-8", length))


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"not representable as JSON: {value!r}")


# --- reading ---


def _kept_digests(root: Mapping[str, Any], version: int) -> tuple[dict[str, Any] | None, dict[str, str]]:
    """@digests of a file, and what is wrong unless @content_digest confirms it and the root's other attributes.

    The digests are None if the file's version has none.
    """
    expected, text = root.get(CONTENT_DIGEST), root.get(DIGESTS)
    if version < DIGESTED_FROM and expected is None and text is None:
        return None, {}
    try:
        kept = json_keys.parse(text) if isinstance(text, str) else None
        digests_kept = digests.content(root)
    except ValueError as error:
        return {}, {CONTENT_DIGEST: f"damaged: {error}"}
    if not isinstance(kept, dict):
        return {}, {DIGESTS: f"expected an object with an entry for every dataset, found {json_keys.shown(kept)}"}
    if expected != digests_kept:
        problem = "expected the SHA-256 of the other attributes, found another: some are damaged, or were edited"
        return kept, {CONTENT_DIGEST: problem if expected is not None else "missing, expected the file's SHA-256"}
    return kept, {}


def _listed(spec: Kind, kept: Mapping[str, Any] | None, stored: Mapping[str, Any]) -> dict[str, str]:
    """Datasets that @digests names and the file lacks, and those that only the file has."""
    if kept is None:
        return {}
    here = {name for name in stored if "@" not in name}
    known = (name for name in kept if spec.entry(name) is not None)
    lost = {name: f"missing, expected because {DIGESTS} names it" for name in known if name not in here}
    return lost | dict.fromkeys(here - kept.keys(), f"damaged: expected an entry in {DIGESTS}, found none")


def _value(spec: Kind, name: str, item: Any, kept: Mapping[str, Any] | None) -> tuple[Any, str | None]:
    """The value at a path, as the program uses it, and what is wrong with it."""
    entry = spec.entry(name)
    if isinstance(item, Attribute):
        if entry is None or entry.dtype != "json":
            return item.value, None if entry is None else _value_problem(entry, item.value)
        try:
            value = json_keys.parse(item.value)
        except ValueError as error:
            return None, f"expected JSON, found {json_keys.shown(item.value)} ({error})"
        wrong = () if name == DIGESTS else json_keys.problems(spec.name, name, value)
        return value, "; ".join(wrong) or None
    array = stored_array(item)
    problem = None
    if kept is not None:
        attributes = {one.path.partition("@")[2] for one in spec.entries if one.owner == name}
        problem = digests.problem(
            kept[name], array, {key: attribute(item, key) for key in attributes if key in item.attrs}
        )
    value = texts(array) if array.dtype.kind in "SO" else array
    return value, (None if entry is None else _value_problem(entry, value)) or problem


def _value_problem(entry: Entry, value: Any) -> str | None:
    if not entry.finite or not isinstance(value, float | np.ndarray):
        return None
    array = np.asarray(value)
    if array.dtype.kind != "f":
        return None
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum()):  # five times faster than isfinite, and without an array of answers
            return None
    count = array.size - int(np.isfinite(array).sum())
    return f"expected finite numbers, found {count} NaN or infinite of {array.size}" if count else None
