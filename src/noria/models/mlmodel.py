"""The file `MLmodel`: what a saved model is, in MLflow's YAML. Reading keeps what it does not know.

Format: MLflow documentation, "MLflow Models", section "Storage format"; compared with what MLflow 3.17 writes and reads.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from msgspec import Struct, field

from noria.errors import Invalid, NotFound
from noria.models import careful, schema
from noria.models.schema import Signature, TensorSpec

__all__ = ["FILE", "LAYOUT", "MLModel", "Signature", "TensorSpec", "dumps", "environment", "loads", "read", "write"]
FILE = "MLmodel"
LAYOUT = "3.1.0"
"""The release of MLflow whose layout is written; readers compare it with their own."""


class MLModel(Struct, frozen=True):
    """`flavors` maps a flavor's name to what its loader needs; `other` is everything else in the file, as it was read."""

    flavors: dict[str, dict[str, Any]]
    signature: Signature = Signature()
    model_uuid: str = field(default_factory=lambda: uuid4().hex)
    utc_time_created: str = field(default_factory=lambda: str(datetime.now(UTC).replace(tzinfo=None)))
    run_id: str = ""
    artifact_path: str = ""
    metadata: dict[str, Any] = {}
    other: dict[str, Any] = {}

    @property
    def size(self) -> int:
        """Bytes of the model's files; 0 if the file does not say."""
        return int(self.other.get("model_size_bytes") or 0)


def write(model: MLModel, folder: Path) -> None:
    (folder / FILE).write_text(dumps(model))


def dumps(model: MLModel) -> str:
    content: dict[str, Any] = {
        **model.other,
        "flavors": model.flavors,
        "mlflow_version": model.other.get("mlflow_version", LAYOUT),
        "model_uuid": model.model_uuid,
        "utc_time_created": model.utc_time_created,
    }
    if model.run_id:
        content["run_id"] = model.run_id
    if model.artifact_path:
        content["artifact_path"] = model.artifact_path
    if model.metadata:
        content["metadata"] = model.metadata
    if model.signature != Signature() and "signature" not in model.other:
        content["signature"] = model.signature.record()
    return str(yaml.safe_dump(content, sort_keys=True))


def read(folder: Path) -> MLModel:
    """Raises NotFound if this is no model's folder, Invalid if its MLmodel cannot be understood."""
    try:
        text = careful.text(folder / FILE)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise NotFound(f"{folder} is not a saved model: it has no file {FILE}.", "Give the folder that holds MLmodel.") from None
    return loads(text, str(folder / FILE))


def loads(text: str, source: str = FILE) -> MLModel:
    try:
        content = careful.parsed_yaml(text)
        if not isinstance(content, dict) or not isinstance(content.get("flavors"), dict):
            raise TypeError("it has no table of flavors")
        signature = content.get("signature") or {}
        return MLModel(
            flavors={str(name): dict(entry or {}) for name, entry in content["flavors"].items()},
            signature=schema.read(signature),
            model_uuid=str(content.get("model_uuid") or ""),
            utc_time_created=str(content.get("utc_time_created") or ""),
            run_id=str(content.get("run_id") or ""),
            artifact_path=str(content.get("artifact_path") or ""),
            metadata=dict(content.get("metadata") or {}),
            other={name: value for name, value in content.items() if name not in _OWN},
        )
    except (yaml.YAMLError, TypeError, ValueError, AttributeError, KeyError, RecursionError) as error:
        reason = f"{' '.join(str(error).split()):.300}"
        raise Invalid(f"{source} cannot be read as an MLmodel file: {reason}.", "Save or download the model again.") from None


_OWN = {"flavors", "model_uuid", "utc_time_created", "run_id", "artifact_path", "metadata"}


def environment(requirements: Sequence[str]) -> dict[str, str]:
    """The files by which MLflow rebuilds a model's environment: name to content."""
    python = platform.python_version()
    conda = {"name": "mlflow-env", "channels": ["conda-forge"],
             "dependencies": [f"python={python}", "pip", {"pip": list(requirements)}]}  # fmt: skip
    virtual = {"python": python, "build_dependencies": ["pip", "setuptools", "wheel"], "dependencies": ["-r requirements.txt"]}
    return {
        "requirements.txt": "".join(f"{line}\n" for line in requirements),
        "conda.yaml": str(yaml.safe_dump(conda, sort_keys=False)),
        "python_env.yaml": str(yaml.safe_dump(virtual, sort_keys=False)),
    }
