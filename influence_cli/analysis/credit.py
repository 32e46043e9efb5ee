"""Shapley and Banzhaf values of groups: each coalition is retrained as the removal of all other groups."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from influence_cli.analysis.groundtruth import Retraining, groundtruth, is_an_answer, start_truth
from influence_cli.analysis.question import Question
from influence_cli.core.credit import SHAPLEY, Coalitions, coalitions, credit
from influence_cli.core.objectives.glm import Glm
from influence_cli.core.solvers.choice import HessianSolver
from influence_cli.core.training import train
from influence_cli.errors import UsageError
from influence_cli.results import TruthResult
from influence_cli.specs.groups import shown
from influence_cli.specs.planned import GroupPlan, PlannedGroup

LEAST_DRAWS = 4
"""Smallest number of draws with a standard error: two, each with its reverse."""
MOST_GROUPS = 1000
"""Groups up to which draws are made: each draw retrains as many coalitions as there are groups."""


@dataclass(frozen=True)
class Crediting:
    """What is requested: ``kind`` of ``core.credit.CREDITS``; for many groups the number of draws and their seed."""

    kind: str
    draws: int
    seed: int


def check_draws(draws: int) -> None:
    """Raises UsageError for a number of draws that has no standard error."""
    if draws < LEAST_DRAWS or draws % 2:
        raise UsageError(
            f"--draws {draws}: expected an even number of at least {LEAST_DRAWS}",
            hint="each draw is followed by its opposite",
        )


@dataclass(frozen=True)
class Game:
    """The groups as players: their coalitions, which of them are ``trained`` (C,), and the removals that leave these.

    ``outside`` counts the rows of no group, which stay in every coalition.
    """

    chosen: Coalitions
    kind: str
    trained: np.ndarray
    removals: GroupPlan
    outside: int


def game_of(question: Question, plan: GroupPlan, asked: Crediting) -> Game:
    """Raises UsageError for groups that share rows, and for a figure that differs by group."""
    if question.by_group:
        what = "--test removed" if question.of_removed else f"--quantity {question.quantity}"
        raise UsageError(f"--credit divides one figure, and {what} is another one for each group")
    if len(plan) > MOST_GROUPS:
        raise UsageError(
            f"--credit {asked.kind} of {len(plan):,} groups: expected at most {MOST_GROUPS:,}",
            hint="a draw retrains one coalition a group; rows:each --method rif estimates what every row does",
        )
    rows = [plan.rows(index) for index in range(len(plan))]
    owner = np.full(plan.m, -1)
    for number, member in enumerate(rows):
        shared = member[owner[member] >= 0]
        if len(shared):
            other = plan.label[owner[shared[0]]]
            raise UsageError(
                f"--credit {asked.kind} divides the figure among groups that share no row, and {shown(other)} and"
                f" {shown(plan.label[number])} share {len(shared):,} rows",
                hint="name the parts of one partition, such as --group by:COLUMN",
            )
        owner[member] = number
    chosen = coalitions(asked.kind, len(plan), asked.draws, asked.seed)
    weights = question.model.objective.weights
    outside = owner < 0
    heavy = np.array([weights[member].any() for member in rows])
    # Without a row of positive weight there is nothing to train on, and with all rows nothing to retrain.
    held = np.any(chosen.member[:, heavy], axis=1) | bool(weights[outside].any())
    trained = held & ~chosen.member.all(axis=1)
    removals = [_complement(rows, members) for members in chosen.member[trained]]
    return Game(chosen, asked.kind, trained, GroupPlan(tuple(removals), plan.m), int(outside.sum()))


def with_credit(
    result: TruthResult,
    game: Game,
    question: Question,
    solver: HessianSolver,
    how: Retraining,
    *,
    advance: Callable[[int], None] = lambda coalitions: None,
) -> tuple[TruthResult, str]:
    """The result with the groups' values, and a sentence about their sum: the same question is put to every coalition,
    which is retrained as ``how`` says."""
    partial = start_truth(question, game.removals, result.provenance, repeats=how.repeats)
    retrained = groundtruth(question, solver, game.removals, partial, replace(how, certify=None), advance=advance)
    shape = len(game.chosen.member), len(question)
    value, error, unbounded = np.zeros(shape), np.zeros(shape), np.zeros(shape, dtype=bool)
    answered = np.array([is_an_answer(status) for status in retrained.status], dtype=bool)
    value[game.trained] = np.where(answered[:, None], retrained.actual, np.nan)
    if retrained.actual_error is not None:
        error[game.trained] = np.nan_to_num(retrained.actual_error)
    if retrained.unbounded is not None:
        unbounded[game.trained] = retrained.unbounded
    value[~game.trained & ~game.chosen.member.all(axis=1)] = change_of_nothing(question)
    values = credit(game.chosen, value, error, unbounded)
    keys = {game.kind: values.value, f"{game.kind}_error": values.off}
    alone = value[~game.chosen.member.any(axis=1)]
    count = len(game.removals)
    said = f"{'1 model was' if count == 1 else f'{count:,} models were'} trained for {game.kind}"
    if game.kind == SHAPLEY:
        said += "; " + _efficiency(values.value.sum(axis=0), alone[0])
    return replace(result, credit=keys, credit_state=values.state), said


def _efficiency(total: np.ndarray, without_all: np.ndarray) -> str:
    """The sentence that the Shapley values (T,) add up to the change without any of the groups, as they must."""
    if np.isnan(total).any():
        return f"values are null for {np.isnan(total).sum():,} of {total.size:,} figures, whose sum is not checked"
    off = np.abs(total - without_all).max()
    many = total.size > 1
    of = f"of each of {total.size:,} figures " if many else ""
    to = "f without all groups minus f now" if many else f"{total[0]:+.6g}, which is f without all groups minus f now"
    return f"{of}the values add up to {to}, to within {off:.1g}"


def change_of_nothing(question: Question) -> np.ndarray:
    """f of a model trained on no rows minus f now, (T,): its parameters are 0 except that, without an intercept
    penalty, its constant outputs fit all training rows best."""
    objective = question.model.objective
    alone = Glm(np.zeros((len(objective.y), 1)), objective.y, objective.family, l2=1.0, weights=objective.weights)
    constant = train(alone, tol=1e-10).theta.reshape(objective.outputs, 2)[:, 1]
    theta = objective.free_intercepts(constant[None])
    return (question.value(theta) - question.value(question.model.theta))[:, 0]


def _complement(rows: list[np.ndarray], member: np.ndarray) -> PlannedGroup:
    """The removal of all groups outside a coalition ``member`` (n,)."""
    gone = np.flatnonzero(~member)
    name = f"all but {np.flatnonzero(member).tolist()}"
    size = sum(len(rows[at]) for at in gone)
    return PlannedGroup(name, "coalition", size, (name, 0), partial(_together, rows, gone))


def _together(rows: list[np.ndarray], which: np.ndarray) -> np.ndarray:
    return np.sort(np.concatenate([rows[at] for at in which]))
