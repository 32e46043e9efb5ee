"""The options that mean the same on every command, written once, and how commands take them: as dataclasses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from typing import Annotated

import typer

from influence_cli.errors import shown_lines

COMMON, OUTPUT, NETWORKS, MORE = "Common", "Output", "Networks", "More"
TRUST = "How far the figures can be trusted"
MOST_THREADS = 1024  # threads: more than any machine has, and few enough to be started
MANY = 1_000_000  # resamples, draws and rounds: more than anybody waits for
STRATEGIES = ("relinearize", "greedy", "swap", "pgd", "random", "exact", "all")
METHODS = ("first", "second", "refined", "newton", "second-full", "first-koh", "rif")
IF_EXISTS = (REFUSE, REPLACE, KEEP) = ("refuse", "replace", "keep")
GROUPS = (
    *("coherent:", "random:", "rows:", "records:", "ids:", "column:", "by:", "neighbours:", "cluster:"),
    *("gradients:", "tail:"),
)
WORDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("--group", "--within", "--candidates"), GROUPS),
    "--test": ("misclassified", "all", "mean", "removed"),
    "--quantity": (
        *("loss", "prob", "prob:", "margin", "prediction", "logit:", "param:", "t:"),
        *("gap:", "gap-tpr:", "gap-fpr:", "gap-loss:", "worst:", "score:", "abs:"),
    ),
    "--method": METHODS,
    "--against": METHODS,
    "--evaluate": ("exact", "linear"),
    "--preprocessing": ("refit", "frozen"),
    "--solver": ("auto", "cholesky", "dual", "cg"),
    "--curvature": ("gauss-newton", "hessian"),
    "--retrain": ("warm", "cold", "proximal"),
    "--credit": ("shapley", "banzhaf"),
    "--strategy": STRATEGIES,
    "--direction": ("increase", "decrease"),
    "--merit": ("auto", "second", "newton", "retrained"),
    "--constraint": ("l1", "capped"),
    "--flip-of": ("sign", "significance"),
    "--resample": ("groups", "groups-tests"),
    "compare --figure": ("auto", "scatter", "curve"),
    "select --figure": ("auto", "sizes", "rows"),
    "--format": ("auto", "table", "json", "ndjson", "csv", "md", "html"),
    "--sort": ("effect", "given", "size"),
    "--estimator": ("logistic", "linear", "poisson", "binomial", "ridge-classifier", "mlp", "mlp-regressor"),
    "--class-weight": ("balanced", "none"),
    "--penalty-scaling": ("per-mean", "per-sum"),
    "--activation": ("sigmoid", "tanh"),
    "--coding": ("full", "reference"),
    "--impute": ("median", "mean", "most-frequent"),
    "--date": ("ordinal",),
    "--date-order": ("dmy", "mdy", "ymd"),
    "--separator": ("comma", "semicolon", "tab", "bar", "blank"),
    "--decimal": ("comma", "point"),
}
"""Words that options take or begin with, for the shell (of one command behind its name); a test compares them."""

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="FILE",
        envvar="GINF_MODEL",
        show_envvar=False,
        help="Model file: $GINF_MODEL, else ginf.h5, else made.",
    ),
]
Test = Annotated[
    str | None,
    typer.Option(
        "--test",
        "-t",
        metavar="ROWS",
        help="17, 3,5, 0:50, record:12, id:P21, misclassified:5, all, mean (over all) or removed."
        "  removed: each group's own rows.",
    ),
]
Quantity = Annotated[
    str,
    typer.Option(
        "--quantity",
        metavar="NAME",
        help="What changes: loss, margin, prob (true class), prob:CLASS, logit:CLASS, prediction,"
        " param:NAME[,NAME...], t:NAME (Wald statistic).  Of all test rows gap:COLUMN[:CLASS], gap-tpr: and gap-fpr:"
        " likewise, gap-loss:COLUMN, worst:COLUMN, score:NAME, or abs: before these.",
    ),
]
Solver = Annotated[
    str,
    typer.Option(
        "--solver",
        rich_help_panel=MORE,
        help="auto, cholesky, dual (fewer rows than columns) or cg: how H x = b is solved.",
    ),
]
Preprocessing = Annotated[
    str | None,
    typer.Option(
        "--preprocessing",
        rich_help_panel=MORE,
        help="refit: means, scales, imputed values, categories and balanced weights are made again without the group."
        "  frozen: they stay.  lambda or C is never chosen again.",
        show_default="refit, where the model file can do it",
    ),
]
Format = Annotated[
    str,
    typer.Option(
        "--format",
        help="auto, table, json, ndjson, csv, md or html.  auto: a table on a terminal, CSV in a pipe.",
        rich_help_panel=OUTPUT,
    ),
]
Plot = Annotated[
    str | None,
    typer.Option(
        "--plot",
        metavar="FILE",
        help="Picture to write, .png, .svg or .pdf (needs Matplotlib, the extra plot of ginf).",
        rich_help_panel=OUTPUT,
    ),
]


@dataclass(frozen=True)
class Asked:
    """The model, the groups of its training rows, the test rows, and the quantity that changes."""

    model: Model = None
    group: Annotated[
        list[str] | None,
        typer.Option(
            "--group",
            "-g",
            metavar="SPEC",
            help="Groups of rows (repeatable): by:COLUMN[:BINS], column:NAME=VALUE (or LOW..HIGH),"
            " coherent:CLASS, random:5%x10, rows:0,5 or each, records:1, ids:P1, neighbours:3:50, cluster:9, tail:5%.",
        ),
    ] = None
    groups: Annotated[
        str | None,
        typer.Option(
            "--groups",
            metavar="FILE",
            rich_help_panel=MORE,
            help="File with one group a line, or one that ginf wrote (.csv, .json, .ndjson, .h5); - is standard input.",
        ),
    ] = None
    test: Test = None
    quantity: Quantity = "loss"


@dataclass(frozen=True)
class Network:
    """The settings with which a network is analysed instead of those of its training."""

    curvature: Annotated[
        str | None,
        typer.Option(
            "--curvature",
            help="What stands for a network's Hessian: gauss-newton (never negative) or hessian (exact).",
            show_default="as trained; gauss-newton",
            rich_help_panel=NETWORKS,
        ),
    ] = None
    damping: Annotated[
        float | None,
        typer.Option(
            "--damping",
            help="Added to the diagonal of a network's Hessian wherever it is inverted.",
            show_default="as trained; 0.01",
            rich_help_panel=NETWORKS,
        ),
    ] = None


@dataclass(frozen=True)
class Trust:
    """How it is determined how far the figures may be off."""

    rel_error: Annotated[
        str,
        typer.Option(
            "--rel-error",
            help="How close refined has to come, as a share of the change: 5% or 0.05.",
            rich_help_panel=TRUST,
        ),
    ] = "5%"
    errors: Annotated[
        bool,
        typer.Option(
            "--errors",
            help="Say of every method how far its figures may be off, at a pass over the rows a group.",
            rich_help_panel=TRUST,
        ),
    ] = False
    certify: Annotated[
        str | None,
        typer.Option(
            "--certify",
            metavar="REL",
            help="Refine until a proven interval of the change is narrower than this share of it: low and high.",
            rich_help_panel=TRUST,
        ),
    ] = None
    verify: Annotated[
        bool | None,
        typer.Option(
            "--verify/--no-verify",
            help="Retrain without each group as well, and say how far the estimates agree.",
            show_default="in a table on a terminal, where it takes under two seconds",
            rich_help_panel=TRUST,
        ),
    ] = None


@dataclass(frozen=True)
class Written:
    """Where the results are written."""

    format: Format = "auto"
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="File to write: .h5 for other commands to read, or .csv, .json, .ndjson, .md, .html.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    sort: Annotated[
        str,
        typer.Option(
            "--sort",
            help="Order of the groups in a table: effect (largest first), given, or size.",
            rich_help_panel=OUTPUT,
        ),
    ] = "effect"
    top: Annotated[
        int | None,
        typer.Option(
            "--top", min=1, help="Only the N largest effects of each test row.", metavar="N", rich_help_panel=OUTPUT
        ),
    ] = None


@dataclass(frozen=True)
class Common:
    """The options of every command."""

    seed: Annotated[int, typer.Option("--seed", min=0, help="Fixes every random draw.", rich_help_panel=COMMON)] = 0
    threads: Annotated[
        int | None,
        typer.Option(
            "--threads",
            min=1,
            max=MOST_THREADS,
            help="Processor threads to use.",
            show_default="as many as OPENBLAS_NUM_THREADS, OMP_NUM_THREADS and a container allow",
            rich_help_panel=COMMON,
        ),
    ] = None
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            metavar="SIZE",
            help="Memory to keep within, 4GiB or 500MB (default: what there is); other rows are read in every pass.",
            rich_help_panel=COMMON,
        ),
    ] = None
    scheduler: Annotated[
        str | None,
        typer.Option(
            "--scheduler",
            metavar="tcp://HOST:PORT",
            help="A dask scheduler, whose workers read the rows and do the passes (the extra dask, docs/scale.md).",
            rich_help_panel=MORE,
        ),
    ] = None
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="No notes and no progress on stderr.", rich_help_panel=COMMON)
    ] = False
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose", help="Diagnostics in tables, and notes on solvers and files.", rich_help_panel=COMMON
        ),
    ] = False
    force: Annotated[bool, typer.Option("--force", help="Overwrite existing files.", rich_help_panel=COMMON)] = False
    if_exists: Annotated[
        str,
        typer.Option("--if-exists", help="refuse, replace, or keep if the same.", rich_help_panel=COMMON),
    ] = REFUSE
    no_color: Annotated[
        bool, typer.Option("--no-color", help="Plain text (so does the NO_COLOR variable).", rich_help_panel=COMMON)
    ] = False

    @property
    def replaces(self) -> bool:
        """Whether files that exist are overwritten."""
        return self.force or self.if_exists == REPLACE

    def note(self, message: str) -> None:
        """Write a line to stderr about what is being done."""
        if not self.quiet:
            warn(message)

    def detail(self, message: str) -> None:
        """Write a line to stderr for users who want to know how it is done."""
        if self.verbose:
            self.note(message)

    def progress(self, label: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        """A bar on stderr while something runs; the function that it yields is called with the number of steps done."""
        from influence_cli.present.progress import progress

        return progress(label, total, quiet=self.quiet, color=not self.no_color)

    @contextmanager
    def limited_threads(self) -> Iterator[None]:
        """Limit every BLAS pool to ``--threads``."""
        with limit_threads(self.threads):
            yield


def warn(message: str) -> None:
    """Write a line to stderr that ``--quiet`` does not suppress; it does not matter if nobody reads it."""
    with suppress(OSError):
        print(f"ginf: {shown_lines(message)}", file=sys.stderr)


@contextmanager
def limit_threads(threads: int | None) -> Iterator[None]:
    """Limit every BLAS pool to that many threads."""
    if threads is None:
        yield
        return
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=threads):
        yield
