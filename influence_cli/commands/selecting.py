"""From the options of ``ginf select`` to a result: what can be refused at once, then the search that was asked for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from influence_cli.analysis.question import TestRows, ask
from influence_cli.analysis.searches import (
    ALL,
    FlipSearch,
    RowSearch,
    UnionSearch,
    ask_flip,
    check_strategies,
    drop_impossible,
)
from influence_cli.analysis.select import Choice, Search, Watch, row_influences, select
from influence_cli.commands import session
from influence_cli.commands.options import note
from influence_cli.core.selection.evaluate import MERITS
from influence_cli.core.selection.pgd import CONSTRAINTS
from influence_cli.core.selection.problem import DIRECTIONS
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.errors import UsageError
from influence_cli.models.trained import TrainedModel
from influence_cli.present.plots import check_plot
from influence_cli.present.tables import FORMATS, progress
from influence_cli.results import SelectionResult
from influence_cli.specs.groups import GroupSpec, Size, parse_group, parse_size
from influence_cli.specs.tests import TestRowSpec, parse_tests

ROWS = "rows"
FIGURES = ("auto", "sizes", "rows")
LARGEST_SHARE = 0.5
"""Share of the training rows that --flip looks through without --size."""


@dataclass(frozen=True)
class Asked:
    """The options, as they were given."""

    model: str | None
    test: str | None
    size: str | None
    strategy: str | None
    direction: str
    quantity: str
    verify: bool
    flip: bool
    within: tuple[str, ...]
    candidates: tuple[str, ...]
    draws: int
    constraint: str
    merit: str
    rounds: int
    curvature: str | None
    damping: float | None
    solver: str
    format: str
    output: str | None
    plot: str | None
    figure: str
    seed: int
    quiet: bool

    @cached_property
    def sizes(self) -> tuple[Size, ...]:
        return tuple(_size(text) for text in self.size.split(",")) if self.size is not None else ()

    @cached_property
    def strategies(self) -> tuple[str, ...]:
        default = "greedy,swap" if self.candidates else "relinearize"
        names = [name.strip() for name in (self.strategy or default).split(",")]
        return check_strategies(names, of_groups=bool(self.candidates))

    @cached_property
    def tests(self) -> TestRowSpec | None:
        return None if self.test is None else parse_tests(self.test)

    @cached_property
    def within_specs(self) -> list[GroupSpec]:
        return [parse_group(text) for text in self.within]

    @cached_property
    def candidate_specs(self) -> list[GroupSpec]:
        return [parse_group(text) for text in self.candidates]


@dataclass(frozen=True)
class Done:
    """The result with what a picture of it needs."""

    model: TrainedModel
    solver: HessianSolver
    tests: TestRows | None
    quantity: str
    result: SelectionResult

    def influences(self) -> np.ndarray:
        """First-order influence of every row by itself, (m, T)."""
        return row_influences(ask(self.model, self.tests, self.quantity), self.solver)


def check(asked: Asked) -> Asked:
    """Raises UsageError for whatever cannot be, before any work is done."""
    session.check_choice("--format", asked.format, (*FORMATS, ROWS))
    session.check_choice("--direction", asked.direction, DIRECTIONS)
    session.check_choice("--constraint", asked.constraint, CONSTRAINTS)
    session.check_choice("--merit", asked.merit, MERITS)
    session.check_choice("--figure", asked.figure, FIGURES)
    session.check_solver(asked.solver)
    _ = asked.strategies, asked.tests, asked.sizes, asked.within_specs, asked.candidate_specs
    if asked.flip:
        _check_flip(asked)
    elif not asked.sizes and not asked.candidates:
        raise UsageError("--size is needed: how many rows the group has", hint="for example --size 10% or --size 50")
    if asked.candidates:
        _check_candidates(asked)
    if asked.format == ROWS:
        _check_rows(asked)
    if asked.plot is not None:
        check_plot(asked.plot)
    elif asked.figure != "auto":
        raise UsageError(f"--figure {asked.figure} needs a file to draw into", hint="for example --plot selection.png")
    return asked


def run(asked: Asked) -> Done:
    """Open the model and search."""
    opened = session.open_model(
        asked.model, quiet=asked.quiet, curvature=asked.curvature, damping=asked.damping, output=asked.output
    )
    model = opened.model
    m = model.dataset.rows
    tests = session.pick_tests(model, asked.tests)
    one = tests is None or tests.mean or len(tests.rows) == 1
    if asked.format == ROWS and not one:
        raise UsageError(
            f"--format rows prints one group, and --test {asked.test} asks for {len(tests.rows)}"
            if tests is not None
            else "",
            hint="name one test row: --test 17",
        )
    question = (ask_flip if asked.flip else ask)(model, tests, asked.quantity)
    if asked.plot is not None and asked.figure == "rows" and model.dataset.image_shape is None:
        raise UsageError("--figure rows draws images, and these rows are none", hint="use --figure sizes")
    pool = np.arange(m)
    if asked.within_specs:
        plan = session.plan(model, asked.within_specs, asked.seed)
        pool = np.unique(np.concatenate([plan.rows(index) for index in range(len(plan))]))
    choice = Choice(
        asked.strategies,
        pool,
        direction=asked.direction,
        draws=asked.draws,
        constraint=asked.constraint,
        merit=asked.merit,
        rounds=asked.rounds,
        seed=asked.seed,
        verify=asked.verify,
    )
    groups = []
    if asked.candidates:
        offered = session.plan(model, asked.candidate_specs, asked.seed)
        groups = [offered.group(index) for index in range(len(offered))]
    sizes = [size.of(m) for size in asked.sizes]
    if not asked.flip and not asked.candidates:
        _check_sizes(asked, sizes, len(pool), m)
        if asked.strategy == ALL:
            kept, sentence = drop_impossible(choice, sizes)
            choice = replace(choice, strategies=kept)
            if sentence:
                note(sentence, quiet=asked.quiet)
    solver = session.open_solver(opened, asked.solver, quiet=asked.quiet)
    provenance = opened.provenance(_config(asked, choice, solver))
    search: Search
    if asked.flip:
        largest = sizes[0] if sizes else int(LARGEST_SHARE * m)
        largest = min(largest, len(pool), int(np.count_nonzero(model.objective.weights)) - 1)
        search = FlipSearch(choice, largest)
    elif groups:
        search = UnionSearch(choice, groups, sizes[0] if sizes else 1)
    else:
        search = RowSearch(choice, sizes)
    with progress("search", None, quiet=asked.quiet) as advance:
        watch = Watch(step=lambda label: advance(1), verified=advance)
        result = select(question, solver, search, provenance=provenance, watch=watch)
    return Done(model, solver, tests, asked.quantity, result)


def _config(asked: Asked, choice: Choice, solver: HessianSolver) -> dict:
    kept = ("test", "size", "direction", "quantity", "verify", "flip", "draws", "constraint", "merit", "rounds", "seed")
    config = {key: getattr(asked, key) for key in kept}
    config |= {"within": [spec.text for spec in asked.within_specs]}
    config |= {"candidates": [spec.text for spec in asked.candidate_specs]}
    return config | {
        "strategies": list(choice.strategies),
        "solver": "cg" if solver.factor is None else "cholesky",
    }


def _size(text: str) -> Size:
    try:
        size, times = parse_size(text.strip())
    except UsageError as error:
        raise UsageError(f"--size: {error.message}", hint="for example --size 10% or --size 10%,20%,30%") from None
    if times is not None:
        raise UsageError(f"--size {text.strip()}: nothing is drawn several times", hint="random groups: --draws")
    return size


def _check_sizes(asked: Asked, sizes: list[int], available: int, m: int) -> None:
    for size, count in zip(asked.sizes, sizes, strict=True):
        shown = f"--size {size.text}" + (f" ({count:,} rows)" if size.percent is not None else "")
        if count < 1:
            raise UsageError(f"{shown}: the group is empty; expected at least one row")
        if count >= m:
            raise UsageError(f"{shown} leaves none of the {m:,} training rows", hint=f"a group has 1 to {m - 1:,} rows")
        if count > available:
            raise UsageError(f"{shown}: only {available:,} rows may be removed (--within)", hint="lower --size")
    if len(set(sizes)) < len(sizes):
        raise UsageError(f"--size {asked.size}: the same number of rows is asked for twice")


def _check_flip(asked: Asked) -> None:
    for given, option in (
        (asked.strategy is not None, "--strategy"),
        (bool(asked.candidates), "--candidates"),
        (asked.direction != "increase", "--direction"),
    ):
        if given:
            raise UsageError(f"--flip and {option} exclude each other: --flip searches by itself, towards the flip")
    if len(asked.sizes) > 1:
        raise UsageError(f"--flip looks through all sizes up to one; --size {asked.size} gives {len(asked.sizes)}")
    if asked.tests is None and not asked.quantity.startswith("param:"):
        raise UsageError("--flip needs test rows", hint="for example --test 17 or --test misclassified:5")
    if asked.plot is not None and asked.figure == "sizes":
        raise UsageError("--flip finds one size: there is nothing to draw against sizes", hint="use --figure rows")


def _check_candidates(asked: Asked) -> None:
    if len(asked.sizes) > 1 or any(size.percent is not None for size in asked.sizes):
        raise UsageError(
            f"--size {asked.size}: with --candidates it is the most groups in a union, one whole number",
            hint="for example --size 2",
        )
    if asked.within:
        raise UsageError("--within limits rows, and --candidates gives whole groups: use one of them")
    if asked.plot is not None:
        raise UsageError("--plot draws rows and sizes, and --candidates has groups", hint="leave --plot out")


def _check_rows(asked: Asked) -> None:
    if len(asked.sizes) > 1:
        raise UsageError(f"--format rows prints one group, and --size {asked.size} asks for {len(asked.sizes)}")
    named = [] if asked.flip else [name for name in asked.strategies if name != "random"]
    if not asked.flip and not named:
        raise UsageError("--format rows prints one group, and random has many", hint="use --strategy relinearize")
    if len(named) > 1 and not asked.verify:
        raise UsageError(
            f"--format rows prints one group, and there are {len(named)} strategies",
            hint="name one --strategy, or add --verify to get the best by retraining",
        )
