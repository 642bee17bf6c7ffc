"""A shelf: one file is one flavor, and its name is the flavor's name in an MLmodel file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct

from noria.errors import Invalid, Unsupported
from noria.plugins import Kind

if TYPE_CHECKING:
    from noria.models.predictor import Predict


class Saved(Struct, frozen=True):
    """What a flavor adds to the MLmodel file (beside `model_data`), and what must be installed to load it. pyfunc: what its loader is told; by
    default where the data are. pickle: what in it makes it a pickle, if it is one; that is said to whoever saves it."""

    entry: dict[str, Any]
    requirements: list[str]
    pyfunc: dict[str, Any] | None = None
    pickle: str = ""


class Flavor(Protocol):
    """How models of one library are kept.

    `claims` is asked of every file on the shelf for every model that is saved; exactly one may say yes. It must not import
    the library: a model of a library that is not in sys.modules is not of it. `save` writes into an empty folder. `load`
    gets that folder back with the flavor's entry, and raises Forbidden if it would run code from the folder and
    `allow_pickle` is false. `_load_pyfunc(data)`, if there is one, is what MLflow calls: an object with predict(data, params). `LOADER`, if there is one, is the
    module that it calls instead, and `ALSO` what MLflow calls the flavor besides.
    """

    def claims(self, model: object) -> bool: ...

    def save(self, model: Any, data: Path) -> Saved: ...

    def load(self, data: Path, entry: Mapping[str, Any], allow_pickle: bool) -> Any: ...

    def predictor(self, model: Any) -> Predict: ...


class Architectures(Protocol):
    def names(self) -> list[str]: ...

    def build(self, name: str, /, **arguments: Any) -> Any: ...


def architectures() -> Architectures:
    """The trainer's shelf; by its name, because the rooms of one floor do not import each other."""
    shelf: Kind[Architectures] = Kind("noria.train")
    return shelf.get("architectures")


def recipe(model: object) -> tuple[str, dict[str, Any]] | None:
    """The name and arguments that a model of a shelf's architecture remembers; None for any other object."""
    built = getattr(model, "architecture", None)
    if isinstance(built, tuple) and len(built) == 2 and built[0] in architectures().names():
        name, arguments = built
        return str(name), dict(arguments)
    return None


def is_keras(model: object) -> bool:
    """With the backend torch a Keras model is a torch.nn.Module besides."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, keras.Model)


TRUST = "If you trust where it comes from, say so: --allow-pickle, or load(..., allow_pickle=True)."


def kept(data: Path, place: object) -> Path:
    """What a flavor's entry names, from the model's folder on. Raises Invalid if it leads out of it, or to nothing."""
    root = (data if (data / "MLmodel").is_file() else data.parent).resolve()
    path = (root / str(place)).resolve()
    if not path.is_relative_to(root):
        raise Invalid(f"The model in {root} points to data outside of its folder.", "Do not trust it; get it again.")
    if not path.exists():
        raise Invalid(f"The model in {root} is incomplete: it has no {place}.", "Save or download it again.")
    return path


def damaged(path: Path, error: object) -> Invalid:
    return Invalid(f"{path} cannot be read: {' '.join(str(error).split()):.200}.", "Save or download the model again.")


def library(name: str, flavor: str) -> Any:
    """A library that a flavor needs. Raises Unsupported, with what to install."""
    try:
        return import_module(name)
    except ImportError:
        raise Unsupported(
            f"This model needs the package {name.partition('.')[0]}, which is not installed.", f"pip install 'noria[{flavor}]'"
        ) from None


def is_transformers(model: object) -> bool:
    """A pipeline, or a model that saves itself as a folder; on PyTorch it is a torch.nn.Module besides."""
    pipelines, base = sys.modules.get("transformers.pipelines.base"), sys.modules.get("transformers.modeling_utils")
    return (pipelines is not None and isinstance(model, pipelines.Pipeline)) or (
        base is not None and isinstance(model, base.PreTrainedModel)
    )


def numbers(batch: Any) -> Any:
    """The values of a table as one array, with the precision that networks compute in; an array as it is."""
    if not hasattr(batch, "columns"):
        return batch
    array = batch.to_numpy()
    return array.astype("float32") if array.dtype.kind in "fiuO" else array


FLAVORS: Kind[Flavor] = Kind("noria.models.flavors")
