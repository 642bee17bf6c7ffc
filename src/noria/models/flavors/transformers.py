"""Pipelines and models of Hugging Face's transformers, in the layout of MLflow's own flavor: weights as safetensors, and no code.

model/                the model's configuration and weights
components/NAME/      a pipeline's tokenizer, image processor and so on

Code that comes with a model (trust_remote_code) is never run.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.errors import Forbidden, Invalid, Unsupported
from noria.models import careful
from noria.models.flavors import Saved, is_transformers

if TYPE_CHECKING:
    from noria.models.predictor import Predict

_MODEL, _PARTS = "model", ("tokenizer", "feature_extractor", "image_processor", "processor")
_TRUST = "If you trust where it comes from, say so: --allow-pickle, or load(..., allow_pickle=True)."
_MLFLOW = "mlflow.transformers"


def claims(model: object) -> bool:
    return is_transformers(model)


def save(model: Any, data: Path) -> Saved:
    import torch
    import transformers

    root, whole = data.parent, hasattr(model, "task")
    data.rmdir()
    network = model.model if whole else model
    network.save_pretrained(root / _MODEL)
    entry = {"model_data": _MODEL, "model_binary": _MODEL, "pipeline_model_type": type(network).__name__, "source_model_name": "", "code": None,
             "torch_dtype": str(network.dtype), "transformers_version": transformers.__version__}  # fmt: skip
    if whole:
        entry |= _parts(model, root) | {"task": model.task, "instance_type": type(model).__name__}
    needed = [f"transformers=={transformers.__version__}", f"torch=={torch.__version__.partition('+')[0]}",
              f"safetensors=={import_module('safetensors').__version__}"]  # fmt: skip
    return Saved(entry, needed, {"loader_module": _MLFLOW} if whole else {})


def _parts(pipeline: Any, root: Path) -> dict[str, Any]:
    found = {name: getattr(pipeline, name, None) for name in _PARTS}
    there = {name: part for name, part in found.items() if part is not None}
    for name, part in there.items():
        part.save_pretrained(root / "components" / name)
    return {
        "components": [name for name in there if name != "processor"],
        **{f"{name}_type": type(part).__name__ for name, part in there.items()},
    }


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool = False) -> Any:
    transformers = _library()
    root = data.parent
    place = root / str(entry.get("model_binary", _MODEL))
    _check(place, entry, allow_pickle)
    model = _class(transformers, entry.get("pipeline_model_type"), "PreTrainedModel").from_pretrained(
        place, local_files_only=True, trust_remote_code=False, use_safetensors=None if allow_pickle else True
    )
    model.eval()
    if "task" not in entry:
        return model
    names = [*(entry.get("components") or []), *(["processor"] if entry.get("processor_type") else [])]
    parts = {name: _part(transformers, root, name, entry) for name in names}
    return transformers.pipeline(str(entry["task"]), model=model, trust_remote_code=False, device="cpu", **parts)


def _library() -> Any:
    try:
        return import_module("transformers")
    except ImportError:
        raise Unsupported(
            "This model is one of transformers, which is not installed.", "pip install 'noria[transformers]'"
        ) from None


def _check(place: Path, entry: Mapping[str, Any], trusted: bool) -> None:
    """What would be fetched from elsewhere, and what would run code."""
    if not (place / "config.json").is_file():
        raise Unsupported(f"The model in {place.parent} does not hold its weights.", "Save it with save_pretrained=True.")
    if entry.get("peft_adaptor"):
        raise Unsupported(
            f"The model in {place.parent} is an adapter without its model.", "Merge it and save it again: merge_and_unload()."
        )
    if not trusted and not list(place.glob("*.safetensors")):
        raise Forbidden(f"The weights in {place} are no safetensors: loading them would read a pickle.", _TRUST)
    for file in (*place.rglob("*config.json"), *place.parent.glob("components/*/*.json")):
        content = careful.parsed_json(file, 64 * 2**20)
        if isinstance(content, dict) and content.get("auto_map"):
            raise Forbidden(
                f"{file} asks for code that comes with the model, which is never run.",
                "Use a model of a class that transformers has.",
            )


def _class(transformers: Any, name: object, base: str) -> Any:
    """A class of transformers by its name, which must be a model's."""
    found = getattr(transformers, str(name), None) if str(name).isidentifier() else None
    if not (isinstance(found, type) and issubclass(found, getattr(transformers, base))):
        raise Unsupported(
            f"transformers has no model '{str(name)[:80]}'.", "Install the version that the model's requirements name."
        )
    return found


def _part(transformers: Any, root: Path, name: str, entry: Mapping[str, Any]) -> Any:
    autos = {"tokenizer": "AutoTokenizer", "feature_extractor": "AutoFeatureExtractor", "image_processor": "AutoImageProcessor",
             "processor": "AutoProcessor"}  # fmt: skip
    if name not in autos:
        raise Unsupported(f"A pipeline has no part '{str(name)[:80]}'.", f"There are: {', '.join(autos)}.")
    place, kind = root / "components" / name, getattr(transformers, str(entry.get(f"{name}_type")), None)
    known = isinstance(kind, type) and kind.__module__.startswith("transformers.") and hasattr(kind, "from_pretrained")
    auto: Any = kind if known else getattr(transformers, autos[name])
    return auto.from_pretrained(place, local_files_only=True, trust_remote_code=False)


def predictor(model: Any) -> Predict:
    return _of_pipeline(model) if hasattr(model, "task") else _of_model(model)


def _of_model(model: Any) -> Predict:
    """Arrays by the names of the model's arguments in; the first of what it answers out. One array is the first argument's."""
    import numpy as np
    import torch

    @torch.inference_mode()
    def predict(batch: Any) -> Any:
        given = batch if isinstance(batch, Mapping) else {model.main_input_name: batch}
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in given.items()}
        return model(**tensors, return_dict=True)[0].numpy()

    return predict


def _of_pipeline(pipeline: Any) -> Predict:
    """Texts or tables of them in, rows of a table out, as MLflow answers for the tasks that it knows."""

    def predict(batch: Any, params: Mapping[str, Any] | None = None) -> Any:
        asked = _asked(batch)
        return _rows(pipeline(asked, **(params or {})), len(asked) if isinstance(asked, list) else 1)

    return predict


def _asked(batch: Any) -> Any:
    """What a pipeline is called with: a list of texts, arrays or records."""
    if hasattr(batch, "columns"):
        if len(batch.columns) == 1:
            return batch.iloc[:, 0].tolist()
        return batch.to_dict(orient="records")
    if isinstance(batch, Mapping):
        return dict(batch)
    array = batch.ravel() if batch.ndim == 2 and batch.shape[1] == 1 else batch
    return array.tolist() if array.dtype.kind in "UOS" else list(array)


def _rows(answers: Any, count: int) -> Any:
    pandas = sys.modules.get("pandas") or import_module("pandas")
    if isinstance(answers, dict):
        return pandas.DataFrame([answers])
    if (
        isinstance(answers, list)
        and answers
        and all(isinstance(each, list) and len(each) == 1 and isinstance(each[0], dict) for each in answers)
    ):
        answers = [each[0] for each in answers]
    if isinstance(answers, list) and answers and all(isinstance(each, dict) for each in answers):
        if len(answers[0]) == 1 and isinstance(next(iter(answers[0].values())), str):
            return [next(iter(each.values())) for each in answers]
        return pandas.DataFrame(answers)
    if not isinstance(answers, list | dict):
        raise Invalid(f"The pipeline answers with a {type(answers).__name__}.", "Use one that answers with records.")
    return answers


class _PyFunc:
    """What mlflow.pyfunc calls for a model without a pipeline."""

    def __init__(self, model: Any) -> None:
        self._predict = predictor(model)

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        return self._predict(data)


def _load_pyfunc(path: str) -> _PyFunc:
    """path: the model's folder."""
    return _PyFunc(load(Path(path) / _MODEL, {"model_data": _MODEL, **_entry(Path(path))}))


def _entry(root: Path) -> dict[str, Any]:
    from noria.models import mlmodel

    return mlmodel.read(root).flavors["transformers"]
