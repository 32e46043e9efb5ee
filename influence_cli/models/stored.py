"""Trained models to their files and back."""

from __future__ import annotations

from influence_cli.artifacts.model import ModelArtifact, load_model, save_model
from influence_cli.artifacts.storage import invalid
from influence_cli.errors import GinfError, UsageError
from influence_cli.models.linked import linked_rows
from influence_cli.models.settings import ModelSettings
from influence_cli.models.trained import TrainedModel


def store(
    path: str,
    model: TrainedModel,
    *,
    force: bool,
    link: dict[str, str] | None = None,
    pipeline: bytes | None = None,
) -> ModelArtifact:
    """Write a trained model to ``path`` and return the artifact.

    ``link`` describes data that is not stored but read from elsewhere, if any; ``pipeline`` holds the bytes of the
    .skops file that the model comes from, if any.
    """
    artifact = ModelArtifact(
        dataset=model.dataset,
        theta=model.theta[:, 0],
        residuals=model.residuals,
        factor=model.factor,
        settings={**model.settings.as_dict(), **model.origin},
        training={"grad_norm": model.grad_norm, "iterations": model.iterations, "seconds": model.seconds},
        link=link,
        pipeline=pipeline,
        kept=model.kept,
    )
    save_model(path, artifact, force=force)
    return artifact


def stored(path: str) -> tuple[TrainedModel, ModelArtifact]:
    """The model in a file, and the whole artifact.  Raises FileError."""
    artifact = load_model(path, fetch=linked_rows)
    try:
        settings = ModelSettings.from_dict(artifact.settings)
    except UsageError as error:
        raise invalid(path, "model", {"@config": error.message}) from error
    model = TrainedModel(
        artifact.dataset,
        settings,
        artifact.theta[:, None],
        artifact.residuals,
        artifact.training["grad_norm"],
        artifact.training["iterations"],
        artifact.training["seconds"],
        artifact.factor,
        {key: value for key, value in artifact.settings.items() if key not in settings.as_dict()},
    )
    try:
        model.check(artifact.kept)
    except GinfError as error:
        raise invalid(path, "model", {"@config": error.message}) from error
    return model, artifact
