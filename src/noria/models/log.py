"""Keep a model with the run that made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from noria.client import fluent
from noria.models.folder import save
from noria.models.mlmodel import MLModel, Signature


def log_model(
    model: object,
    artifact_path: str = "model",
    *,
    input_example: Any = None,
    signature: Signature | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> MLModel:
    """Save a model as the active run's artifact `artifact_path`; `runs:/<run id>/<artifact_path>` is its name. See models.save."""
    with TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        written = save(model, target, input_example=input_example, signature=signature, metadata=metadata,
                       run_id=fluent.run_id(), artifact_path=artifact_path)  # fmt: skip
        fluent.log_artifacts(target, artifact_path)
    return written
