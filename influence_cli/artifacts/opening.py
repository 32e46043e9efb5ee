"""Opening of arbitrary files: checks made before HDF5 is called, and by HDF5 before anything is allocated."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from influence_cli import __version__
from influence_cli.artifacts.entries import FORMAT, FORMAT_VERSION, OLDEST_VERSION, Found, Kind
from influence_cli.data.readers.hdf5 import link_problem, storage_problem
from influence_cli.errors import FileError, check_regular

# h5py raises each of these for a damaged file, depending on where the damage is.
DAMAGE = (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError)
ATTRIBUTE_BYTES = 256 * 1024 * 1024
"""Largest size of an attribute in bytes: a million groups of a hundred characters take less."""
UNPACKED_BYTES = 256 * 1024 * 1024
UNPACKED_TIMES = 20
"""Unpacked text may take this many times the file's length, or UNPACKED_BYTES if that is more: text of very unequal
lengths is mostly padding, but a file of 2 KB must not claim the memory of the machine."""


@dataclass(frozen=True)
class Attribute:
    """The value of an attribute, in contrast to a dataset that has not been read."""

    value: Any


def check_readable(path: Path, spec: Kind) -> None:
    """Make the checks that need no HDF5, whose own messages name neither the file nor the cause.  Raises FileError."""
    named = f"{'an' if spec.name[0] in 'aeiou' else 'a'} {spec.name} file"
    try:
        check_regular(path, named)
        with path.open("rb") as file:
            empty = not file.read(1)
    except FileNotFoundError as error:
        raise FileError(f"there is no file {path}", hint=make(spec)) from error
    except FileError as error:
        raise FileError(error.message, hint=make(spec)) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"cannot read {path}: {reason.lower()}", hint=make(spec)) from error
    if empty:
        raise FileError(f"{path} is empty, expected {named}", hint=make(spec))
    if not h5py.is_hdf5(path):
        raise FileError(f"{path} is not an HDF5 file, expected {named}", hint=make(spec))


def generated_by(path: str | os.PathLike[str]) -> str:
    """The program and version that wrote a file that has already been read."""
    with h5py.File(path, "r", locking=False) as file:
        return str(attribute(file, "generated_by"))


def check_header(file: h5py.File, path: Path, spec: Kind) -> int:
    """The version of the file.  Raises FileError unless it is a ginf file of that kind and of a known version."""
    name = attribute(file, "format")
    if not isinstance(name, str) or name != FORMAT:
        inside = ", ".join(list(file)[:5]) or "nothing"
        raise FileError(f"{path} is an HDF5 file but not one of ginf's (it holds {inside})", hint=make(spec))
    kind, version = attribute(file, "kind"), attribute(file, "format_version")
    if not isinstance(kind, str) or kind != spec.name:
        raise FileError(f"{path} is of kind {kind!r}, expected {spec.name!r} ({spec.purpose})", hint=make(spec))
    if not isinstance(version, int | np.integer):
        raise FileError(f"{path}: format_version is {version!r}, expected an integer", hint=make(spec))
    made_by = attribute(file, "generated_by") or "an unnamed program"
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
            hint=make(spec),
        )
    return int(version)


@contextmanager
def damage_named(path: Path, spec: Kind) -> Iterator[None]:
    """Convert whatever HDF5 raises to a FileError that names the file."""
    try:
        yield
    except DAMAGE as error:
        raise FileError(f"{path} is damaged or cut short: {error}", hint=make(spec)) from error


def root_attributes(file: h5py.File) -> dict[str, Any]:
    """Every attribute of the root as plain text and numbers, by its name with an @."""
    return {f"@{name}": plain(attribute(file, name)) for name in file.attrs}


def survey(file: h5py.File, spec: Kind, length: int) -> tuple[dict[str, Any], dict[str, str]]:
    """Everything in the file that the schema knows, by path, unread (attributes as ``Attribute``), and what is wrong.

    ``length`` is that of the file, in bytes.  No link is followed out of the file, and nothing is allocated.
    """
    stored: dict[str, Any] = {name: Attribute(value) for name, value in root_attributes(file).items()}
    problems: dict[str, str] = {}
    most = max(UNPACKED_BYTES, UNPACKED_TIMES * length)
    for entry in spec.entries:
        if entry.is_attribute:
            value = attribute(stored[entry.owner], entry.path.partition("@")[2]) if entry.owner in stored else None
            if value is not None:
                stored[entry.path] = Attribute(plain(value))
            continue
        folder, _, last = entry.path.rpartition("/")
        group, problem = _walk(file, folder)
        if problem is not None:
            problems[folder] = problem
        if group is None:
            continue
        for name in _names(group, last):
            path, problem = f"{folder}/{name}", link_problem(group, name)
            if problem is None:
                stored[path] = group[name]
                problem = storage_problem(group[name], most) if isinstance(group[name], h5py.Dataset) else None
            if problem is not None:
                problems[path] = problem
    return stored, problems


def _walk(file: h5py.File, folder: str) -> tuple[h5py.Group | None, str | None]:
    """The group at a path of the file, or why it is not usable; None twice if there is nothing."""
    group = file
    for name in filter(None, folder.split("/")):
        if (problem := link_problem(group, name)) is not None:
            return None, problem
        group = group[name] if group.id.links.exists(name.encode("utf-8", "surrogateescape")) else None
        if not isinstance(group, h5py.Group):
            return None, None
    return group, None


def _names(group: h5py.Group, last: str) -> list[str]:
    """The members to which the last part of a path refers."""
    if last == "*":
        return list(group)
    return [last] if group.id.links.exists(last.encode("utf-8", "surrogateescape")) else []


def attribute(owner: Any, name: str) -> Any:
    """An attribute's value, with text decoded; None if there is none.  Raises ValueError if it is too large."""
    if name not in owner.attrs:
        return None
    handle = owner.attrs.get_id(name)
    if handle.get_storage_size() > ATTRIBUTE_BYTES:
        raise ValueError(f"the attribute {name} claims {handle.get_storage_size():,} bytes")
    value = owner.attrs[name]
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else value


def plain(value: Any) -> Any:
    """NumPy scalars as Python scalars."""
    return value.item() if isinstance(value, np.generic) else value


def describe_stored(item: Any) -> Found:
    """dtype and shape of an item of ``survey``, as the schema names them."""
    if isinstance(item, Attribute):
        return describe(item.value)
    if not isinstance(item, h5py.Dataset):
        return Found("a group" if isinstance(item, h5py.Group) else type(item).__name__, ())
    if item.shape is None:
        return Found("nothing", ())
    if h5py.check_string_dtype(item.dtype) is not None:
        return Found("str", item.shape)
    return Found(item.dtype.newbyteorder("=").name, item.shape)


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


def stored_array(item: h5py.Dataset) -> np.ndarray:
    """The whole dataset in native byte order; text as the bytes that the file contains."""
    if h5py.check_string_dtype(item.dtype) is not None:
        return np.asarray(item[()])
    array = np.empty(item.shape, dtype=item.dtype.newbyteorder("="))
    if array.size:
        item.read_direct(array)
    return array


def texts(array: np.ndarray) -> list[str]:
    """The texts of a dataset as returned by ``stored_array``."""
    return [one.decode("utf-8", "surrogateescape") if isinstance(one, bytes) else one for one in array.tolist()]


def make(spec: Kind) -> str:
    """The hint that names the command which creates such a file."""
    return f"make one: {spec.command}"


def made_by(path: str) -> str:
    """The program and version that wrote a ginf file, as ``ginf 0.2.0``."""
    with h5py.File(path, "r", locking=False) as file:
        return str(attribute(file, "generated_by") or "an unnamed program")
