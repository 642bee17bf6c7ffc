"""Functions and MLflow's PythonModels: a pickle, so loading it runs what it says. In the layout of MLflow's own `mlflow.pyfunc.model`.

python_model.pkl    cloudpickle of a PythonModel, or of a function of a batch
artifacts/, code/   what it needs besides

Whatever else MLflow's pyfunc loads and no file here knows by name is loaded by it, for who trusts it.
"""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

from noria.errors import Forbidden, Invalid, Unsupported
from noria.models.flavors import Saved
from noria.models.wrapped import Custom

if TYPE_CHECKING:
    from noria.models.predictor import Predict

_FILE = "python_model.pkl"
_MLFLOW = "mlflow.pyfunc.model"
_TRUST = "If you trust where it comes from, say so: --allow-pickle, or load(..., allow_pickle=True)."


def claims(model: object) -> bool:
    return isinstance(model, Custom | FunctionType) or _is_python_model(model)


def _is_python_model(model: object) -> bool:
    pyfunc = sys.modules.get("mlflow.pyfunc.model")
    return pyfunc is not None and isinstance(model, pyfunc.PythonModel)


def save(model: Any, data: Path) -> Saved:
    custom = model if isinstance(model, Custom) else Custom(model)
    root = data.parent
    data.rmdir()
    cloudpickle = _cloudpickle()
    try:
        (root / _FILE).write_bytes(cloudpickle.dumps(custom.model))
    except Exception as error:  # Of many kinds, for what it cannot take apart.
        raise Invalid(
            f"This model cannot be pickled ({error}).", "Leave out of it what is open, such as files and locks."
        ) from None
    kept = {
        str(name): {"path": _copied(Path(source), root / "artifacts"), "uri": str(source)}
        for name, source in custom.artifacts.items()
    }
    code = [_copied(Path(source), root / "code") for source in custom.code_paths]
    pyfunc: dict[str, Any] = {
        "cloudpickle_version": cloudpickle.__version__,
        "python_model": _FILE,
        "artifacts": kept,
        "streamable": False,
    }
    if code:
        pyfunc["code"] = "code"
    if _is_python_model(custom.model):
        pyfunc["loader_module"] = _MLFLOW
    kind = getattr(custom.model, "__qualname__", type(custom.model).__qualname__)
    return Saved({}, [f"cloudpickle=={cloudpickle.__version__}", *custom.requirements], pyfunc, pickle=kind)


def _cloudpickle() -> Any:
    try:
        return import_module("cloudpickle")
    except ImportError:
        raise Unsupported("Functions are kept by cloudpickle, which is not installed.", "pip install 'noria[sklearn]'") from None


def _copied(source: Path, folder: Path) -> str:
    """A copy of a file or folder; its path in the model. Links are followed once, here, and kept as what they lead to."""
    target = folder / source.name
    if target.exists() or not source.exists():
        what = "are two named" if target.exists() else "is no"
        raise Invalid(
            f"There {what} '{source.name}' to keep with the model.", "Give files and folders that are there, of different names."
        )
    folder.mkdir(exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copyfile(source, target)
    return f"{folder.name}/{source.name}"


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool = False) -> Any:
    root = data.parent
    module = str(entry.get("loader_module"))
    if not allow_pickle:
        raise Forbidden(
            f"The model in {root} is Python code that {module[:80]} loads: loading it would run whatever it holds.", _TRUST
        )
    if module == __name__:
        return _function(root, entry)
    try:
        pyfunc = import_module("mlflow.pyfunc")
    except ImportError:
        raise Unsupported(f"The model in {root} is loaded by {module[:80]}, which needs MLflow.", "pip install mlflow") from None
    return pyfunc.load_model(str(root))


def _function(root: Path, entry: Mapping[str, Any]) -> Any:
    file = root / str(entry.get("python_model", _FILE))
    if not file.resolve().is_relative_to(root.resolve()):
        raise Invalid(f"The model in {root} points to data outside of its folder.", "Do not trust it; get it again.")
    try:
        return _cloudpickle().loads(file.read_bytes())
    except (ImportError, AttributeError) as error:
        raise Unsupported(f"The model in {root} needs code that is not here ({error}).",
                          "Save it with code_paths=, or install what defines its parts.") from None  # fmt: skip


def predictor(model: Any) -> Predict:
    if not isinstance(model, Custom):
        return _predictor(model)
    artifacts = {name: str(Path(path).absolute()) for name, path in model.artifacts.items()}
    return _predictor(_in_context(model.model, artifacts) if _is_python_model(model.model) else model.model)


def _predictor(model: Any) -> Predict:
    if _is_python_model(model):
        return _predictor(_in_context(model, {}))
    asked = model if isinstance(model, FunctionType) else model.predict
    if _count(asked) < 2:
        return lambda batch: asked(batch)

    def predict(batch: Any, params: Mapping[str, Any] | None = None) -> Any:
        return asked(batch, dict(params) if params else None)

    return predict


def _count(function: Any) -> int:
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(each.kind in kinds for each in inspect.signature(function).parameters.values())


class _InContext:
    """A PythonModel before it is saved, with what it will find when it is loaded."""

    def __init__(self, model: Any, context: Any) -> None:
        self._model, self._context = model, context
        self._named = "context" in inspect.signature(model.predict).parameters

    def predict(self, batch: Any, params: Mapping[str, Any] | None = None) -> Any:
        first = (self._context,) if self._named else ()
        takes = "params" in inspect.signature(self._model.predict).parameters
        return self._model.predict(*first, batch, params=params) if takes else self._model.predict(*first, batch)


def _in_context(model: Any, artifacts: Mapping[str, str]) -> _InContext:
    context = import_module(_MLFLOW).PythonModelContext(artifacts=dict(artifacts), model_config={})
    model.load_context(context)
    return _InContext(model, context)


class _PyFunc:
    """What mlflow.pyfunc calls."""

    def __init__(self, function: Any) -> None:
        self._predict = predictor(function)

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        return self._predict(data, params) if params and _count(self._predict) > 1 else self._predict(data)  # type: ignore[call-arg]  # It has been counted what it takes.


def _load_pyfunc(path: str) -> _PyFunc:
    """path: the model's folder, or a file in it."""
    place = Path(path)
    return _PyFunc(_function(place if place.is_dir() else place.parent, {}))
