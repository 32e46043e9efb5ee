"""``ginf train``: data to a model file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Curvature, Damping, Force, Format, NoColor, Quiet, Seed, Solver, Threads

if TYPE_CHECKING:
    from ..modeling import TrainedModel

TABLE, MODEL, TRAINING, NETWORK = "Tables", "Model", "Training", "Networks"


def train(
    data: Annotated[
        str,
        typer.Option(
            "--data",
            help="digits, synthetic, blobs, mnist, a table (.csv, .tsv, gzipped or not, .parquet), arrays (.npz, .h5,"
            " .svm), or a folder of IDX files.",
        ),
    ] = "digits",
    test_data: Annotated[
        str | None,
        typer.Option(
            "--test-data", help="File of test rows, of the same kind as --data; their labels may be missing.",
            show_default="a part of --data",
        ),
    ] = None,
    test_fraction: Annotated[
        float, typer.Option("--test-fraction", help="Share of test rows where the data has no split of its own.")
    ] = 0.2,
    label: Annotated[
        str | None, typer.Option("--label", help="Column to predict; a table needs it.", rich_help_panel=TABLE)
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            "--drop",
            help="Columns (A,B or repeated) that are no features; they can still name groups.",
            rich_help_panel=TABLE,
        ),
    ] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(
            "--features",
            help="Columns (A,B or repeated) that are the features.",
            show_default="all but --label, --drop and --id",
            rich_help_panel=TABLE,
        ),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", help="Column that identifies rows; it is no feature.", rich_help_panel=TABLE)
    ] = None,
    impute: Annotated[
        str | None,
        typer.Option(
            "--impute",
            help="Fill in missing values: median, mean or most-frequent (text: always its most frequent).",
            show_default="missing values are refused",
            rich_help_panel=TABLE,
        ),
    ] = None,
    standardize: Annotated[
        bool | None,
        typer.Option(
            "--standardize/--no-standardize",
            help="Scale numbers to mean 0 and deviation 1 by the training rows; removal leaves the scale as it is.",
            show_default="on for tables, off for arrays",
            rich_help_panel=TABLE,
        ),
    ] = None,
    estimator: Annotated[
        str,
        typer.Option(
            "--estimator",
            help="logistic, linear, poisson (counts), ridge-classifier, mlp or mlp-regressor (networks).",
            rich_help_panel=MODEL,
        ),
    ] = "logistic",
    sample_weight: Annotated[
        str | None,
        typer.Option(
            "--sample-weight",
            help="Column (or the array sample_weight of an .npz file) with the rows' weights; it is no feature.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    class_weight: Annotated[
        str | None,
        typer.Option(
            "--class-weight",
            help="balanced: all classes weigh the same.  Counted once, on all training rows; removal keeps them.",
            show_default="none",
            rich_help_panel=MODEL,
        ),
    ] = None,
    l2: Annotated[
        float | None,
        typer.Option("--l2", help="lambda of (lambda/2)|theta|^2.", show_default="0.001", rich_help_panel=MODEL),
    ] = None,
    C: Annotated[
        float | None,
        typer.Option(
            "--C",
            help="scikit-learn's C = 1/(lambda m), m the sum of the weights if there are any; brings"
            " --penalty-scaling per-sum with it.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    penalty_scaling: Annotated[
        str | None,
        typer.Option(
            "--penalty-scaling",
            help="What removal does to the kept rows' weights: per-mean (1/(m-k), the paper) or per-sum (1/m, as"
            " scikit-learn refitted with the same C).",
            show_default="per-mean; per-sum with --C",
            rich_help_panel=MODEL,
        ),
    ] = None,
    intercept: Annotated[
        bool, typer.Option("--intercept/--no-intercept", help="Fit an intercept.", rich_help_panel=MODEL)
    ] = True,
    penalize_intercept: Annotated[
        bool,
        typer.Option("--penalize-intercept", help="Let the penalty hold the intercept too.", rich_help_panel=MODEL),
    ] = False,
    hidden: Annotated[
        str | None,
        typer.Option("--hidden", help="Widths of the hidden layers.", show_default="64,32", rich_help_panel=NETWORK),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option("--activation", help="sigmoid or tanh.", show_default="sigmoid", rich_help_panel=NETWORK),
    ] = None,
    curvature: Curvature = None,
    damping: Damping = None,
    tol: Annotated[
        float | None,
        typer.Option(
            "--tol",
            help="Gradient norm at which training ends.",
            show_default="1e-8; 1e-6 for networks",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    max_iterations: Annotated[
        int | None,
        typer.Option(
            "--max-iterations",
            min=1,
            help="Newton steps at most, or L-BFGS iterations of a network.",
            show_default="200; 20,000 for networks",
            rich_help_panel=TRAINING,
        ),
    ] = None,
    solver: Solver = "auto",
    output: Annotated[
        str, typer.Option("-o", "--output", help="Model file to write.", rich_help_panel="Output")
    ] = "ginf.h5",
    format: Format = "auto",
    seed: Seed = 0,
    threads: Threads = None,
    quiet: Quiet = False,
    force: Force = False,
    no_color: NoColor = False,
) -> int:
    """Train a model to a stationary point and save it with its data and Hessian factor.

    Example: ginf train --data digits --l2 0.001 -o digits.h5
    """
    import sys

    from ..core.removal import PENALTY_SCALINGS
    from ..core.solvers.choice import choose_solver, make_solver
    from ..data.sources import load
    from ..data.tabular import TableOptions
    from ..modeling import ESTIMATORS, ModelSettings, fit, resolve_network, resolve_penalty
    from ..report import Layout, progress, resolve_format, write_records
    from ..results import Records
    from ..weighting import CLASS_WEIGHTS, weighted
    from . import session
    from .options import note

    session.check_choice("--estimator", estimator, tuple(ESTIMATORS))
    session.check_format(format)
    session.check_solver(solver)
    if penalty_scaling is not None:
        session.check_choice("--penalty-scaling", penalty_scaling, PENALTY_SCALINGS)
    if class_weight is not None:
        session.check_choice("--class-weight", class_weight, CLASS_WEIGHTS)
    network = resolve_network(estimator, hidden, activation, curvature, damping, seed)
    tol = tol if tol is not None else 1e-6 if network else 1e-8
    session.check_tolerance(tol)
    resolve_penalty(l2, C, penalty_scaling, 1)
    session.check_output(output, (data, *([] if test_data is None else [test_data])), force=force)
    columns = (label, tuple(drop or ()), tuple(features or ()), impute, standardize, id_column, test_data)
    table = TableOptions(*columns, sample_weight)
    with session.limit_threads(threads):
        dataset = load(data, task=ESTIMATORS[estimator], test_fraction=test_fraction, seed=seed, table=table)
        for text in dataset.notes:
            note(text, quiet=quiet)
        dataset, total = weighted(dataset, sample_weight, class_weight)
        strength, scaling = resolve_penalty(l2, C, penalty_scaling, total)
        settings = ModelSettings(estimator, strength, scaling, intercept, penalize_intercept, tol, **network)
        steps = max_iterations or (20_000 if network else 200)
        counted = "L-BFGS iterations" if network else "Newton steps"
        with progress(counted, None, quiet=quiet, color=not no_color) as advance:
            model = fit(dataset, settings, max_iterations=steps, watch=lambda step, norm: advance(1))
        choice = choose_solver(
            solver,
            size=model.objective.size,
            outputs=model.objective.outputs,
            rows=len(dataset.X_train),
            cached=False,
        )
        note(f"solver {choice.kind}: {choice.reason}", quiet=quiet)
        model = model.with_factor(make_solver(model.objective, model.theta, choice.kind).factor)
        origin = {"data": data, "test_fraction": test_fraction, "seed": seed, **table.as_dict()}
        if class_weight is not None:
            origin["class_weight"] = class_weight
        session.store(output, model, origin, force=force)
        record = _record(output, data, model)
    score = model.score_name
    shown = {
        "data": "data",
        "rows": "rows",
        "test_rows": "test rows",
        "parameters": "parameters",
        "l2": "l2",
        "grad_norm": "gradient norm",
        "train_score": f"train {score}",
        "test_score": f"test {score}",
    }
    layout = Layout(f"Trained {estimator} model, saved as {output}", f"removal convention: {scaling}", shown)
    name = resolve_format(format, sys.stdout)
    write_records(Records((record,)).columns(), layout, name, sys.stdout, color=not no_color)
    return 0


def _record(output: str, data: str, model: TrainedModel) -> dict[str, Any]:
    """What a training is reported by; keys only ever grow."""
    dataset, settings = model.dataset, model.settings
    return {
        "model": output,
        "data": data,
        "estimator": settings.estimator,
        "rows": len(dataset.X_train),
        "test_rows": len(dataset.X_test),
        "features": dataset.X_train.shape[1],
        "classes": len(dataset.classes) or None,
        "parameters": model.objective.size,
        "l2": settings.l2,
        "penalty_scaling": settings.penalty_scaling,
        "grad_norm": model.grad_norm,
        "iterations": model.iterations,
        "seconds": model.seconds,
        "train_score": model.score(dataset.X_train, dataset.y_train),
        "test_score": model.score(dataset.X_test, dataset.y_test),
        "factor": model.factor is not None,
    }
