"""Any kind of artifact to HDF5 and back, by its schema."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from influence_cli import __version__
from influence_cli.artifacts.atomic import Sink, replacing
from influence_cli.artifacts.schema import (
    FORMAT,
    FORMAT_VERSION,
    KINDS,
    OLDEST_VERSION,
    Entry,
    Found,
    Kind,
    check,
    unknown,
)
from influence_cli.errors import FileError

PathLike = str | os.PathLike[str]

# Of HDF5 1.10, because all its metadata have checksums; the older format's index of chunks has none.  A process killed
# while it writes leaves its file marked as open, which does no harm here: only temporary files are ever written to.
_LIBVER = ("v110", "v110")
_CHUNK_BYTES = 256 * 1024
# h5py raises each of these for a damaged file, depending on where the damage is.
_DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError)


@dataclass(frozen=True, eq=False)
class Opened:
    """The checked contents of a file: datasets and attributes by path, as in the schema."""

    path: Path
    kind: str
    config: dict[str, Any]
    arrays: dict[str, Any]


def write(path: PathLike, kind: str, arrays: Mapping[str, Any], config: Mapping[str, Any], *, force: bool) -> None:
    """Write a new file atomically; ``arrays`` has arrays, lists of strings, scalars and (JSON) dictionaries by path.

    ValueError for what contradicts the schema (a defect of the caller); UsageError if the file exists and ``force``
    is not set; FileError if it cannot be written.
    """
    spec = KINDS[kind]
    header = {
        "@format": FORMAT,
        "@format_version": FORMAT_VERSION,
        "@kind": kind,
        "@generated_by": f"ginf {__version__}",
        "@config": dict(config),
    }
    values = {**header, **arrays}
    _check_values(spec, values, {name: describe(value) for name, value in values.items()})
    with replacing(path, force=force) as sink, h5py.File(sink, "w", libver=_LIBVER) as file:
        _put_all(file, spec, values, sink)


def extend(path: PathLike, kind: str, arrays: Mapping[str, Any], *, expect: Mapping[str, str] | None = None) -> None:
    """Add or replace entries of an existing file atomically, by way of a copy.

    ``expect`` gives values that root attributes must have, so that nothing is added to a file which another process
    has replaced since it was read.
    """
    spec = KINDS[kind]
    _check_readable(Path(path), spec)
    with replacing(path, force=True, extend=True) as sink:
        with _damage_named(Path(path), spec), h5py.File(sink, "r") as file:
            _check_header(file, Path(path), spec)
            for name, value in (expect or {}).items():
                if _attribute(file, name.removeprefix("@")) != value:
                    raise FileError(f"{path} was replaced meanwhile: its {name[1:]} is another", hint="run it again")
            found = {name: _describe_stored(item) for name, item in _survey(file, spec).items()}
        _check_values(spec, arrays, {**found, **{name: describe(value) for name, value in arrays.items()}})
        with _damage_named(Path(path), spec), h5py.File(sink, "r+", libver=_LIBVER) as file:
            for name in arrays:
                if "@" not in name and name in file:
                    del file[name]
            _put_all(file, spec, arrays, sink)


def read(path: PathLike, kind: str, keys: Collection[str] | None = None) -> Opened:
    """Open and check a file; ``keys`` limits which datasets are read (attributes always are).

    FileError names every problem of the file at once, and the command that makes a right one.
    """
    path, spec = Path(path), KINDS[kind]
    _check_readable(path, spec)
    values: dict[str, Any] = {}
    with _damage_named(path, spec), h5py.File(path, "r", locking=False) as file:  # never changed in place: no lock
        _check_header(file, path, spec)
        stored = _survey(file, spec)
        problems = check(spec, {name: _describe_stored(item) for name, item in stored.items()})
        for name, item in stored.items():
            entry = spec.entry(name)
            wanted = "@" in name or keys is None or name in keys or (entry is not None and entry.path in keys)
            if name in problems or not wanted:
                continue
            values[name] = _get(item)
            if entry is not None and (problem := _value_problem(entry, values[name])):
                problems[name] = problem
            elif entry is not None and entry.dtype == "json":
                try:
                    values[name] = json.loads(values[name])
                except ValueError as error:
                    problems[name] = f"expected JSON, found {str(values[name])[:40]!r} ({error})"
    if problems:
        raise invalid(path, kind, problems)
    return Opened(path, kind, values.pop("@config"), values)


def kind_of(path: PathLike, expected: Kind) -> str:
    """The kind that a file claims to be; FileError, speaking of what was expected, where it is no file of ginf's."""
    path = Path(path)
    _check_readable(path, expected)
    with _damage_named(path, expected), h5py.File(path, "r", locking=False) as file:
        if _attribute(file, "format") != FORMAT:
            _check_header(file, path, expected)
        return str(_attribute(file, "kind"))


def invalid(path: PathLike, kind: str, problems: Mapping[str, str]) -> FileError:
    """The error for a file that is HDF5 and ginf's but does not hold what its kind should."""
    lines = [f"{name}: {problem}" for name, problem in problems.items()]
    text = lines[0] if len(lines) == 1 else "\n".join(["", *(f"  {line}" for line in lines)])
    return FileError(f"{path} is not a valid {kind} file: {text}", hint=_make(KINDS[kind]))


def to_json(value: Any) -> str:
    """JSON of one form only, so that equal settings have equal digests; ASCII, so that any HDF5 tool can show it."""
    return json.dumps(value, sort_keys=True, allow_nan=False, default=_plain)


def describe(value: Any) -> Found:
    """dtype and shape of a value as the schema names them."""
    if isinstance(value, np.ndarray):
        return Found(value.dtype.name if value.dtype.isnative else value.dtype.str, value.shape)
    if isinstance(value, str | dict):
        return Found("str", ())
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return Found("str", (len(value),))
    if isinstance(value, int | float | np.generic) and not isinstance(value, bool):
        return Found(np.asarray(value).dtype.name, ())
    return Found(type(value).__name__, ())


# --- writing ---


def _check_values(spec: Kind, values: Mapping[str, Any], found: Mapping[str, Found]) -> None:
    problems = dict.fromkeys(unknown(spec, values), "not in the schema")
    problems.update(check(spec, found))
    for name, value in values.items():
        entry = spec.entry(name)
        if name not in problems and entry and (problem := _value_problem(entry, value)):
            problems[name] = problem
    if problems:
        raise ValueError(f"not a {spec.name}: " + "; ".join(f"{name}: {text}" for name, text in problems.items()))


def _put_all(file: h5py.File, spec: Kind, values: Mapping[str, Any], sink: Sink) -> None:
    for name in sorted(values, key=lambda name: "@" in name):  # attributes after what they hang on
        if sink.failure is None:  # else HDF5 has only to close its file
            _put(file, name, spec.entry(name), values[name])


def _put(file: h5py.File, name: str, entry: Entry | None, value: Any) -> None:
    owner, _, attribute = name.partition("@")
    if attribute:
        target = file[owner or "/"]
        value = to_json(value) if isinstance(value, dict) else value
        target.attrs.create(attribute, _text([value])[0] if isinstance(value, str) else value)
    elif not isinstance(value, np.ndarray):
        text = _text(value)
        packed = {"chunks": _chunks(text), "compression": "gzip", "compression_opts": 1, "fletcher32": True}
        file.create_dataset(name, data=text, dtype=text.dtype, **(packed if text.size else {}))
    elif value.size == 0 or (entry is not None and entry.large):
        file.create_dataset(name, data=value)
    else:
        # not compressed: the last bits of an estimate are noise, and gzip takes ten times as long to save 4 to 10%
        file.create_dataset(name, data=value, chunks=_chunks(value), fletcher32=True)


def _chunks(array: np.ndarray) -> tuple[int, ...]:
    """Blocks of whole rows of about 256 KiB; parts of a row where one is longer than that."""
    length = _CHUNK_BYTES // array.itemsize
    chunks = []
    for size in reversed(array.shape):
        chunks.append(max(1, min(size, length)))
        length //= chunks[-1]
    return tuple(reversed(chunks))


def _text(items: Sequence[str]) -> np.ndarray:
    """UTF-8 of one length, padded with zeros that compression removes.

    HDF5's strings of variable length lie in a heap without checksums, and one wrong bit there made the library loop
    for ever.  In this form text is checked like everything else, and 64 KiB are no limit for an attribute either.
    """
    # a file name that is not UTF-8 reaches a label or a config as surrogates; it shall come back as it was
    encoded = [item.encode("utf-8", "surrogateescape") for item in items]
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


def _check_readable(path: Path, spec: Kind) -> None:
    """What can be said without HDF5, whose own messages name neither the file nor the cause."""
    try:
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        raise FileError(f"there is no file {path}", hint=_make(spec)) from error
    except IsADirectoryError as error:
        raise FileError(f"{path} is a folder, expected a {spec.name} file", hint=_make(spec)) from error
    except OSError as error:
        raise FileError(f"cannot read {path}: {(error.strerror or str(error)).lower()}", hint=_make(spec)) from error
    if empty:
        raise FileError(f"{path} is empty, expected a {spec.name} file", hint=_make(spec))
    if not h5py.is_hdf5(path):
        raise FileError(f"{path} is not an HDF5 file, expected a {spec.name} file", hint=_make(spec))


def _check_header(file: h5py.File, path: Path, spec: Kind) -> None:
    found = _attribute(file, "format")
    if not isinstance(found, str) or found != FORMAT:
        inside = ", ".join(list(file)[:5]) or "nothing"
        raise FileError(f"{path} is an HDF5 file but not one of ginf's (it holds {inside})", hint=_make(spec))
    kind, version = _attribute(file, "kind"), _attribute(file, "format_version")
    if not isinstance(kind, str) or kind != spec.name:
        raise FileError(f"{path} is of kind {kind!r}, expected {spec.name!r} ({spec.purpose})", hint=_make(spec))
    if not isinstance(version, int | np.integer):
        raise FileError(f"{path}: format_version is {version!r}, expected an integer", hint=_make(spec))
    made_by = _attribute(file, "generated_by") or "an unnamed program"
    if version > FORMAT_VERSION:
        raise FileError(
            f"{path} has format version {version} (made by {made_by}); this ginf {__version__} reads up to"
            f" {FORMAT_VERSION}",
            hint="upgrade ginf: pip install --upgrade ginf",
        )
    if version < OLDEST_VERSION:
        raise FileError(
            f"{path} has format version {version} (made by {made_by}), older than {OLDEST_VERSION},"
            " the oldest that is still read",
            hint=_make(spec),
        )


@contextmanager
def _damage_named(path: Path, spec: Kind) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise FileError(f"{path} is damaged or cut short: {error}", hint=_make(spec)) from error


@dataclass(frozen=True)
class _Attribute:
    value: Any


def _survey(file: h5py.File, spec: Kind) -> dict[str, Any]:
    """Everything in the file that the schema knows, by path, unread."""
    stored: dict[str, Any] = {f"@{name}": _Attribute(_attribute(file, name)) for name in file.attrs}
    for entry in spec.entries:
        if entry.path.endswith("/*"):
            folder = file.get(entry.path[:-2])
            members = folder if isinstance(folder, h5py.Group) else ()
            stored.update({f"{entry.path[:-1]}{name}": folder[name] for name in members})
        elif not entry.is_attribute:
            if entry.path in file:
                stored[entry.path] = file[entry.path]
        elif entry.owner in stored:
            value = _attribute(stored[entry.owner], entry.path.partition("@")[2])
            if value is not None:
                stored[entry.path] = _Attribute(value)
    return stored


def _attribute(owner: Any, name: str) -> Any:
    return _decoded(owner.attrs.get(name))


def _decoded(value: Any) -> Any:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def _describe_stored(item: Any) -> Found:
    if isinstance(item, _Attribute):
        return describe(item.value)
    if not isinstance(item, h5py.Dataset):
        return Found("a group" if isinstance(item, h5py.Group) else type(item).__name__, ())
    if item.shape is None:
        return Found("nothing", ())
    if h5py.check_string_dtype(item.dtype) is not None:
        return Found("str", item.shape)
    return Found(item.dtype.newbyteorder("=").name, item.shape)


def _get(item: Any) -> Any:
    if isinstance(item, _Attribute):
        return item.value.item() if isinstance(item.value, np.generic) else item.value
    if h5py.check_string_dtype(item.dtype) is not None:
        return [_decoded(text) for text in item[()].tolist()]
    array = np.empty(item.shape, dtype=item.dtype.newbyteorder("="))
    if array.size:
        item.read_direct(array)
    return array


def _value_problem(entry: Entry, value: Any) -> str | None:
    if not entry.finite or not isinstance(value, float | np.ndarray):
        return None
    array = np.asarray(value)
    if array.dtype.kind != "f":
        return None
    with np.errstate(all="ignore"):
        if np.isfinite(array.sum()):  # five times quicker than isfinite, and no array of answers
            return None
    count = array.size - int(np.isfinite(array).sum())
    return f"expected finite numbers, found {count} NaN or infinite of {array.size}" if count else None


def _make(spec: Kind) -> str:
    return f"make one: {spec.command}"
