"""TensorFlow's SavedModels, in the layout of MLflow's own flavor `tensorflow`: a tf.Module, a model of tf_keras among them.

data/tf2model    saved_model.pb and variables/. It is a program: it is loaded if what it can run computes, without files and without Python

A model of Keras that mlflow.tensorflow saved is Keras's own file, and loaded as the flavor `keras` loads it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.errors import Forbidden, Invalid, NoriaError, Unsupported
from noria.models.flavors import FLAVORS, TRUST, Saved, damaged, is_keras, kept, library, numbers
from noria.models.predictor import Predict
from noria.models.sound import savedmodel

LOADER = "mlflow.tensorflow"
_FOLDER = "data/tf2model"
_MODULE = "tf2-module"
_DEFAULT = "serving_default"
_LARGEST = 2**31 - 1


def claims(model: object) -> bool:
    module = getattr(sys.modules.get("tensorflow"), "Module", None)
    return module is not None and isinstance(model, module) and not is_keras(model)


def save(model: Any, data: Path) -> Saved:
    tensorflow = library("tensorflow", "tensorflow")
    try:
        tensorflow.saved_model.save(model, str(data / "tf2model"))
    except (ValueError, TypeError, AssertionError) as error:
        raise Invalid(
            f"This model cannot be saved ({' '.join(str(error).split()):.200}).", "Give __call__ an input_signature."
        ) from None
    entry = {"saved_model_dir": _FOLDER, "model_type": _MODULE, "code": None}
    return Saved(entry, [f"tensorflow=={tensorflow.__version__}"], pyfunc={})  # MLflow's loader looks into its own entry.


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool = False) -> Any:
    if "saved_model_dir" not in entry:
        return FLAVORS.get("keras").load(kept(data, entry.get("data", "data")), entry, allow_pickle)
    if entry.get("model_type", _MODULE) != _MODULE:
        raise Unsupported("The model is an estimator of TensorFlow 1.", "Save it anew, as a tf.Module.")
    folder = kept(data, entry["saved_model_dir"])
    tensorflow = library("tensorflow", "tensorflow")
    try:
        _check(folder, allow_pickle)
        return tensorflow.saved_model.load(str(folder))
    except NoriaError:
        raise
    except Exception as error:  # Of many kinds, for a graph that is none.
        raise damaged(folder, error) from None


def _check(folder: Path, trusted: bool) -> None:
    operations = library("tensorflow.python.framework.op_def_registry", "tensorflow")
    model = library("tensorflow.core.protobuf.saved_model_pb2", "tensorflow").SavedModel()
    root, file = folder.resolve(), folder / "saved_model.pb"
    if strange := [path for path in folder.rglob("*") if not path.resolve().is_relative_to(root)]:
        raise Invalid(
            f"The model in {folder} points to data outside of its folder ({strange[0].name}).", "Do not trust it; get it again."
        )
    if not file.is_file() or len(list(folder.glob("saved_model.*"))) != 1 or file.stat().st_size > _LARGEST:
        raise damaged(folder, "it is not one saved_model.pb")
    try:
        model.ParseFromString(file.read_bytes())
    except Exception as error:  # Protobuf's own.
        raise damaged(file, error) from None

    def stateful(op: str) -> bool | None:
        known = operations.get(op)
        return None if known is None else bool(known.is_stateful)

    try:
        if not trusted:
            savedmodel.check(model, stateful)
    except ValueError as error:
        raise Forbidden(f"The SavedModel in {folder} does more than to compute: {error}.", TRUST) from None


def predictor(model: Any) -> Predict:
    """Several inputs come as a dict of arrays, by the names of the signature; several outputs go as one."""
    if is_keras(model):
        return FLAVORS.get("keras").predictor(model)
    tensorflow = library("tensorflow", "tensorflow")
    signature = getattr(model, "signatures", {}).get(_DEFAULT)
    specs = signature.structured_input_signature[1] if signature else {}

    def predict(batch: Any) -> Any:
        try:
            if isinstance(batch, dict):
                given = {name: _tensor(tensorflow, array, specs.get(name)) for name, array in batch.items()}
                return _answer(tensorflow, (signature or model)(**given))
            tensor = _tensor(tensorflow, numbers(batch), next(iter(specs.values())) if len(specs) == 1 else None)
            return _answer(
                tensorflow, model(tensor) if callable(model) else model.signatures[_DEFAULT](**dict.fromkeys(specs, tensor))
            )
        except (ValueError, TypeError, KeyError, tensorflow.errors.OpError) as error:
            raise Invalid(
                f"The model does not take this input ({' '.join(str(error).split()):.200}).", "Send what it was made for."
            ) from None

    return predict


def _tensor(tensorflow: Any, array: Any, spec: Any) -> Any:
    dtype = spec.dtype if spec is not None and getattr(array, "dtype", None) is not None and array.dtype.kind in "fiu" else None
    return tensorflow.convert_to_tensor(array if dtype is None else array.astype(dtype.as_numpy_dtype))


def _answer(tensorflow: Any, out: Any) -> Any:
    if tensorflow.is_tensor(out):
        return out.numpy()
    found = dict(out) if isinstance(out, Mapping) else {f"output_{at}": each for at, each in enumerate(out)}
    answers = {str(name): each.numpy() for name, each in found.items()}
    return next(iter(answers.values())) if len(answers) == 1 else answers
