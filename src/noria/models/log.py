"""Keep a model with the run that made it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from noria.client import fluent, read
from noria.models.card import Facts
from noria.models.folder import save
from noria.models.mlmodel import MLModel, Signature
from noria.wire.spools import FRAME, Dataset, Log, decode, tagged


def log_model(
    model: object,
    artifact_path: str = "model",
    *,
    input_example: Any = None,
    signature: Signature | None = None,
    params: Mapping[str, Any] | None = None,
    card: str = "",
    metadata: Mapping[str, Any] | None = None,
) -> MLModel:
    """Save a model as the active run's artifact `artifact_path`; `runs:/<run id>/<artifact_path>` is its name. See models.save.

    Its card says what the run has logged in this process: its data sets, and the last values of its metrics.
    """
    with TemporaryDirectory() as folder:
        target = Path(folder) / "model"
        run_id = fluent.run_id()
        written = save(model, target, input_example=input_example, signature=signature, params=params, card=card, facts=_facts(),
                       metadata=metadata, run_id=run_id, artifact_path=artifact_path)  # fmt: skip
        fluent.log_artifacts(target, artifact_path)
    return written


def _facts() -> Facts:
    run = fluent.active_run()
    if run is None:
        return Facts()
    metrics, data = dict[str, float](), list[str]()
    for piece in read.pieces(run.spool.fd):
        for tag, begin, end in tagged(piece.frames):
            if tag in (Log.__struct_config__.tag, Dataset.__struct_config__.tag):
                record = decode(piece.frames[begin + FRAME.size : end])
                if isinstance(record, Log):
                    metrics |= record.metrics
                elif isinstance(record, Dataset):
                    data.append(f"{record.name} {record.digest} {record.context}".strip())
    return Facts(metrics, data)
