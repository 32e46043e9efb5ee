"""``ginf groundtruth``: the changes themselves, by retraining without each group."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from influence_cli.commands.bundles import command
from influence_cli.commands.gate import Gate
from influence_cli.commands.options import (
    MANY,
    MORE,
    MOST_THREADS,
    TRUST,
    Asked,
    Common,
    Network,
    Preprocessing,
    Solver,
    Written,
    warn,
)

if TYPE_CHECKING:
    from influence_cli.analysis.credit import Game
    from influence_cli.analysis.groundtruth import Retraining
    from influence_cli.analysis.question import Question
    from influence_cli.core.solvers.choice import HessianSolver
    from influence_cli.results import TruthResult
    from influence_cli.specs.planned import GroupPlan


@dataclass(frozen=True)
class Mode:
    """How the model is retrained."""

    tol: Annotated[
        float | None,
        typer.Option(
            "--tol",
            help="Share of the way to the minimum that a retraining may leave (its Newton decrement).",
            show_default="1e-8; 1e-6 for networks",
            rich_help_panel=TRUST,
        ),
    ] = None
    retrain: Annotated[
        str | None,
        typer.Option(
            "--retrain",
            help="warm: from the trained parameters.  cold: from where training began.  proximal: the objective that"
            " influence functions are the linear response of (Bae et al. 2022).  One result for logistic and linear.",
            show_default="warm",
            rich_help_panel=TRUST,
        ),
    ] = None
    cold: Annotated[bool, typer.Option("--cold", help="The same as --retrain cold.", rich_help_panel=TRUST)] = False
    certify: Annotated[
        str | None,
        typer.Option(
            "--certify",
            metavar="REL",
            help="Prove an interval of every change, low and high, narrower than this share of it: 1% or 0.01.",
            rich_help_panel=TRUST,
        ),
    ] = None
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats",
            min=1,
            max=1000,
            help="Cold retraining of a network from so many seeds: their mean and noise.",
            rich_help_panel=TRUST,
        ),
    ] = 1
    credit: Annotated[
        str | None,
        typer.Option(
            "--credit",
            help="shapley or banzhaf: what each group of a partition (by:COLUMN) is worth, from models retrained on all"
            " coalitions of up to 12 groups; of more, on draws.",
            rich_help_panel=MORE,
        ),
    ] = None
    draws: Annotated[
        int,
        typer.Option(
            "--draws", min=1, max=MANY, help="Orders or sets of --credit of over 12 groups.", rich_help_panel=MORE
        ),
    ] = 50
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the -o file of the same command that was cut off.", rich_help_panel=MORE
        ),
    ] = False
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            min=1,
            max=MOST_THREADS,
            help="Blocks of groups retrained at a time; without it one a thread.",
            rich_help_panel=MORE,
        ),
    ] = None

    @property
    def strategy(self) -> str:
        """The word of ``--retrain``, or its equivalent."""
        return self.retrain or ("cold" if self.cold else "warm")

    def check(self, written: Written) -> None:
        """Raises UsageError for invalid options, before any work is done."""
        from influence_cli.analysis.credit import check_draws
        from influence_cli.commands import output, session
        from influence_cli.core.credit import CREDITS
        from influence_cli.core.retraining import COLD, STRATEGIES
        from influence_cli.errors import UsageError

        output.check_choice("--retrain", self.strategy, STRATEGIES)
        if self.cold and self.strategy != COLD:
            raise UsageError(f"--cold and --retrain {self.strategy} contradict each other", hint="leave --cold out")
        if self.tol is not None:
            session.check_tolerance(self.tol)
        if self.share is not None and self.repeats > 1:
            raise UsageError("--certify proves one retraining, not the mean of several", hint="leave --repeats out")
        if self.credit is not None:
            output.check_choice("--credit", self.credit, CREDITS)
            check_draws(self.draws)
        if self.resume and not output.is_artifact(written.output):
            raise UsageError("--resume goes on with a .h5 file, and none was named", hint="name it with -o truth.h5")

    def config(self, tol: float) -> dict[str, Any]:
        """What the result's file keeps of these options."""
        from influence_cli.core.retraining import COLD, WARM

        return {
            "tol": tol,
            "cold": self.strategy == COLD,
            **({} if self.strategy in (WARM, COLD) else {"retrain": self.strategy}),
            **({} if self.repeats == 1 else {"repeats": self.repeats}),
            **({} if self.share is None else {"certify": self.share}),
            **({} if self.credit is None else {"credit": self.credit, "draws": self.draws}),
        }

    def how(self, result: TruthResult, jobs: int) -> Retraining:
        """The options as the analysis takes them, with ``jobs`` blocks at a time."""
        from influence_cli.analysis.groundtruth import Retraining

        return Retraining(result.provenance.config["tol"], self.strategy, jobs, self.repeats, self.share)

    @property
    def share(self) -> float | None:
        """The number of ``--certify``.  Raises UsageError if it is none."""
        from influence_cli.specs.relative import parse_relative

        return None if self.certify is None else parse_relative(self.certify, "--certify")


@command
def groundtruth(
    asked: Asked,
    mode: Mode,
    network: Network,
    gate: Gate,
    written: Written,
    common: Common,
    preprocessing: Preprocessing = None,
    solver: Solver = "auto",
) -> int:
    """Measure how predictions change if groups of training rows are removed, by retraining without each.

    Every figure is f(after removal) - f(before): a positive change of the loss means that the group helped.

    Example: ginf groundtruth --group coherent:3 --test 17
    """
    from contextlib import ExitStack

    from influence_cli.analysis.credit import Crediting, game_of
    from influence_cli.analysis.groundtruth import check_strategy, start_truth
    from influence_cli.analysis.influence import working_bytes
    from influence_cli.artifacts.atomic import check_target
    from influence_cli.artifacts.lock import exclusive
    from influence_cli.commands import existing, output, session
    from influence_cli.commands.preprocessing import check_preprocessing, prepare
    from influence_cli.core import stopping

    mode.check(written)
    gate.parse()
    check_preprocessing(preprocessing)
    request = session.parse(asked, written, solver)
    target = written.output if output.is_artifact(written.output) else None
    existing.check(common, written.output)
    output.check_outputs({"-o": written.output}, request.inputs(), force=common.replaces or target is not None)
    keeps = False
    with ExitStack() as stack:
        if target is not None:
            stack.enter_context(exclusive(target))
            keeps = existing.is_kept(common, target)
            check_target(target, common.replaces or mode.resume or keeps)
        opened = session.open_model(asked.model, common, network=network, outputs={"-o": target})
        prepared = prepare(request.on(opened), preprocessing)
        opened = prepared.opened
        check_strategy(opened.model, mode.strategy, mode.repeats)
        tol = opened.model.objective.tuning.tolerance if mode.tol is None else mode.tol
        plan, question = request.of(opened.model, common)
        prepared.note(plan, common, estimates=False)
        game = None if mode.credit is None else game_of(question, plan, Crediting(mode.credit, mode.draws, common.seed))
        config = request.config(common.seed) | mode.config(tol) | prepared.config()
        config |= {} if solver == "auto" else {"solver": solver}
        fresh = start_truth(question, plan, opened.provenance(config), repeats=mode.repeats, certify=mode.share)
        partial = existing.truth_in(str(target), fresh, common, keeps=keeps) if mode.resume or keeps else None
        kept = Kept(fresh if partial is None else partial, target)
        if partial is not None:
            solver = partial.provenance.config.get("solver", solver)  # auto may decide differently on another day
        if kept.pending or (game is not None and not kept.result.credit):
            stack.enter_context(common.limited_threads())
            working = session.open_solver(opened, solver, common, beside=working_bytes(opened.model, plan, 1, ()))
            if partial is None:
                config["solver"] = working.kind
                kept.keep(replace(fresh, provenance=question.named(opened.provenance(config))), over=common.replaces)
            measure(kept, question, plan, working, mode, common)
            if game is not None:
                divide(kept, question, game, working, mode, common)
    if target is not None:
        stopping.keeping(f"the results are complete in {target}")
    return answer(kept.result, question, mode, gate, written, common)


def answer(result: TruthResult, question: Question, mode: Mode, gate: Gate, written: Written, common: Common) -> int:
    """Write the result, and say what is not known of it; returns the exit code."""
    from functools import partial

    import numpy as np

    from influence_cli.analysis.advice import NO_PROOF
    from influence_cli.analysis.certification import why_unproven
    from influence_cli.analysis.groundtruth import count_stalled
    from influence_cli.commands import output
    from influence_cli.core.credit import MISSING
    from influence_cli.errors import ExitCode
    from influence_cli.present.changes import MEASURED, closing_line, truth_page
    from influence_cli.results import OK

    columns, data = result.columns(), question.model.dataset
    page = partial(truth_page, result, columns, output.view_of(written, common, data))
    key, closing = mode.credit or "actual", closing_line(result, columns, MEASURED)
    output.emit(output.Answer(columns, page, data, None, key, closing), written, common)
    missing = np.zeros(1) if result.low is None else np.isnan(result.low) & np.isfinite(result.actual)
    if number := int(missing.sum()):
        common.note(f"no proof for {number:,} of {missing.size:,} figures: {why_unproven(question) or NO_PROOF}")
    if doubted := sum(state != OK for state in result.status):
        null = int(np.isnan(result.actual).any(axis=1).sum())
        kind = "null" if null else "limiting or uncertain"
        warn(f"{null or doubted} of {len(result.status)} groups have {kind} changes: see status")
    gate.check(columns, "actual", "actual_error")
    lost = result.credit_state is not None and bool((result.credit_state == MISSING).any())
    return ExitCode.NOT_CONVERGED if lost or count_stalled(result) else ExitCode.OK


@dataclass
class Kept:
    """What is known so far, and the file that stores it."""

    result: TruthResult
    target: str | None

    @property
    def pending(self) -> int:
        """Number of groups that have not been retrained."""
        from influence_cli.results import PENDING

        return sum(state == PENDING for state in self.result.status)

    def keep(self, so_far: TruthResult, over: bool = True) -> None:
        """Take over what is known now, and write it to the file."""
        from influence_cli.artifacts.results import save_truth
        from influence_cli.core import stopping

        self.result = so_far
        if self.target is not None:
            save_truth(self.target, so_far, force=over)
        stopping.keeping(keeping(self.target, so_far))


def measure(
    kept: Kept, question: Question, plan: GroupPlan, working: HessianSolver, mode: Mode, common: Common
) -> None:
    """Retrain without each pending group, storing every block."""
    from influence_cli.analysis.groundtruth import groundtruth, truth_blocks
    from influence_cli.commands import session

    blocks = len(truth_blocks(question.model, len(plan)))
    how = mode.how(kept.result, session.jobs_at_a_time(mode.jobs, blocks))
    with common.progress("retraining", kept.pending) as advance:
        try:
            groundtruth(question, working, plan, kept.result, how, keep=kept.keep, advance=advance)
        except KeyboardInterrupt:
            kept.keep(kept.result)  # when called from Python: Ctrl-C may have come between a block and its file
            raise


def divide(kept: Kept, question: Question, game: Game, working: HessianSolver, mode: Mode, common: Common) -> None:
    """Retrain the coalitions of ``--credit``; the changes already known stay as they are stored."""
    from influence_cli.analysis.credit import with_credit
    from influence_cli.analysis.groundtruth import truth_blocks
    from influence_cli.commands import session

    if game.outside:
        common.note(f"{game.outside:,} training rows in none of the groups stay in every coalition")
    jobs = session.jobs_at_a_time(mode.jobs, len(truth_blocks(question.model, len(game.removals))))
    with common.progress("coalitions", len(game.removals)) as advance:
        whole, said = with_credit(kept.result, game, question, working, mode.how(kept.result, jobs), advance=advance)
    kept.keep(whole)
    common.note(said)


def keeping(output: str | None, so_far: TruthResult) -> str:
    """What a run that ends now leaves behind, and how to continue it."""
    from influence_cli.results import PENDING

    done = f"{sum(state != PENDING for state in so_far.status)} of {len(so_far.status)} groups were retrained"
    if output is None:
        return f"{done} and nothing is kept; -o truth.h5 keeps what is done"
    return f"{done} and are kept in {output}; the same command with --resume goes on from there"
