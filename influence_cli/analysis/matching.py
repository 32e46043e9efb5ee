"""Matching of estimates and truth for the same groups and test rows, from any number of files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from influence_cli.analysis.several import separate
from influence_cli.errors import FileError, UsageError
from influence_cli.results import OK, REFINED, GroupTable, InfluenceResult, TruthResult
from influence_cli.specs.groups import cell_of_label

EXACT = " exact"
"""Suffix of a method's name where f was evaluated exactly, if other files hold the method evaluated linearly."""
SHOWN_REASONS = 3


@dataclass(frozen=True)
class Matched:
    """Estimates and truth of the same groups and test rows: ``truth`` and ``estimates[method]`` are (G, T).

    A missing figure is NaN; ``asked[method]`` (G, T) says where both files contain the pair.  ``notes`` are sentences
    about what was left out.
    """

    groups: GroupTable
    tests: np.ndarray
    quantity: str
    truth: np.ndarray
    estimates: dict[str, np.ndarray]
    asked: dict[str, np.ndarray]
    notes: tuple[str, ...]
    objective: str = ""
    """A note for a network whose estimates and truth are about different objectives, else empty."""
    repeats: np.ndarray | None = None
    """(R, G, T) where every file of the truth has R repeats, which determine the noise of the truth."""
    names: Mapping[int, tuple[int | None, Any]] = field(default_factory=dict)
    """Record and identifier of test rows, where a file has them."""
    in_words: str | None = None
    """The quantity in words, where it depends on the data and all files agree."""

    @property
    def methods(self) -> tuple[str, ...]:
        return tuple(self.estimates)

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        """The groups by kind and size: random, coherent, then the other kinds by name, with sizes ascending."""
        members: dict[tuple[str, str], list[int]] = {}
        for number in range(len(self.groups)):
            members.setdefault(_cell_key(self.groups, number), []).append(number)
        cells = [_cell(self.groups, kind, np.array(rows), shared) for (kind, shared), rows in members.items()]
        leading = ("random", "coherent")
        return tuple(sorted(cells, key=lambda cell: (*(cell.kind != kind for kind in leading), cell.kind, cell.size)))


@dataclass(frozen=True)
class Cell:
    """Groups of one kind and size: ``rows`` are their positions.

    Classes and clusters differ in size a little; such groups form one cell, with their median size and fraction.
    """

    kind: str
    rows: np.ndarray
    size: int
    fraction: float
    size_min: int
    size_max: int
    name: str = ""
    """What its groups have in common, if that is not their size."""


def match_each(files: Sequence[tuple[str, InfluenceResult | TruthResult]]) -> list[Matched]:
    """The files matched for each quantity separately."""
    if len({result.quantity for _, result in files}) != 1:
        return [match(files)]  # which reports it
    parts = [[(name, part) for part in separate(result)] for name, result in files]
    return [match(part) for part in zip(*parts, strict=True)]


def match(files: Sequence[tuple[str, InfluenceResult | TruthResult]]) -> Matched:
    """Match the files (name and contents, in any order) by the digest of a group's rows and the test row.

    Raises UsageError without estimates or without truth; FileError where quantities differ or nothing is in common.
    """
    influences = [(name, result) for name, result in files if isinstance(result, InfluenceResult)]
    truths = truths_of(files)
    for count, what, command in (
        (len(influences), "estimates", "ginf influence ... -o influence.h5"),
        (len(truths), "the truth", "ginf groundtruth ... -o truth.h5, or ginf influence --verify"),
    ):
        if not count:
            raise UsageError(f"none of the files holds {what}: {_names(files)}", hint=f"add one: {command}")
    _check_quantities(files)
    merge = _Merge([*(result for _, result in truths), *(result for _, result in influences)])
    truth, status_of_truth = merge.blank()
    estimates: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    repeated = 0
    for _, measured in truths:
        repeated += merge.put(truth, status_of_truth, measured, measured.actual)
    linear = {method for _, result in influences if result.evaluate == "linear" for method in result.values}
    linear.discard(REFINED)
    for _, result in influences:
        for method, values in result.values.items():
            name = method + EXACT if result.evaluate == "exact" and method in linear else method
            target, present = estimates.setdefault(name, merge.blank())
            repeated += merge.put(target, present, result, values)
    guessed = np.logical_or.reduce([present for _, present in estimates.values()])
    both = guessed & status_of_truth
    if not both.any():
        groups, tests = (int((guessed.any(axis) & status_of_truth.any(axis)).sum()) for axis in (1, 0))
        raise FileError(
            f"{_names(influences)} and {_names(truths)} have nothing in common: {groups} groups with the same rows and"
            f" {tests} test rows are in both",
            hint="give both commands the same --model, --group, --test and --seed",
        )
    keep, columns = np.flatnonzero(both.any(1)), np.flatnonzero(both.any(0))
    block = np.ix_(keep, columns)
    matched = Matched(
        merge.groups(keep),
        merge.tests[columns],
        files[0][1].quantity,
        truth[block],
        {name: values[block] for name, (values, _) in estimates.items()},
        {name: (present & status_of_truth)[block] for name, (_, present) in estimates.items()},
        (),
        _objectives(influences, truths),
        _repeats(merge, [result for _, result in truths], block),
        _called(result for _, result in files),
        _in_words(result for _, result in files),
    )
    notes = [
        *filter(None, [matched.objective]),
        *_notes_on_preprocessing(files),
        *_notes_on_matching(
            merge, int((guessed & ~status_of_truth).sum()), int((status_of_truth & ~guessed).sum()), repeated
        ),
        *_notes_on_values(matched, truths),
    ]
    return replace(matched, notes=tuple(notes))


def _in_words(results: Iterable[InfluenceResult | TruthResult]) -> str | None:
    wordings = {result.provenance.config.get("asked") for result in results}
    return wordings.pop() if len(wordings) == 1 else None


def _called(results: Iterable[InfluenceResult | TruthResult]) -> dict[int, tuple[int | None, Any]]:
    """Record and identifier of the test rows that the results name."""
    known: dict[int, tuple[int | None, Any]] = {}
    for result in results:
        if result.names is not None and len(result.names.record) == len(result.tests):
            known |= zip(result.tests.tolist(), zip(result.names.record, result.names.id, strict=True), strict=True)
    return known


def _check_quantities(files: Sequence[tuple[str, InfluenceResult | TruthResult]]) -> None:
    (first_name, first), *others = files
    for name, result in others:
        if result.quantity != first.quantity:
            raise FileError(
                f"{first_name} and {name} measure different quantities: {first.quantity} and {result.quantity}",
                hint="compute both with one --quantity",
            )


def _objectives(influences: Sequence[tuple[str, InfluenceResult]], truths: Sequence[tuple[str, TruthResult]]) -> str:
    """The note that estimates are about a network's proximal objective and the truth about another, else empty."""
    asked = [result.objective for _, result in influences if result.objective is not None]
    other = [name for name, result in truths if result.provenance.config.get("retrain") != asked[0]] if asked else []
    if not other:
        return ""
    return (
        f"refined is about the {asked[0]} objective, {', '.join(other)} about a new training: their difference is no"
        f" error of the estimate alone; ginf groundtruth --retrain {asked[0]} measures what refined estimates"
    )


def _notes_on_preprocessing(files: Sequence[tuple[str, InfluenceResult | TruthResult]]) -> list[str]:
    """The note that some files fitted the preprocessing again without the groups and others kept it."""
    refit = [one for one in files if one[1].provenance.config.get("preprocessing") == "refit"]
    frozen = [one for one in files if one not in refit]
    if not refit or not frozen:
        return []
    return [
        f"{_names(refit)} made the preprocessing again without each group, {_names(frozen)} kept it: the difference is"
        " among the errors"
    ]


def truths_of(files: Sequence[tuple[str, InfluenceResult | TruthResult]]) -> list[tuple[str, TruthResult]]:
    """The retrained changes: those of ``groundtruth`` files or, without any, those of ``influence --verify``."""
    truths = [(name, result) for name, result in files if isinstance(result, TruthResult)]
    estimates = [(name, result) for name, result in files if isinstance(result, InfluenceResult)]
    verified = [(name, result.truth) for name, result in estimates if result.truth is not None]
    return truths or verified


class _Merge:
    """Every group and test row of several results, each once; ``put`` copies results into arrays over them."""

    def __init__(self, results: Sequence[InfluenceResult | TruthResult]):
        self._described: dict[str, tuple[GroupTable, int]] = {}
        self.twice = 0
        """Groups that have the rows of another group of the same file."""
        for result in results:
            for number, digest in enumerate(result.groups.digest):
                self._described.setdefault(digest, (result.groups, number))
            self.twice = max(self.twice, len(result.groups) - len(set(result.groups.digest)))
        # In the order of the digests, so that the order of the files changes no resample.
        self._digests = sorted(self._described)
        self._place = {digest: place for place, digest in enumerate(self._digests)}
        self.tests = np.unique(np.concatenate([result.tests for result in results]))

    def blank(self) -> tuple[np.ndarray, np.ndarray]:
        shape = (len(self._digests), len(self.tests))
        return np.full(shape, np.nan), np.zeros(shape, dtype=bool)

    def put(
        self, target: np.ndarray, present: np.ndarray, result: InfluenceResult | TruthResult, values: np.ndarray
    ) -> int:
        """Copy values to where no earlier file has one, and return how many pairs were present already."""
        places, numbers = np.unique([self._place[digest] for digest in result.groups.digest], return_index=True)
        codes, columns = np.unique(result.tests, return_index=True)
        block = np.ix_(places, np.searchsorted(self.tests, codes))
        repeated = int(present[block].sum())
        target[block] = np.where(np.isfinite(target[block]), target[block], values[np.ix_(numbers, columns)])
        present[block] = True
        return repeated

    def groups(self, places: np.ndarray) -> GroupTable:
        described = [self._described[self._digests[place]] for place in places]
        return GroupTable(
            tuple(table.label[number] for table, number in described),
            tuple(table.kind[number] for table, number in described),
            np.array([table.size[number] for table, number in described], dtype=np.int64),
            np.array([table.fraction[number] for table, number in described]),
            tuple(self._digests[place] for place in places),
            tuple(table.cell[number] for table, number in described)
            if all(table.cell for table, _ in described)
            else (),
        )


def _repeats(merge: _Merge, truths: Sequence[TruthResult], block: tuple[np.ndarray, ...]) -> np.ndarray | None:
    """The repeats of the truth, (R, G, T) over the pairs of ``block``, if every file has equally many; else None."""
    known = [result.repeats for result in truths if result.repeats is not None]
    if len(known) < len(truths) or len({len(repeats) for repeats in known}) != 1:
        return None
    runs = []
    for number in range(len(known[0])):
        target, status_of_truth = merge.blank()
        for result, repeats in zip(truths, known, strict=True):
            merge.put(target, status_of_truth, result, repeats[number])
        runs.append(target[block])
    return np.stack(runs)


def _names(files: Sequence[tuple[str, Any]]) -> str:
    return ", ".join(dict.fromkeys(name for name, _ in files))


def _notes_on_matching(merge: _Merge, only_estimated: int, only_retrained: int, repeated: int) -> Iterator[str]:
    if only_estimated or only_retrained:
        sides = [(only_estimated, "have an estimate but no truth"), (only_retrained, "have a truth but no estimate")]
        left = " and ".join(f"{count:,} {what}" for count, what in sides if count)
        yield f"(group, test row) pairs left out: {left}"
    if repeated:
        yield f"{repeated:,} figures are in more than one file: the first file's are used"
    if merge.twice:
        yield f"{merge.twice:,} groups have the same rows as another one and count once"


def _notes_on_values(matched: Matched, truths: Sequence[tuple[str, TruthResult]]) -> Iterator[str]:
    unknown = np.logical_or.reduce(list(matched.asked.values())) & ~np.isfinite(matched.truth)
    if unknown.any():
        reasons: dict[str, str] = {}
        for _, result in truths:
            for digest, status in zip(result.groups.digest, result.status, strict=True):
                reasons.setdefault(digest, status if status != OK else "no finite value")
        counts = Counter(reasons[matched.groups.digest[number]] for number in np.flatnonzero(unknown.any(1)).tolist())
        shown = ", ".join(f"{reason} ({count:,})" for reason, count in counts.most_common(SHOWN_REASONS))
        more = ", ..." if len(counts) > SHOWN_REASONS else ""
        pairs = f"{int(unknown.sum()):,} pairs of {counts.total():,} groups"
        yield f"{pairs} have no true value and are left out: {shown}{more}"
    for method, values in matched.estimates.items():
        missing = int((matched.asked[method] & np.isfinite(matched.truth) & ~np.isfinite(values)).sum())
        if missing:
            yield f"{missing:,} pairs have no estimate by {method} and are left out"


def _cell_key(groups: GroupTable, number: int) -> tuple[str, str]:
    """The kind, and what the groups of one cell share: their size, or the spec if it gave groups of many sizes."""
    kind = groups.kind[number]
    if groups.cell:
        return kind, groups.cell[number]
    try:
        return kind, cell_of_label(groups.label[number], int(groups.size[number]))
    except UsageError:
        return kind, ""  # a name given by a Python user


def _cell(groups: GroupTable, kind: str, rows: np.ndarray, shared: str) -> Cell:
    sizes = groups.size[rows]
    median = float(np.median(groups.fraction[rows]))
    name = "" if shared.isdigit() else shared
    return Cell(kind, rows, round(float(np.median(sizes))), median, int(sizes.min()), int(sizes.max()), name)
