"""Saving, loading and naming model folders."""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec

from noria.errors import AlreadyExists, Invalid, NotFound, Unsupported
from noria.models import mlmodel
from noria.models.flavors import FLAVORS
from noria.models.mlmodel import MLModel, Signature, TensorSpec
from noria.models.predictor import Predictor
from noria.version import __version__

DATA = "data"


def save(
    model: object,
    folder: str | Path,
    *,
    input_example: Any = None,
    signature: Signature | None = None,
    metadata: Mapping[str, Any] | None = None,
    run_id: str = "",
    artifact_path: str = "",
) -> MLModel:
    """Save a model as a folder that Noria and `mlflow.pyfunc.load_model` read; it appears whole or not at all.

    input_example: a small batch, [n, ...]; it is kept, and the signature is taken from it and from the model's answer.
    Raises Unsupported if no flavor claims the model, AlreadyExists if there is such a folder.
    """
    target = Path(folder)
    if target.exists():
        raise AlreadyExists(f"{target} exists already.", "Choose another folder; a saved model is never overwritten.")
    name = next((name for name in FLAVORS.names() if FLAVORS.get(name).claims(model)), None)
    if name is None:
        raise Unsupported(f"No flavor claims a {type(model).__qualname__}.", f"There are: {', '.join(FLAVORS.names())}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        written = _write(model, name, beside, input_example, signature)
        written = msgspec.structs.replace(written, metadata=dict(metadata or {}), run_id=run_id, artifact_path=artifact_path)
        mlmodel.write(written, beside)
        beside.chmod(0o755)
        beside.rename(target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return written


def _write(model: object, name: str, folder: Path, example: Any, signature: Signature | None) -> MLModel:
    flavor = FLAVORS.get(name)
    (folder / DATA).mkdir()
    saved = flavor.save(model, folder / DATA)
    other: dict[str, Any] = {}
    if example is not None:
        other["saved_input_example_info"] = _write_example(example, folder)
        signature = signature or _infer(flavor.predictor(model), model, example)
    requirements = [f"noria=={__version__}", "numpy", *saved.requirements]
    for file, content in mlmodel.environment(requirements).items():
        (folder / file).write_text(content)
    module = FLAVORS.module(name)
    pyfunc = {
        "loader_module": getattr(module, "LOADER", module.__name__),
        **({"data": DATA} if saved.pyfunc is None else saved.pyfunc),
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "python_version": platform.python_version(),
    }
    other["model_size_bytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return MLModel(
        flavors={"python_function": pyfunc, name: {"model_data": DATA, **saved.entry}},
        signature=signature or Signature(),
        other=other,
    )


def _write_example(example: Any, folder: Path) -> dict[str, str]:
    rows = example.tolist()
    (folder / "input_example.json").write_text(json.dumps(rows))
    (folder / "serving_input_example.json").write_text(json.dumps({"inputs": rows}))
    return {"artifact_path": "input_example.json", "serving_input_path": "serving_input_example.json", "type": "ndarray"}


def _infer(predict: Any, model: Any, example: Any) -> Signature:
    training = getattr(model, "training", False)
    if training:
        model.eval()  # Dropout and running statistics must neither change the answer nor be changed by it.
    try:
        answer = predict(example)
    finally:
        if training:
            model.train()
    inputs, outputs = (TensorSpec(_kind(array), (-1, *array.shape[1:])) for array in (example, answer))
    return Signature((inputs,), (outputs,))


def _kind(array: Any) -> str:
    """Its dtype's name; of texts without their length, which is that of the longest one here."""
    return "str" if array.dtype.kind == "U" else str(array.dtype)


def load(folder: str | Path, *, allow_pickle: bool = False) -> Predictor:
    """The model of a folder that Noria or MLflow saved.

    Raises NotFound if there is none, Forbidden if loading it would run code from the folder and `allow_pickle` is not
    given, Unsupported if no flavor here reads it.
    """
    path = Path(folder)
    described = mlmodel.read(path)
    known = ((name, key) for name in FLAVORS.names() for key in (name, *getattr(FLAVORS.module(name), "ALSO", ())))
    name, key = next(((name, key) for name, key in known if key in described.flavors), ("", ""))
    if not name:
        raise Unsupported(f"The model in {path} has the flavors {', '.join(described.flavors)}; none of them is readable here.",
                          f"Readable are: {', '.join(FLAVORS.names())}.")  # fmt: skip
    flavor, entry = FLAVORS.get(name), described.flavors[key]
    data = path / str(entry.get("model_data", DATA))
    if not data.resolve().is_relative_to(path.resolve()):
        raise Invalid(f"The model in {path} points to data outside of its folder.", "Do not trust it; get it again.")
    model = flavor.load(data, entry, allow_pickle)
    return Predictor(path, described, model, flavor.predictor(model))


def digest(folder: str | Path) -> str:
    """SHA-256, in hex, over the relative paths (sorted) and contents of all files: two folders are one model if it is equal."""
    root = Path(folder)
    files = sorted((path.relative_to(root).as_posix(), path) for path in root.rglob("*") if path.is_file())
    if not files:
        raise NotFound(f"There is no model in {root}.", "Check the path.")
    whole = hashlib.sha256()
    for name, path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        whole.update(f"{len(name.encode())}:{name}".encode() + content)
    return whole.hexdigest()
