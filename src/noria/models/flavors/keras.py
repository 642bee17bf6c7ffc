"""Keras models, in the layout of MLflow's own flavor `keras`: configuration and weights, and loading runs no code (safe_mode).

data/model.keras        the zip archive that Keras 3 writes; any of its backends reads it
data/keras_module.txt   the module that MLflow imports
"""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.errors import Forbidden, Invalid, Unsupported
from noria.models.flavors import Saved, is_keras, numbers

if TYPE_CHECKING:
    import numpy as np

    from noria.models.predictor import Predict

LOADER = "mlflow.keras"
_FILE = "model.keras"
_BACKENDS = ("tensorflow", "torch", "jax")


def claims(model: object) -> bool:
    return is_keras(model)


def save(model: Any, data: Path) -> Saved:
    import keras

    (data / "keras_module.txt").write_text("keras")
    if not model.built:
        raise Invalid("This model has no weights yet: it does not know the shape of its input.",
                      "Call it or fit it once, or begin it with keras.Input(shape).")  # fmt: skip
    model.save(data / _FILE)
    backend = keras.backend.backend()
    entry = {"data": "data", "keras_version": keras.__version__, "keras_backend": backend, "save_exported_model": False}
    # MLflow's loader looks into its own entry.
    return Saved(entry, [f"keras=={keras.__version__}", f"{backend}=={_version(backend)}"], pyfunc={})


def _version(backend: str) -> str:
    return str(sys.modules[backend].__version__).partition("+")[0]


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool = False) -> Any:
    file = data / _FILE
    if not zipfile.is_zipfile(file):
        raise Unsupported(
            f"The model in {data} is no .keras file.", "Save it with model.save('model.keras'), or mlflow.keras.log_model."
        )
    pickles = sorted(path.name for path in data.glob("*.cloudpickle"))
    if pickles and not allow_pickle:
        raise Forbidden(f"The model in {data} comes with pickled classes ({', '.join(pickles)}): loading it would run whatever code "
                        "they hold.", _TRUST)  # fmt: skip
    _choose_backend(str(entry.get("keras_backend", "")))
    import keras

    try:
        return keras.saving.load_model(file, _pickled(data, pickles), compile=False, safe_mode=not allow_pickle)
    except (ValueError, TypeError, KeyError, OSError, ImportError, AttributeError) as error:
        raise _said(data, error) from None


_TRUST = "If you trust where it comes from, say so: --allow-pickle, or load(..., allow_pickle=True)."


def _said(data: Path, error: Exception) -> Forbidden | Unsupported | Invalid:
    """Keras tells these apart by its words alone."""
    text = " ".join(str(error).split())
    if "safe_mode" in text or "unsafe" in text:
        return Forbidden(f"The model in {data} holds Python code, as a Lambda layer does: loading it would run it.", _TRUST)
    if "Could not locate" in text or isinstance(error, ImportError):
        return Unsupported(f"The model in {data} needs code that is not here ({text:.160}).",
                           "Import what defines its classes before: @keras.saving.register_keras_serializable() makes them known.")  # fmt: skip
    return Invalid(f"The model in {data} cannot be read: {text:.200}.", "Save or download it again.")


def _pickled(data: Path, names: list[str]) -> dict[str, Any]:
    """The classes that mlflow.tensorflow pickled beside the model."""
    found: dict[str, Any] = {}
    for name in names:
        import cloudpickle

        found |= cloudpickle.loads((data / name).read_bytes())
    return found


def _choose_backend(made_with: str) -> None:
    """Keras takes TensorFlow unless it is told otherwise, even where only another one is installed."""
    if "keras" not in sys.modules and "KERAS_BACKEND" not in os.environ:
        there = [name for name in (made_with, *_BACKENDS) if name in _BACKENDS and find_spec(name)]
        if not there:
            raise Unsupported("Keras has no backend here.", "Install one of tensorflow, torch, jax.")
        os.environ["KERAS_BACKEND"] = there[0]


def predictor(model: Any) -> Predict:
    import keras

    def predict(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        out = model(numbers(batch), training=False)
        if not keras.ops.is_tensor(out):
            raise Invalid(f"The model answers with a {type(out).__name__}, not a tensor.", "Give it one output.")
        array: np.ndarray[Any, Any] = keras.ops.convert_to_numpy(out)
        return array

    return predict
