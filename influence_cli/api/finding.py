"""Searches for groups, the agreement of results, and reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from warnings import warn

import numpy as np

from influence_cli.api.asking import Asking
from influence_cli.api.words import check_choice, python_words
from influence_cli.core.selection.causes import DEEPEST
from influence_cli.core.selection.evaluate import AUTO, MERITS
from influence_cli.core.selection.pgd import CONSTRAINTS, L1
from influence_cli.core.selection.problem import DIRECTIONS
from influence_cli.errors import UsageError
from influence_cli.models.in_memory import provenance_of
from influence_cli.models.preprocessing import REFIT
from influence_cli.results import InfluenceResult, Provenance, SelectionResult, TruthResult
from influence_cli.specs.from_python import Groups, count_of_rows, pool_rows
from influence_cli.specs.relative import parse_relative
from influence_cli.tabular import Records

Result = InfluenceResult | TruthResult


@dataclass(frozen=True, eq=False, repr=False)
class Finding(Asking):
    """``Asking``, with methods that search for groups."""

    @python_words
    def select(
        self,
        size: int | float | Sequence[int] | None = None,
        X_test: Any = None,
        y_test: Any = None,
        *,
        at_most: bool = False,
        strategies: str | Sequence[str] | None = None,
        direction: str = "increase",
        quantity: str = "loss",
        mean: bool = False,
        within: Groups | None = None,
        candidates: Groups | None = None,
        flip: bool = False,
        flip_of: str = "sign",
        verify: bool = False,
        certify: float | str | None = None,
        draws: int = 100,
        rounds: int = 50,
        constraint: str = L1,
        merit: str = AUTO,
        preprocessing: str = REFIT,
        seed: int = 0,
    ) -> SelectionResult:
        """The groups of ``size`` rows (below 1: a share; ``at_most``: or fewer) that change the quantity most.

        There is a record for each test row, size and strategy, with the group's ``rows`` and, with ``verify``, the
        ``actual`` change by retraining (``preprocessing`` "refit": of the whole pipeline; rankings keep it).
        ``certify`` proves that it lies from ``low`` to ``high``, narrower than that share of it; ``proven`` says if the
        best is proven best of all compared, or a flip proven.  ``within`` are the rows that may be removed.
        ``candidates`` (as ``groups`` of ``influence``) are judged, and the best union of at most ``size`` (None: 1) is
        found.  ``flip`` finds the smallest group of at most ``size`` rows (None: half) whose removal, with retraining,
        changes the predicted class; for a coefficient (``quantity`` "param:NAME" or "t:NAME"), its sign or (``flip_of``
        "significance") significance at 5%.  ``strategies`` default to ("relinearize",), with candidates to ("greedy",
        "swap"); "all" omits "exact" if groups are too many.  See ``ginf select`` for the rest.  Raises UsageError.

        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(40, 2))
        >>> y = np.where(np.arange(40) == 7, 30.0, X[:, 0])
        >>> asked = {"quantity": "prediction", "direction": "decrease", "strategies": "greedy"}
        >>> GroupInfluence.fit(X, y, estimator="linear").select(1, X[:1], **asked).records()[0]["rows"]
        [7]
        """
        from influence_cli.analysis.flips import ask_flip, ranked
        from influence_cli.analysis.searches import followed
        from influence_cli.analysis.select import select

        _check_words(direction, constraint, merit)
        _check_flip(flip, flip_of, strategies is None and candidates is None and direction == "increase")
        how = _certified(certify, verify or flip)
        asked = "margin" if flip and self.model.dataset.classes and quantity == "loss" and y_test is None else quantity
        question = self._ask(X_test, y_test, asked, mean, preprocessing)
        question = ask_flip(question.model, question.tests, quantity, flip_of) if flip else ranked(question)
        how |= {"draws": draws, "rounds": rounds, "constraint": constraint, "merit": merit, "seed": seed}
        how |= {"verify": verify, "at_most": at_most}
        names, search = self._search(size, strategies, within, candidates, flip, how | {"direction": direction})
        search = followed(search, question, self.solver) if strategies is None else search
        kept = {"size": size, "quantity": quantity, "strategies": list(names), "within": within is not None, **how}
        kept |= {"flip": True, "flip_of": flip_of} if flip else {"direction": direction}
        return select(question, self.solver, search, provenance=provenance_of(question.model, _used(kept, names)))

    @python_words
    def describe(
        self,
        depth: int,
        X_test: Any = None,
        y_test: Any = None,
        *,
        support: int | float = 0.05,
        columns: str | None = None,
        top: int = 10,
        direction: str = "increase",
        quantity: str = "loss",
        mean: bool = False,
        verify: bool = False,
        preprocessing: str = REFIT,
    ) -> SelectionResult:
        """Groups described by up to ``depth`` conditions on the columns of a frame, with at least ``support`` rows
        (below 1: a share), whose removal changes the quantity most for their size.

        There is a record for each of the ``top`` best groups of a test row: ``group`` (a spec for ``influence`` and
        ``groundtruth``), ``estimate`` with its ``error``, ``per_percent`` (the change per percent of the rows removed,
        by which they are ordered) and, with ``verify``, ``actual``.  ``columns`` names the columns to use: "age,sex",
        or "age:4" to cut numbers into 4 parts.  Raises UsageError.
        """
        from influence_cli.analysis.causes import DescribedSearch
        from influence_cli.analysis.flips import ranked
        from influence_cli.analysis.select import Choice, select
        from influence_cli.specs.cells import cut_columns, plain_names

        check_choice("direction", direction, DIRECTIONS)
        if not (1 <= depth <= DEEPEST and top > 0):
            raise UsageError(f"expected a depth of 1 to {DEEPEST} and a top of at least 1, found {depth} and {top}")
        question = ranked(self._ask(X_test, y_test, quantity, mean, preprocessing))
        data = question.model.dataset
        least = count_of_rows(support, data.rows, data.rows)
        cut = cut_columns(data.columns_train, columns, least, without=plain_names(data))
        choice = Choice((), np.arange(data.rows), direction=direction, verify=verify)
        kept = {"describe": depth, "support": support, "columns": columns, "top": top, "quantity": quantity}
        provenance = provenance_of(question.model, kept | {"direction": direction, "verify": verify})
        search = DescribedSearch(choice, cut, depth, least, top)
        return select(question, self.solver, search, provenance=provenance)

    @python_words
    def curve(
        self,
        sizes: Sequence[int | float],
        X_test: Any = None,
        y_test: Any = None,
        *,
        strategy: str = "greedy",
        draws: int = 10,
        within: Groups | None = None,
        direction: str = "increase",
        quantity: str = "loss",
        mean: bool = False,
        verify: bool = False,
        preprocessing: str = REFIT,
        seed: int = 0,
    ) -> SelectionResult:
        """A removal curve: the group that the strategy finds for each size (below 1: a share of the rows).

        Records have its ``estimate``, ``error`` and, with ``verify``, ``actual``.  ``random_estimate`` and
        ``random_actual`` are the means over ``draws`` random groups of the same size, and ``.._spread`` the standard
        deviations.  Raises UsageError.
        """
        from influence_cli.analysis.curve import CurveSearch
        from influence_cli.analysis.flips import ranked
        from influence_cli.analysis.searches import check_strategies
        from influence_cli.analysis.select import Choice, select

        check_choice("direction", direction, DIRECTIONS)
        if strategy in ("all", "random"):
            raise UsageError(
                "a curve holds one strategy against random groups", hint="for example greedy or relinearize"
            )
        question = ranked(self._ask(X_test, y_test, quantity, mean, preprocessing))
        m = self.model.dataset.rows
        pool = np.arange(m) if within is None else pool_rows(self._plan(within, seed))
        counts = [count_of_rows(one, m, len(pool)) for one in sizes]
        how: dict[str, Any] = {"direction": direction, "draws": draws, "verify": verify, "seed": seed}
        search = CurveSearch(Choice(check_strategies([strategy]), pool, **how), counts)
        provenance = provenance_of(question.model, how | {"curve": counts, "strategies": [strategy]})
        return select(question, self.solver, search, provenance=provenance)

    def _search(
        self,
        size: Any,
        strategies: str | Sequence[str] | None,
        within: Groups | None,
        candidates: Groups | None,
        flip: bool,
        how: dict[str, Any],
    ) -> tuple[tuple[str, ...], Any]:
        """The strategies, and the search with them.  Raises UsageError."""
        from influence_cli.analysis.flips import FlipSearch
        from influence_cli.analysis.searches import (
            ALL,
            RowSearch,
            UnionSearch,
            check_strategies,
            drop_impossible,
        )
        from influence_cli.analysis.select import Choice

        if candidates is not None and within is not None:
            raise UsageError("within limits rows, and candidates are whole groups: use one of them")
        usual = ("relinearize",) if candidates is None else ("greedy", "swap")
        wanted = usual if strategies is None else [strategies] if isinstance(strategies, str) else list(strategies)
        names = check_strategies(list(wanted), of_groups=candidates is not None)
        m, seed = self.model.dataset.rows, how["seed"]
        pool = np.arange(m) if within is None else pool_rows(self._plan(within, seed))
        choice = Choice(names, pool, **how)
        if candidates is not None:
            plan = self._plan(candidates, seed)
            return names, UnionSearch(choice, [plan.group(at) for at in range(len(plan))], 1 if size is None else size)
        if flip:
            most = m // 2 if size is None else count_of_rows(size, m, len(pool))
            return (), FlipSearch(choice, min(most, len(pool), m - 1))
        if size is None:
            raise UsageError("size is needed: how many rows the group has", hint="for example size=10 or size=0.1")
        sizes = [count_of_rows(one, m, len(pool)) for one in (size if isinstance(size, Sequence) else [size])]
        if strategies == ALL:
            names, _ = drop_impossible(choice, sizes)
        return names, RowSearch(replace(choice, strategies=names), sizes)

    @staticmethod
    @python_words
    def compare(
        *results: Result,
        bootstrap: int = 1000,
        against: str | None = None,
        resample: str = "groups",
        seed: int = 0,
    ) -> Records:
        """The agreement of estimates with retraining, as the records of ``ginf compare``.

        ``results`` are those of ``influence`` and ``groundtruth``, or one of ``influence`` with ``verify``.

        >>> import numpy as np
        >>> X = np.random.default_rng(0).normal(size=(40, 1))
        >>> model = GroupInfluence.fit(X, 3.0 * X[:, 0], estimator="linear", l2=0.1)
        >>> found = model.influence("random:5x4", [[2.0]], quantity="prediction", verify=True)
        >>> round(model.compare(found).records()[-1]["slope"], 1)
        1.0
        """
        from influence_cli.analysis.compare import RESAMPLED, Settings, compare_each
        from influence_cli.analysis.matching import match_each

        check_choice("resample", resample, RESAMPLED)
        named = [(f"result {number}", result) for number, result in enumerate(results, 1)]
        _same_model(named)
        matched = match_each(named)
        check_choice("against", against, matched[0].methods)
        return compare_each(matched, Settings(bootstrap, seed, against, resample))

    @python_words
    def report(
        self, path: str, *results: Result | SelectionResult, top: int | None = None, force: bool = False
    ) -> None:
        """Write a report, .html or .md: the results in words, the model, and the meaning of the terms.

        Estimates and measured changes must be about the same test rows.
        """
        from influence_cli import __version__
        from influence_cli.artifacts.atomic import check_target, replacing
        from influence_cli.present.changes import View
        from influence_cli.present.report import ending_of, render
        from influence_cli.present.report_page import report_page
        from influence_cli.present.report_sections import Source

        ending = ending_of(path)
        check_target(path, force)
        kinds = {InfluenceResult: "influence", TruthResult: "truth", SelectionResult: "selection"}
        by, provenance = f"ginf {__version__}", provenance_of(self.model, {})
        named = [(f"result {number}", result) for number, result in enumerate(results, 1)]
        _same_model([(name, one) for name, one in named if not isinstance(one, SelectionResult)])
        sources = [Source("of Python", "model", by, self.model, provenance, None)]
        sources += [Source(name, kinds[type(one)], by, one, one.provenance, None) for name, one in named]
        page = report_page(sources, View(top=top), None, 0, warn)
        with replacing(path, force=force) as sink:
            sink.write(render(page, ending).encode("utf-8", "backslashreplace"))


def _certified(certify: float | str | None, retrained: bool) -> dict[str, Any]:
    """The option ``certify`` of a search.  Raises UsageError if it is not a share, or if nothing is retrained."""
    if certify is not None and not retrained:
        raise UsageError("certify proves what retraining found", hint="add verify=True")
    return {} if certify is None else {"certify": parse_relative(str(certify), "certify")}


def _check_flip(flip: bool, of: str, by_itself: bool) -> None:
    """Raises UsageError for arguments that exclude a flip, and for those that need one."""
    from influence_cli.analysis.flips import FLIPS, SIGN

    check_choice("flip_of", of, FLIPS)
    if of != SIGN and not flip:
        raise UsageError(f"flip_of {of} says what flip is about", hint="add flip=True")
    if flip and not by_itself:
        raise UsageError("flip searches by itself, towards the flip", hint="leave strategies and direction out")


def _used(kept: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The options that the strategies use.  A flip has no strategies, and its default quantity means the class."""
    from influence_cli.analysis.searches import USERS, options_of

    unused = {*USERS} - {*options_of(names)}
    if "flip" in kept:
        unused |= {"verify", "at_most", "strategies"}
        kept = kept | {"quantity": None if kept["quantity"] == "loss" else kept["quantity"]}
    return {option: value for option, value in kept.items() if option not in unused}


def _check_words(direction: str, constraint: str, merit: str) -> None:
    check_choice("direction", direction, DIRECTIONS)
    check_choice("constraint", constraint, CONSTRAINTS)
    check_choice("merit", merit, MERITS)


def _same_model(named: Sequence[tuple[str, Any]]) -> None:
    """Raises FileError if the results are of different models or data."""
    from influence_cli.artifacts.results import same_origin

    for name, one in named[1:]:
        first, other = (
            result if isinstance(result, Provenance) else result.provenance for result in (named[0][1], one)
        )
        same_origin(first, other, named[0][0], name)
