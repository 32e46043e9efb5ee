"""The options of ``ginf train``, and the checks that need nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from influence_cli.commands.options import OUTPUT, Format, Network
from influence_cli.commands.train.tables import Tables

if TYPE_CHECKING:
    from influence_cli.models.settings import ModelSettings

TEST_ROWS = "Test rows"
MODEL, TRAINING, NETWORK = "Model", "Training", "Networks"


BUILT_IN = "digits"
"""The data set that is used without --data."""


@dataclass(frozen=True)
class Source:
    """The data."""

    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            show_default=f"{BUILT_IN}, with penalised intercepts",
            help="A table (.csv, .tsv, .gz of them, .parquet), several ('part-*.csv'), arrays (.npz, .h5, .svm), a"
            " folder of IDX files; or digits, synthetic, blobs, mnist.",
        ),
    ] = None
    test_data: Annotated[
        str | None,
        typer.Option(
            "--test-data",
            help="File of test rows, of the same kind as --data; their labels may be missing.",
            show_default="a part of --data",
            rich_help_panel=TEST_ROWS,
        ),
    ] = None
    test_fraction: Annotated[
        float,
        typer.Option(
            "--test-fraction",
            help="Share of test rows where the data has no split of its own; with 0 all rows are both.",
            rich_help_panel=TEST_ROWS,
        ),
    ] = 0.2
    sample_weight: Annotated[
        str | None,
        typer.Option(
            "--sample-weight",
            help="Column (or array of an .npz file) with the rows' weights.",
            rich_help_panel=MODEL,
        ),
    ] = None

    @property
    def name(self) -> str:
        """The data set or path that is read."""
        return BUILT_IN if self.data is None else self.data


@dataclass(frozen=True)
class Form:
    """The model, and how it is trained."""

    from_model: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="A fitted scikit-learn model (.skops): LogisticRegression, LinearRegression, Ridge, RidgeClassifier,"
            " PoissonRegressor, or a Pipeline that ends in one.  --data is all that it was fitted on; test rows come"
            " from --test-data.",
            rich_help_panel=MODEL,
        ),
    ] = None
    polish: Annotated[
        bool,
        typer.Option(
            "--polish/--no-polish",
            help="Bring the parameters of --from to the minimum; without, refuse others.",
            rich_help_panel=MODEL,
        ),
    ] = True
    estimator: Annotated[
        str,
        typer.Option(
            "--estimator",
            help="logistic, linear, poisson (counts), binomial (shares), ridge-classifier, mlp or mlp-regressor"
            " (networks).",
        ),
    ] = "logistic"
    class_weight: Annotated[
        str | None,
        typer.Option(
            "--class-weight",
            help="balanced: all classes weigh the same.",
            show_default="none",
            rich_help_panel=MODEL,
        ),
    ] = None
    l2: Annotated[
        float | None,
        typer.Option("--l2", help="lambda of (lambda/2)|theta|^2.", show_default="0.001"),
    ] = None
    C: Annotated[
        float | None,
        typer.Option(
            "--C",
            help="scikit-learn's C = 1/(lambda m), m the rows or the sum of their weights.",
            rich_help_panel=MODEL,
        ),
    ] = None
    penalty_scaling: Annotated[
        str | None,
        typer.Option(
            "--penalty-scaling",
            help="Weight of each row that is kept: per-mean 1/(m-k), as in the paper, or per-sum 1/m, as scikit-learn"
            " refitted with the same C.",
            show_default="per-mean; per-sum with --C",
            rich_help_panel=MODEL,
        ),
    ] = None
    intercept: Annotated[
        bool, typer.Option("--intercept/--no-intercept", help="Fit an intercept.", rich_help_panel=MODEL)
    ] = True
    penalize_intercept: Annotated[
        bool | None,
        typer.Option(
            "--penalize-intercept/--free-intercept",
            help="Let the penalty hold the intercept too: without a whole class the loss stays finite.",
            show_default="free; penalised where --data is not given",
            rich_help_panel=MODEL,
        ),
    ] = None
    hidden: Annotated[
        str | None,
        typer.Option("--hidden", help="Widths of the hidden layers.", show_default="64,32", rich_help_panel=NETWORK),
    ] = None
    activation: Annotated[
        str | None,
        typer.Option("--activation", help="sigmoid or tanh.", show_default="sigmoid", rich_help_panel=NETWORK),
    ] = None
    tol: Annotated[
        float | None,
        typer.Option(
            "--tol",
            help="Newton decrement at which training ends, as a share of the outputs' deviation.",
            show_default="1e-8; 1e-6 for networks",
            rich_help_panel=TRAINING,
        ),
    ] = None
    max_iterations: Annotated[
        int | None,
        typer.Option(
            "--max-iterations",
            min=1,
            max=10**9,
            help="Newton steps at most, or L-BFGS iterations of a network.",
            show_default="200; 20,000 for networks",
            rich_help_panel=TRAINING,
        ),
    ] = None


@dataclass(frozen=True)
class Kept:
    """Where the model is saved."""

    output: Annotated[str, typer.Option("-o", "--output", help="Model file to write.")] = "ginf.h5"
    link_data: Annotated[
        bool,
        typer.Option(
            "--link-data",
            help="Keep the path of the data in the model file, not its arrays; it must stay where and as it is.",
            rich_help_panel=OUTPUT,
        ),
    ] = False
    format: Format = "auto"


def with_built_in(source: Source, form: Form) -> Form:
    """``form``, with penalised intercepts if no data are given.

    That is the built-in model, which the other commands train if there is none: without a whole class its answers are
    finite.  The biases of a network stay free.
    """
    if source.data is None and form.penalize_intercept is None and form.from_model is None:
        return replace(form, penalize_intercept=form.intercept and form.estimator == "logistic")
    return form


def with_counts(tables: Tables, form: Form) -> Form:
    """``form``, made binomial by successes and trials.  Raises UsageError for columns without each other."""
    from influence_cli.errors import UsageError

    if (tables.successes is None) != (tables.trials is None):
        raise UsageError("--successes and --trials belong together", hint="for example --successes won --trials played")
    if tables.exposure is not None and form.estimator != "poisson" and form.from_model is None:
        raise UsageError("--exposure is for counts", hint="add --estimator poisson, or weigh rows by --sample-weight")
    if tables.successes is None:
        return form
    if tables.label is not None:
        raise UsageError("--label and --successes both name the response", hint="leave --label out")
    if form.from_model is not None or form.estimator not in ("logistic", "binomial"):
        other = "--from" if form.from_model is not None else f"--estimator {form.estimator}"
        raise UsageError(f"--successes and {other} exclude each other", hint="leave the latter out")
    return replace(form, estimator="binomial")


def check_alone(tables: Tables, form: Form) -> None:
    """Raises UsageError for the first option that does not apply to an imported model."""
    from influence_cli.errors import UsageError

    if form.from_model is None:
        return
    given = {
        "--estimator": form.estimator != "logistic",
        "--l2": form.l2 is not None,
        "--C": form.C is not None,
        "--class-weight": form.class_weight is not None,
        "--no-intercept": not form.intercept,
        "--penalize-intercept": form.penalize_intercept is not None,
        "--features": bool(tables.features),
        "--impute": tables.impute is not None,
        "--standardize": tables.standardize is not None,
        "--coding": tables.coding is not None,
        "--date": tables.date is not None,
    }
    for option, present in given.items():
        if present:
            raise UsageError(
                f"{option} and --from exclude each other: the model of --from has its own", hint=f"leave {option} out"
            )


def resolve(form: Form, network: Network, seed: int) -> ModelSettings:
    """The settings according to the options, with the penalty still that of one row.

    Raises UsageError for invalid options, before any work is done.
    """
    from influence_cli.commands import output, session
    from influence_cli.core.removal import PENALTY_SCALINGS
    from influence_cli.errors import UsageError
    from influence_cli.models.sample_weights import CLASS_WEIGHTS
    from influence_cli.models.settings import (
        ESTIMATORS,
        ModelSettings,
        default_tolerance,
        parse_hidden,
        resolve_network,
        resolve_penalty,
    )

    output.check_choice("--estimator", form.estimator, tuple(ESTIMATORS))
    if form.penalty_scaling is not None:
        output.check_choice("--penalty-scaling", form.penalty_scaling, PENALTY_SCALINGS)
    if form.class_weight is not None:
        output.check_choice("--class-weight", form.class_weight, CLASS_WEIGHTS)
    if form.from_model is None and not form.polish:
        raise UsageError("--no-polish is for a model of --from", hint="ginf trains its own models to --tol")
    hidden = None if form.hidden is None else parse_hidden(form.hidden)
    network_settings = resolve_network(
        form.estimator, hidden, form.activation, network.curvature, network.damping, seed
    )
    tol = default_tolerance(form.estimator) if form.tol is None else form.tol
    session.check_tolerance(tol)
    l2, scaling = resolve_penalty(form.l2, form.C, form.penalty_scaling, 1)
    return ModelSettings(
        form.estimator, l2, scaling, form.intercept, bool(form.penalize_intercept), tol, **network_settings
    )
