"""``ginf train``: data to a model file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from influence_cli.commands.options import Curvature, Damping, Force, Format, NoColor, Quiet, Seed, Solver, Threads

if TYPE_CHECKING:
    from influence_cli.models.adoption import Adoption
    from influence_cli.models.trained import TrainedModel

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
            "--test-data",
            help="File of test rows, of the same kind as --data; their labels may be missing.",
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
    from_model: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="A fitted scikit-learn model (.skops): LogisticRegression, LinearRegression, Ridge, RidgeClassifier,"
            " PoissonRegressor, or a Pipeline that ends in one.  --data is what it was fitted on, all of it; test rows"
            " come from --test-data.  Its penalty, classes and convention of removal are taken from it.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    polish: Annotated[
        bool,
        typer.Option(
            "--polish/--no-polish",
            help="Bring the gradient norm at the parameters of --from under --tol; without, refuse the model instead.",
            rich_help_panel=MODEL,
        ),
    ] = True,
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
    link_data: Annotated[
        bool,
        typer.Option(
            "--link-data",
            help="Keep the absolute path and the digest of the data in the model file instead of its arrays, for data"
            " too large to copy; it must stay where and as it is.",
            rich_help_panel="Output",
        ),
    ] = False,
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

    from influence_cli.commands import session
    from influence_cli.commands.options import note
    from influence_cli.core.removal import PENALTY_SCALINGS
    from influence_cli.core.solvers.choice import make_solver
    from influence_cli.data.from_table import TableOptions
    from influence_cli.data.load import check_source, load
    from influence_cli.errors import UsageError
    from influence_cli.models.linked import link_to
    from influence_cli.models.sample_weights import CLASS_WEIGHTS, weighted
    from influence_cli.models.settings import (
        ESTIMATORS,
        ModelSettings,
        default_iterations,
        default_tolerance,
        parse_hidden,
        resolve_network,
        resolve_penalty,
    )
    from influence_cli.models.skops import check_skops
    from influence_cli.models.trained import fit
    from influence_cli.present.tables import Layout, progress, resolve_format, write_records
    from influence_cli.results import Records

    session.check_choice("--estimator", estimator, tuple(ESTIMATORS))
    session.check_format(format)
    session.check_solver(solver)
    if penalty_scaling is not None:
        session.check_choice("--penalty-scaling", penalty_scaling, PENALTY_SCALINGS)
    if class_weight is not None:
        session.check_choice("--class-weight", class_weight, CLASS_WEIGHTS)
    if from_model is not None:
        given = {
            "--estimator": estimator != "logistic",
            "--l2": l2 is not None,
            "--C": C is not None,
            "--class-weight": class_weight is not None,
            "--no-intercept": not intercept,
            "--penalize-intercept": penalize_intercept,
            "--features": bool(features),
            "--impute": impute is not None,
            "--standardize": standardize is not None,
        }
        _check_alone(given)
    elif not polish:
        raise UsageError("--no-polish is for a model of --from", hint="ginf trains its own models to --tol")
    network = resolve_network(
        estimator, None if hidden is None else parse_hidden(hidden), activation, curvature, damping, seed
    )
    tol = default_tolerance(estimator) if tol is None else tol
    session.check_tolerance(tol)
    resolve_penalty(l2, C, penalty_scaling, 1)
    if from_model is not None:
        check_skops(from_model)
    check_source(data)
    session.check_output(output, (data, test_data, from_model), force=force)
    columns = (label, tuple(drop or ()), tuple(features or ()), impute, standardize, id_column, test_data)
    table = TableOptions(*columns, sample_weight)
    origin = {"data": data, "test_fraction": test_fraction, "seed": seed, **table.as_dict()}
    adoption = None
    with session.limit_threads(threads):
        if from_model is not None:
            from influence_cli.models.skops import bring

            brought = bring(
                from_model,
                data,
                table,
                scaling=penalty_scaling,
                tol=tol,
                polish=polish,
                max_iterations=max_iterations or default_iterations(estimator),
                seed=seed,
            )
            model, adoption = brought.model, brought.adoption
            origin |= {"from": from_model, "sklearn": brought.described}
            for text in (*model.dataset.notes, f"{brought.described}: {adoption.sentence}"):
                note(text, quiet=quiet)
            if brought.tests_itself:
                note("the test rows are the training rows: --test-data FILE gives others", quiet=quiet)
        else:
            dataset = load(data, task=ESTIMATORS[estimator], test_fraction=test_fraction, seed=seed, table=table)
            for text in dataset.notes:
                note(text, quiet=quiet)
            dataset, total = weighted(dataset, sample_weight, class_weight)
            strength, scaling = resolve_penalty(l2, C, penalty_scaling, total)
            settings = ModelSettings(estimator, strength, scaling, intercept, penalize_intercept, tol, **network)
            if class_weight is not None:
                origin["class_weight"] = class_weight
            steps = max_iterations or default_iterations(estimator)
            counted = "L-BFGS iterations" if network else "Newton steps"
            with progress(counted, None, quiet=quiet, color=not no_color) as advance:
                model = fit(dataset, settings, max_iterations=steps, watch=lambda step, norm: advance(1))
        choice = model.choose_solver(solver)
        note(f"solver {choice.kind}: {choice.reason}", quiet=quiet)
        model = model.with_factor(make_solver(model.objective, model.theta, choice.kind).factor)
        link = link_to(data, test_data, from_model) if link_data else None
        session.store(output, model, origin, force=force, link=link)
        if link is not None:
            note(f"{output} is linked to its data: keep unchanged {', '.join(link.values())}", quiet=quiet)
        record = _record(output, data, model, from_model, adoption)
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
    made = f"Trained {estimator}" if from_model is None else from_model
    convention = f"removal convention: {model.settings.penalty_scaling}"
    layout = Layout(f"{made} model, saved as {output}", convention, shown)
    name = resolve_format(format, sys.stdout)
    write_records(Records((record,)).columns(), layout, name, sys.stdout, color=not no_color)
    return 0


def _check_alone(given: dict[str, bool]) -> None:
    """Raises UsageError for the first option that a brought model leaves nothing to."""
    from influence_cli.errors import UsageError

    for option, present in given.items():
        if present:
            raise UsageError(
                f"{option} and --from exclude each other: the model of --from has its own", hint=f"leave {option} out"
            )


def _record(
    output: str, data: str, model: TrainedModel, source: str | None, adoption: Adoption | None
) -> dict[str, Any]:
    """What a training is reported by; keys only ever grow."""
    dataset, settings = model.dataset, model.settings
    return {
        "model": output,
        "data": data,
        "estimator": settings.estimator,
        "rows": dataset.rows,
        "test_rows": dataset.X_test.shape[0],
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
        "from": source,
        "from_grad_norm": None if adoption is None else adoption.grad_norm,
        "from_moved": None if adoption is None else adoption.moved,
    }
