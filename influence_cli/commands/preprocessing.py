"""``--preprocessing``: whether means, scales, imputed values and class weights are made again without each group."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from time import perf_counter

from influence_cli.commands import output
from influence_cli.commands.options import Common
from influence_cli.commands.session import OpenModel
from influence_cli.errors import FileError, UsageError
from influence_cli.models.preprocessing import (
    FROZEN,
    NOT_ESTIMATED,
    PREPROCESSINGS,
    REFIT,
    Refit,
    Unfitted,
    moved_most,
    own_refit,
)
from influence_cli.specs.planned import GroupPlan

LONG = 10.0
"""Seconds above which the predicted time is announced."""


@dataclass(frozen=True)
class Prepared:
    """The model ``opened``, which fits its preprocessing again or keeps it; ``unfitted`` is the reason why it is kept
    although that was not ``asked`` for."""

    opened: OpenModel
    asked: str | None
    unfitted: Unfitted | None

    def config(self, *, estimates: bool = False, flips: bool = False) -> dict[str, str]:
        """What a result's file says about the preprocessing: for ``estimates``, for ``flips``, which keep it as it was
        fitted, or for retraining; nothing for a model without any."""
        refit = self.opened.model.refit
        if self.asked == FROZEN or self.unfitted is not None:
            return {"preprocessing": FROZEN}
        if refit is None:
            return {}
        return {"preprocessing": FROZEN if flips or (estimates and not refit.estimates) else REFIT}

    def note(self, groups: GroupPlan, common: Common, *, estimates: bool) -> None:
        """Write a line if estimates keep a preprocessing that the truth fits again, if it is kept altogether although a
        group has a large part in it, or if fitting it again takes long."""
        data, refit = self.opened.model.dataset, self.opened.model.refit
        self._note_time(groups, common, estimates=estimates)
        if self.unfitted is None and (refit is None or refit.estimates or not estimates):
            return
        most = moved_most(data.X_train, data.feature_names, groups.rows, groups.label)
        if most is None and self.unfitted is not None:
            return
        why = f"the preprocessing stays as it was fitted ({self.unfitted.reason})" if self.unfitted else NOT_ESTIMATED
        moves = ""
        if most is not None:
            group, feature, moved = most
            moves = f"; without {group} the mean or scale of {feature} moves by {moved:.0%} of its deviation"
        common.note(why + moves)

    def _note_time(self, groups: GroupPlan, common: Common, *, estimates: bool) -> None:
        refit = self.opened.model.refit
        if refit is None or refit.shared or len(groups) < 2 or (estimates and not refit.estimates):
            return
        for at in range(2):  # the first group waits for scikit-learn to be loaded, and no other does
            started = perf_counter()
            with suppress(FileError):
                refit.changed(groups.rows(at))
            seconds = (perf_counter() - started) * len(groups)
            if seconds <= LONG:
                return
        common.note(
            f"the preprocessing is made again for each of {len(groups):,} groups, which takes about"
            f" {seconds:,.0f} s and more for what follows; --preprocessing frozen keeps it as it was fitted"
        )


def check_preprocessing(asked: str | None) -> None:
    """Raises UsageError for an unknown word."""
    if asked is not None:
        output.check_choice("--preprocessing", asked, PREPROCESSINGS)


def prepare(opened: OpenModel, asked: str | None) -> Prepared:
    """Raises UsageError if ``asked`` is refit and the preprocessing cannot be fitted again."""
    if asked == FROZEN:
        return Prepared(opened, asked, None)
    model = opened.model
    refit: Refit | Unfitted | None
    if "from" in model.origin:
        from influence_cli.models.skops import brought_refit

        path = str(model.origin["from"])
        refit = brought_refit(model.dataset, model.settings, model.origin, opened.pipeline, path)
    else:
        refit = own_refit(model.dataset, model.settings, model.origin)
    if not isinstance(refit, Unfitted):
        return Prepared(replace(opened, model=model.changed(refit=refit)), asked, None)
    if asked == REFIT:
        raise UsageError(
            f"--preprocessing refit: the preprocessing of {opened.path} cannot be made again: {refit.reason}",
            hint="--preprocessing frozen keeps it as it was fitted",
        )
    return Prepared(opened, asked, refit)
