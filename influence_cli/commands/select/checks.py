"""The checks of the options of ``ginf select`` that precede any work."""

from __future__ import annotations

from influence_cli.commands.options import Written
from influence_cli.commands.select.options import FIGURES, ROWS, Drawn, Sought


def check(sought: Sought, drawn: Drawn, written: Written, solver: str, *, asks_for_rows: bool, quantity: str) -> None:
    """Raises UsageError for invalid options, before any work is done."""
    from influence_cli.analysis.flips import FLIPS
    from influence_cli.analysis.question import OF_MODEL
    from influence_cli.commands import output, session
    from influence_cli.core.selection.evaluate import MERITS
    from influence_cli.core.selection.pgd import CONSTRAINTS
    from influence_cli.core.selection.problem import DIRECTIONS
    from influence_cli.errors import UsageError
    from influence_cli.present.changes import SORTS
    from influence_cli.present.plots import check_plot
    from influence_cli.present.records import FORMATS

    for option, value, choices in (
        ("--format", written.format, (*FORMATS, ROWS)),
        ("--sort", written.sort, SORTS),
        ("--direction", sought.direction, DIRECTIONS),
        ("--constraint", sought.constraint, CONSTRAINTS),
        ("--merit", sought.merit, MERITS),
        ("--figure", drawn.figure, FIGURES),
    ):
        output.check_choice(option, value, choices)
    session.check_solver(solver)
    output.check_ending(written.output, records=written.format != ROWS)
    strategies, sizes = sought.strategies(), sought.sizes()
    sought.specs()
    _check_described(sought, drawn)
    if sought.flip_of is not None:
        output.check_choice("--flip-of", sought.flip_of, FLIPS)
        if not sought.flip:
            raise UsageError("--flip-of says what --flip is about", hint="add --flip")
    if sought.share is not None and not (sought.verify or sought.flip):
        raise UsageError("--certify proves what retraining found", hint="add --verify")
    if sought.flip:
        _check_flip(sought, drawn, needs_tests=not asks_for_rows and not quantity.startswith(OF_MODEL))
    elif sought.describe is None and not sizes and not sought.candidates:
        raise UsageError("--size is needed: how many rows the group has", hint="for example --size 10% or --size 50")
    if sought.curve is not None:
        _check_curve(sought, strategies, written)
    if sought.at_most and (sought.flip or sought.candidates):
        raise UsageError("--at-most is for --size of rows: --flip and --candidates look for fewer by themselves")
    if sought.candidates:
        _check_candidates(sought, drawn)
    if written.format == ROWS:
        _check_rows(sought, strategies)
    if drawn.plot is not None:
        check_plot(drawn.plot)
    elif drawn.figure != "auto":
        raise UsageError(f"--figure {drawn.figure} needs a file to draw into", hint="for example --plot selection.png")


def _check_flip(sought: Sought, drawn: Drawn, *, needs_tests: bool) -> None:
    from influence_cli.errors import UsageError

    for given, option in (
        (sought.strategy is not None, "--strategy"),
        (bool(sought.candidates), "--candidates"),
        (sought.direction != "increase", "--direction"),
    ):
        if given:
            raise UsageError(f"--flip and {option} exclude each other: --flip searches by itself, towards the flip")
    if len(sought.sizes()) > 1:
        raise UsageError(f"--flip looks through all sizes up to one; --size {sought.size} gives {len(sought.sizes())}")
    if needs_tests:
        raise UsageError("--flip needs test rows", hint="for example --test 17 or --test misclassified:5")
    if drawn.plot is not None and drawn.figure == "sizes":
        raise UsageError("--flip finds one size: there is nothing to draw against sizes", hint="use --figure rows")


def _check_described(sought: Sought, drawn: Drawn) -> None:
    from influence_cli.core.selection.causes import DEEPEST
    from influence_cli.errors import UsageError

    if sought.describe is None:
        for option, given in (("--support", sought.support), ("--columns", sought.columns)):
            if given is not None:
                raise UsageError(f"{option} is for described groups", hint="add --describe 2")
        return
    for option, is_given, instead in (
        ("--size", sought.size is not None, "--support says how many rows a group has at least"),
        ("--strategy", sought.strategy is not None, "--describe searches by itself"),
        ("--flip", sought.flip, "ask for either"),
        ("--sizes", sought.curve is not None, "ask for either"),
        ("--at-most", sought.at_most, "--support says how many rows a group has at least"),
        ("--certify", sought.certify is not None, "ginf groundtruth --certify proves the changes of its groups"),
        ("--within", bool(sought.within), "--columns says what groups are described by"),
        ("--candidates", bool(sought.candidates), "--describe makes the groups itself"),
        ("--plot", drawn.plot is not None, "leave --plot out"),
    ):
        if is_given:
            raise UsageError(f"--describe and {option} exclude each other", hint=instead)
    if sought.describe > DEEPEST:
        raise UsageError(f"--describe {sought.describe}: expected 1 to {DEEPEST} conditions")
    sought.least(1)


def _check_curve(sought: Sought, strategies: tuple[str, ...], written: Written) -> None:
    from influence_cli.errors import UsageError

    for option, given in (
        ("--size", sought.size is not None),
        ("--at-most", sought.at_most),
        ("--flip", sought.flip),
        ("--candidates", bool(sought.candidates)),
        ("--certify", sought.certify is not None),
        ("--format rows", written.format == ROWS),
    ):
        if given:
            raise UsageError(
                f"--sizes and {option} exclude each other", hint="--sizes draws a curve over all its sizes"
            )
    if len(strategies) > 1 or strategies == ("random",):
        raise UsageError("--sizes holds one strategy against random groups", hint="--strategy greedy or relinearize")


def _check_candidates(sought: Sought, drawn: Drawn) -> None:
    from influence_cli.errors import UsageError

    if len(sought.sizes()) > 1 or any(size.percent is not None for size in sought.sizes()):
        raise UsageError(
            f"--size {sought.size}: with --candidates it is the most groups in a union, one whole number",
            hint="for example --size 2",
        )
    if sought.within:
        raise UsageError("--within limits rows, and --candidates gives whole groups: use one of them")
    if drawn.plot is not None:
        raise UsageError("--plot draws rows and sizes, and --candidates has groups", hint="leave --plot out")


def _check_rows(sought: Sought, strategies: tuple[str, ...]) -> None:
    from influence_cli.errors import UsageError

    if len(sought.sizes()) > 1:
        raise UsageError(f"--format rows prints one group, and --size {sought.size} asks for {len(sought.sizes())}")
    named = [] if sought.flip else [name for name in strategies if name != "random"]
    if not sought.flip and not named:
        raise UsageError("--format rows prints one group, and random has many", hint="use --strategy relinearize")
    if len(named) > 1 and not sought.verify:
        raise UsageError(
            f"--format rows prints one group, and there are {len(named)} strategies",
            hint="name one --strategy, or add --verify to get the best by retraining",
        )


def check_sizes(sought: Sought, sizes: list[int], available: int, m: int) -> None:
    from influence_cli.errors import UsageError

    option = "--size" if sought.curve is None else "--sizes"
    for size, count in zip(sought.sizes(), sizes, strict=True):
        shown = f"{option} {size.text}" + (f" ({count:,} rows)" if size.percent is not None else "")
        if count < 1:
            raise UsageError(f"{shown}: the group is empty; expected at least one row")
        if count >= m:
            raise UsageError(f"{shown} leaves none of the {m:,} training rows", hint=f"a group has 1 to {m - 1:,} rows")
        if count > available:
            raise UsageError(f"{shown}: only {available:,} rows may be removed (--within)", hint="lower --size")
    if len(set(sizes)) < len(sizes):
        raise UsageError(f"{option} {sought.curve or sought.size}: the same number of rows is asked for twice")
