"""How a file's entries are described and checked: the mechanism behind the tables of ``schema``.

A path names a dataset (``/data/X_train``), an attribute of the root (``@quantity``) or of a dataset
(``/hessian/cholesky@damping``); ``*`` as the last part stands for any name.  A shape is written in symbols: a symbol
means the same number throughout a file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

FORMAT = "ginf"
FORMAT_VERSION = 4
OLDEST_VERSION = 1
"""Versions from OLDEST_VERSION to FORMAT_VERSION are read; adding an optional entry does not raise the version.

2: features may be compressed rows or lie behind a link, so that /data/X_train and /data/X_test may be missing.
3: every file has @digests and @content_digest, which cover all that is in it.
4: many short columns of numbers lie in one array; a file without such an entry is still one of version 3.
"""
DIGESTED_FROM = 3
"""The first version whose files carry digests of their content."""
DIGESTS, CONTENT_DIGEST = "@digests", "@content_digest"


@dataclass(frozen=True)
class Entry:
    """One dataset or attribute.

    ``dtype`` lists what is allowed, separated by ``|``; ``str`` is UTF-8, ``json`` is text that is JSON.  ``large``
    datasets are contiguous and uncompressed, so that they are read without a copy and can be memory-mapped; the others
    are chunked by rows with a checksum per chunk.  ``unless`` names entries that replace this one and never occur with
    it; ``beside`` names an entry that this one accompanies: required with it, unwanted without it.  ``since`` is the
    version of files with this entry, if a reader of earlier versions would misread them.
    """

    path: str
    dtype: str
    shape: tuple[str | int, ...]
    meaning: str
    required: bool = True
    finite: bool = True
    large: bool = False
    unless: tuple[str, ...] = ()
    beside: str = ""
    since: int = DIGESTED_FROM

    @property
    def owner(self) -> str:
        """The dataset that an attribute belongs to; empty for the root and for datasets."""
        return self.path.partition("@")[0] if "@" in self.path else ""

    @property
    def is_attribute(self) -> bool:
        return "@" in self.path

    @property
    def dtypes(self) -> tuple[str, ...]:
        return tuple(self.dtype.split("|"))

    def matches(self, path: str) -> bool:
        if not self.path.endswith("/*"):
            return path == self.path
        folder, _, name = path.rpartition("/")
        return folder == self.path[:-2] and name not in ("", ".", "*") and "@" not in name

    def expected(self) -> str:
        """``float64 (m, d)``"""
        return f"{' or '.join(self.dtypes)} {_shape_text(self.shape)}".rstrip()


@dataclass(frozen=True)
class Kind:
    """One kind of file; ``command`` creates one."""

    name: str
    purpose: str
    command: str
    entries: tuple[Entry, ...]

    def entry(self, path: str) -> Entry | None:
        return next((entry for entry in (*HEADER, *self.entries) if entry.matches(path)), None)

    def version(self, paths: Iterable[str]) -> int:
        """The version of a file with entries at these paths."""
        here = set(paths)
        return max((entry.since for entry in self.entries if entry.path in here), default=DIGESTED_FROM)


class Found(NamedTuple):
    """The dtype and shape at a path of a file, or of a mapping that is about to be written."""

    dtype: str
    shape: tuple[int, ...]


HEADER = (
    Entry("@format", "str", (), 'always "ginf"'),
    Entry("@format_version", "int64", (), f"version of this layout, {DIGESTED_FROM} or {FORMAT_VERSION}"),
    Entry("@kind", "str", (), "which of the tables below applies"),
    Entry("@generated_by", "str", (), 'program and version, as "ginf 0.2.0"'),
    Entry("@config", "json", (), "every resolved option and seed; of a model, the settings that its digest covers"),
    Entry(
        DIGESTS,
        "json",
        (),
        "by path of every dataset: dtype, shape, attributes, rows of a span, and of each span the SHA-256 of its bytes",
        required=False,
    ),
    Entry(
        CONTENT_DIGEST,
        "str",
        (),
        "SHA-256 of the JSON of all other attributes of the root, @digests among them, sorted by name",
        required=False,
        beside=DIGESTS,
    ),
)
"""What every file contains; the last two from version 3 on."""


def check(kind: Kind, stored: Mapping[str, Found]) -> dict[str, str]:
    """The problem by path of each missing entry, wrong dtype, or shape that contradicts another."""
    problems: dict[str, str] = {}
    symbols: dict[str, tuple[int, str]] = {}
    for entry in (*HEADER, *kind.entries):
        paths = [path for path in stored if entry.matches(path)]
        instead = next((one for one in entry.unless if one in stored), None)
        if not paths and instead is None and _is_due(entry, stored):
            others = f" (or {' or '.join(entry.unless)})" if entry.unless else ""
            problems[entry.path] = f"missing, expected {entry.expected()}{others}"
        if paths and instead is not None:
            problems[entry.path] = f"found beside {instead}, expected one of the two"
        if paths and entry.beside and entry.beside not in stored:
            problems[entry.beside] = f"missing, expected beside {entry.path}"
        for path in paths:
            if problem := _check_one(entry, path, stored[path], symbols):
                problems[path] = problem
    return problems


def unknown(kind: Kind, paths: Mapping[str, object]) -> list[str]:
    """Paths that the kind does not have: a defect in a writer, ignored by a reader."""
    return [path for path in paths if kind.entry(path) is None]


def markdown(entries: tuple[Entry, ...]) -> str:
    """A table of the documentation."""
    return "\n".join(_markdown_lines(entries)) + "\n"


def _is_due(entry: Entry, stored: Mapping[str, Found]) -> bool:
    """Whether a file that lacks the entry, and what may replace it, is incomplete."""
    return entry.required and all(one in stored for one in (entry.owner, entry.beside) if one)


def _check_one(entry: Entry, path: str, stored: Found, symbols: dict[str, tuple[int, str]]) -> str | None:
    dtypes = ["str" if dtype == "json" else dtype for dtype in entry.dtypes]
    wrong = f"expected {entry.expected()}, found {stored.dtype} {_shape_text(stored.shape)}".rstrip()
    if stored.dtype not in dtypes or len(stored.shape) != len(entry.shape):
        return wrong
    for symbol, length in zip(entry.shape, stored.shape, strict=True):
        if isinstance(symbol, int):
            if length != symbol:
                return wrong
            continue
        known, source = symbols.setdefault(symbol, (length, path))
        if length != known:
            where = "" if source == path else f" (from {source})"
            return f"{wrong}, but {symbol} is {known}{where}"
    return None


def _shape_text(shape: tuple[str | int, ...]) -> str:
    if not shape:
        return ""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _markdown_lines(entries: tuple[Entry, ...]) -> Iterator[str]:
    yield "| path | dtype | shape | required | meaning |"
    yield "|---|---|---|---|---|"
    for entry in entries:
        required = "yes" if entry.required else "no"
        if entry.owner:
            required = f"with {entry.owner}"
        if entry.unless:
            required = f"{'unless' if entry.required else 'no; never with'} {' or '.join(entry.unless)}"
        if entry.beside:
            required = f"with {entry.beside}"
        shape = _shape_text(entry.shape) or "scalar"
        yield f"| `{entry.path}` | {' or '.join(entry.dtypes)} | {shape} | {required} | {entry.meaning} |"
