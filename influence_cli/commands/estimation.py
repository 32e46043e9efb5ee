"""The decisions of ``ginf influence`` on unstated options: methods, retraining for comparison, and the first notes."""

from __future__ import annotations

from influence_cli.analysis.explain import explain
from influence_cli.analysis.influence import check_methods
from influence_cli.analysis.pooled import check_evaluate, why_exact
from influence_cli.analysis.question import Question
from influence_cli.analysis.reliability import DEFAULT_METHODS, Estimation
from influence_cli.analysis.verify import REFINED_PASSES, RETRAINING_PASSES, predicted_seconds
from influence_cli.commands.gate import Gate
from influence_cli.commands.options import Common, Trust, Written
from influence_cli.commands.output import Answer, check_choice, check_ending, emit
from influence_cli.commands.session import Request
from influence_cli.core.estimators import EVALUATIONS
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.errors import ExitCode, UsageError
from influence_cli.models.trained import TrainedModel
from influence_cli.present.explanation import explanation_page
from influence_cli.results import REFINED, REMOVED
from influence_cli.specs.planned import GroupPlan
from influence_cli.specs.relative import parse_relative

EACH_ROW, ROW_METHODS = "rows:each", ("first", "rif")
"""The spec of one group per row, and its methods, which one adjoint per test row serves, unlike ``refined``."""
LONG, QUICK = 30.0, 2.0
"""Seconds above which the predicted time is announced, and below which retraining is done without being asked for."""


def chosen_estimation(
    request: Request, method: str | None, evaluate: str | None, trust: Trust, common: Common
) -> Estimation:
    """The requested estimation, or else what suits the groups.  Raises UsageError if options are invalid together."""
    methods = None if method is None else check_methods([name.strip() for name in method.split(",")])
    if evaluate is not None:
        check_choice("--evaluate", evaluate, EVALUATIONS)
    tolerance = parse_relative(trust.rel_error, "--rel-error")
    certify = None if trust.certify is None else parse_relative(trust.certify, "--certify")
    if methods is None and evaluate is None and any(spec.text == EACH_ROW for spec in request.specs):
        removed = request.tests is not None and request.tests.kind == REMOVED
        forced = why_exact(request.asked.quantity)
        exact, why = removed or bool(forced), "linear, one solve a test row"
        if exact:
            why = f"exact, as the quantity {forced}" if forced else "exact, one solve a row"
        common.note(f"{EACH_ROW}: --method {','.join(ROW_METHODS)} --evaluate {why}")
        how = Estimation(ROW_METHODS, "exact" if exact else "linear", tolerance, trust.errors, certify)
    else:
        how = Estimation(methods or DEFAULT_METHODS, evaluate or "exact", tolerance, trust.errors, certify)
    if certify is not None and REFINED not in how.methods:
        raise UsageError(f"--certify proves intervals of {REFINED}", hint=f"add {REFINED} to --method")
    if how.estimators:
        check_evaluate(request.asked.quantity, how.evaluate)
    return how


def reads_few(how: Estimation, trust: Trust) -> bool:
    """Whether the request needs only the groups' own rows, if the model's file has the sums over all rows."""
    return set(how.methods) <= {"first-koh", "first", "second", "newton", "rif"} and not (how.errors or trust.verify)


def warn_of_time(model: TrainedModel, plan: GroupPlan, how: Estimation, common: Common) -> None:
    """Announce that ``refined`` will take long, and what takes less."""
    if REFINED not in how.methods:
        return
    seconds = predicted_seconds(model, plan, REFINED_PASSES)
    if seconds > LONG:
        common.note(
            f"refined will take about {seconds:,.0f} s for {len(plan):,} groups; --method first,second takes much less"
        )


def is_quick(model: TrainedModel, plan: GroupPlan) -> bool:
    """Whether retraining without every group takes so little time that nobody would notice it."""
    return model.objective.convex and predicted_seconds(model, plan, RETRAINING_PASSES) < QUICK


def check_alone(
    asked: str, method: str | None, evaluate: str | None, trust: Trust, gate: Gate, written: Written, plot: str | None
) -> None:
    """Raises UsageError for options that ``asked`` (``--explain`` or ``--diagnostics``) has no use for."""
    check_ending(written.output, artifact=False)
    given = {
        "--method": method is not None,
        "--evaluate": evaluate is not None,
        "--errors": trust.errors,
        "--certify": trust.certify is not None,
        "--verify": bool(trust.verify),
        "--fail-above": gate.fail_above is not None,
        "--plot": plot is not None,
    }
    for option, used in given.items():
        if used:
            raise UsageError(f"{option} does not go with {asked}", hint="ask for either")


def write_explanation(
    question: Question, solver: HessianSolver, plan: GroupPlan, written: Written, common: Common
) -> int:
    """Explain the figure and write the explanation to standard output."""
    explanation = explain(question, solver, plan)
    columns = explanation.records(question.model).columns()
    heading_of = (
        explanation.group,
        int(plan.size[0]),
        question.quantity,
        explanation.asked,
        explanation.before,
        explanation.error,
    )
    emit(Answer(columns, lambda: explanation_page(columns, *heading_of)), written, common)
    return ExitCode.OK
