"""``--if-exists``: what happens in a run whose file of results already exists.

A file is kept only if it shows that it answers the same question: the same version of ginf, data, model, options, and
the same rows as groups.  If something cannot be determined, the file is not kept.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from influence_cli import __version__
from influence_cli.artifacts.atomic import check_target
from influence_cli.artifacts.opening import generated_by
from influence_cli.artifacts.results import load_influence, load_truth, same_origin
from influence_cli.artifacts.selection import load_selection
from influence_cli.commands import output
from influence_cli.commands.options import IF_EXISTS, KEEP, REFUSE, Common
from influence_cli.data.dataset import Dataset
from influence_cli.errors import FileError, UsageError
from influence_cli.models.stored import stored
from influence_cli.models.trained import TrainedModel
from influence_cli.results import PENDING, InfluenceResult, Provenance, SelectionResult, TruthResult
from influence_cli.specs.planned import GroupPlan

HINT = "name another file, or replace this one with --if-exists replace"
RESUME_HINT = "repeat the command that made it, or start over with --force"
SAME_MODEL = 1e-9
"""Relative difference allowed between the parameters of one imported model that was polished twice."""


def check_outputs(
    common: Common, outputs: Mapping[str, str | None], inputs: Iterable[str | None], files: Collection[str] = ()
) -> bool:
    """As ``output.check_outputs``; returns whether the file of ``-o`` exists and may be kept instead of computed."""
    check(common, outputs["-o"], files)
    keeps = is_kept(common, outputs["-o"])
    output.check_outputs(outputs, inputs, force=common.replaces or keeps)
    for option, path in outputs.items():
        if keeps and option != "-o" and path is not None:
            check_target(path, force=False)
    return keeps


def check(common: Common, path: str | None, files: Collection[str] = ()) -> None:
    """Raises UsageError for an ``--if-exists`` that cannot be obeyed, before any work is done; ``files`` are files of
    groups whose digests the results do not store."""
    output.check_choice("--if-exists", common.if_exists, IF_EXISTS)
    if common.force and common.if_exists != REFUSE:
        raise UsageError("--force and --if-exists exclude each other", hint="leave --force out")
    if common.if_exists != KEEP:
        return
    if not output.is_artifact(path):
        raise UsageError(
            "--if-exists keep needs a .h5 file, which says what it was made of, and"
            f" {'none was named' if path is None else f'{path} is none'}",
            hint="name it with -o FILE.h5" if path is None else "name a .h5 file, or write again: --if-exists replace",
        )
    if files:
        raise UsageError(
            f"--if-exists keep: whether {next(iter(files))} holds the same rows as before cannot be told",
            hint="leave --if-exists out, or name the groups themselves",
        )


def is_kept(common: Common, path: str | None) -> bool:
    """Whether the file exists and is to be kept if it answers the question."""
    return common.if_exists == KEEP and path is not None and Path(path).exists()


def influence_in(path: str, now: Provenance, plan: GroupPlan, tests: np.ndarray, common: Common) -> InfluenceResult:
    """The estimates in the file.  Raises FileError if they answer another question."""
    result = load_influence(path)
    check_same(path, result.provenance, now, "kept", HINT)
    digests = plan.table([plan.group(index).digest for index in range(len(plan))] if not plan.each_row else ()).digest
    check_rows(path, result, digests, tests, "kept", HINT)
    say_kept(path, common)
    return result


def truth_in(path: str, fresh: TruthResult, common: Common, *, keeps: bool) -> TruthResult | None:
    """The results in the file of the run that ``fresh`` would start, in order to keep it or to continue it
    (``--resume``); None if there is no file.  Raises FileError if the file belongs to another run."""
    if not Path(path).exists():
        common.note(f"there is no {path} to go on with: starting it")
        return None
    truth = load_truth(path)
    purpose, hint = ("kept", HINT) if keeps else ("resumed", RESUME_HINT)
    # auto continues with the solver with which the file was started
    free = () if "solver" in fresh.provenance.config else ("solver",)
    check_same(path, truth.provenance, fresh.provenance, purpose, hint, free)
    check_rows(path, truth, fresh.groups.digest, fresh.tests, purpose, hint if keeps else "start over with --force")
    left = sum(state == PENDING for state in truth.status)
    if keeps and not left:
        say_kept(path, common)
    else:
        common.note(f"resuming {path}: {len(truth.status) - left} of {len(truth.status)} groups are done")
    return truth


def selection_in(path: str, now: Provenance, common: Common) -> SelectionResult:
    """The selected groups in the file.  Raises FileError if they answer another question."""
    result = load_selection(path)
    check_same(path, result.provenance, now, "kept", HINT)
    say_kept(path, common)
    return result


def model_in(
    path: str,
    dataset: Dataset,
    settings: Mapping[str, Any],
    link: Mapping[str, str] | None,
    common: Common,
    theta: np.ndarray | None = None,
) -> TrainedModel:
    """The model in the file, for these data and ``settings``, which include the origin of the data; ``theta`` (P, 1)
    are the parameters of an imported model.  Raises FileError if it is a different model."""
    model, artifact = stored(path)
    _check_version(path)
    for key in dict.fromkeys((*settings, *artifact.settings)):
        if artifact.settings.get(key) != settings.get(key):
            _refuse(path, f"it was made with {key} {artifact.settings.get(key)!r}, not {settings.get(key)!r}")
    if model.dataset.digest != dataset.digest:
        _refuse(path, "its data are others")
    if (artifact.link is None) != (link is None):
        _refuse(path, f"it {'holds' if artifact.link is None else 'is linked to'} its data")
    if theta is not None and not np.allclose(model.theta, theta, rtol=SAME_MODEL, atol=SAME_MODEL):
        _refuse(path, "its parameters are others")
    say_kept(path, common)
    return model


def check_same(
    path: str, was: Provenance, now: Provenance, purpose: str, hint: str, free: Collection[str] = ()
) -> None:
    """Raises FileError, which says that the file cannot be ``purpose`` (kept, resumed), if its provenance differs from
    that of a run of ``now`` in more than the paths of files and the keys ``free``."""
    if purpose == "kept":
        _check_version(path)
    same_origin(was, now, path, now.config["model"])
    for key in dict.fromkeys((*now.config, *was.config)):
        if key not in ("model", "asked", *free) and was.config.get(key) != now.config.get(key):
            raise FileError(
                f"{path} cannot be {purpose}: it was made with {key} {was.config.get(key)!r},"
                f" not {now.config.get(key)!r}",
                hint=hint,
            )


def check_rows(
    path: str,
    kept: InfluenceResult | TruthResult,
    digests: Collection[str],
    tests: np.ndarray,
    purpose: str,
    hint: str,
) -> None:
    """Raises FileError if the groups' rows or the test rows in the file are different ones."""
    if tuple(kept.groups.digest) != tuple(digests) or kept.tests.tolist() != tests.tolist():
        raise FileError(f"{path} cannot be {purpose}: its groups or test rows are others", hint=hint)


def say_kept(path: str, common: Common) -> None:
    """Say that nothing was computed, and since when the file is there."""
    since = datetime.fromtimestamp(Path(path).stat().st_mtime).astimezone().isoformat(" ", "minutes")
    common.note(
        f"{path} is kept as it is, of {since}: it was made of the same data by the same command (--if-exists keep)"
    )


def _check_version(path: str) -> None:
    if (made_by := generated_by(path)) != f"ginf {__version__}":
        _refuse(path, f"it was made by {made_by}, and this is ginf {__version__}")


def _refuse(path: str, why: str) -> None:
    raise FileError(f"{path} cannot be kept: {why}", hint=HINT)
