"""The options that mean the same on every command, defined once."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Annotated

import typer

COMMON = "Common"

Seed = Annotated[int, typer.Option("--seed", min=0, help="Fixes every random draw.", rich_help_panel=COMMON)]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Processor threads to use.",
        show_default="as many as OPENBLAS_NUM_THREADS, OMP_NUM_THREADS and a container allow",
        rich_help_panel=COMMON,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No notes and no progress on stderr.", rich_help_panel=COMMON)]
Force = Annotated[bool, typer.Option("--force", help="Overwrite existing files.", rich_help_panel=COMMON)]
NoColor = Annotated[
    bool, typer.Option("--no-color", help="Plain text (so does the NO_COLOR variable).", rich_help_panel=COMMON)
]

Format = Annotated[
    str,
    typer.Option(
        "--format",
        help="auto, table, json, ndjson or csv.  auto: a table on a terminal, CSV in a pipe.",
        rich_help_panel="Output",
    ),
]
Output = Annotated[str | None, typer.Option("-o", "--output", help="HDF5 file to write.", rich_help_panel="Output")]

Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        envvar="GINF_MODEL",
        show_envvar=True,
        help="Model file.",
        show_default="ginf.h5; where there is none, the digits model is trained",
    ),
]
Group = Annotated[
    list[str] | None,
    typer.Option(
        "--group",
        help="Group of training rows (repeatable): coherent:LABEL[:SIZE], coherent:*:SIZE, random:SIZE, rows:0,5,9,"
        " rows:@FILE, neighbours:ROW:SIZE, cluster:K; of a table column:NAME=VALUE, column:NAME=LOW..HIGH (joined by &)"
        " and by:NAME, a group a value.  SIZE is a count or a percentage of the training rows; xN behind it draws N"
        " times (random:36%x40).",
    ),
]
Groups = Annotated[str | None, typer.Option("--groups", help="File with one group a line; - reads standard input.")]
Test = Annotated[
    str | None,
    typer.Option("--test", help="Test rows: 17, 3,5,17, 0:50, misclassified[:N], all, or mean (over all)."),
]
Quantity = Annotated[
    str,
    typer.Option(
        "--quantity",
        help="What changes: loss, margin, prob (of the true class), logit:CLASS, prediction (regression), param:NAME;"
        " or one figure for all chosen test rows: gap:COLUMN[:CLASS], the mean prediction (probability of CLASS, else"
        " of the second class) where a two-valued column has its second value, in sorted order, minus that where it"
        " has its first; score:NAME, any scikit-learn scorer (--evaluate exact; larger is better; of two classes the"
        " second is the positive one).",
    ),
]
Curvature = Annotated[
    str | None,
    typer.Option(
        "--curvature",
        help="What stands for a network's Hessian: gauss-newton (never negative) or hessian (exact).",
        show_default="as trained; gauss-newton",
        rich_help_panel="Networks",
    ),
]
Damping = Annotated[
    float | None,
    typer.Option(
        "--damping",
        help="Added to the diagonal of a network's Hessian wherever it is inverted.",
        show_default="as trained; 0.01",
        rich_help_panel="Networks",
    ),
]
Solver = Annotated[str, typer.Option("--solver", help="auto, cholesky or cg: how H x = b is solved.")]


def note(message: str, *, quiet: bool) -> None:
    """A line on stderr about what is being done; nothing is lost if nobody listens."""
    if not quiet:
        with suppress(OSError):
            print(f"ginf: {message}", file=sys.stderr)
