"""Estimators of scikit-learn, in the layout of MLflow's own flavor `sklearn`.

data/model.skops    arrays and settings of types that skops knows: loading runs no code
data/model.pkl      a pickle, of what holds anything else, such as a function of one's own; that is said when it is saved
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.errors import Forbidden, Invalid, Unsupported
from noria.models.flavors import Saved

if TYPE_CHECKING:
    import numpy as np

    from noria.models.predictor import Predict

LOADER = "mlflow.sklearn"
_SKOPS, _PICKLE = "model.skops", "model.pkl"
_OWN = re.compile(
    r"sklearn\.(?:tree\._tree\.Tree|utils\._bunch\.Bunch|_loss\.[\w.]+|gaussian_process\.(?:kernels|_gpc)\.\w+"
    r"|neighbors\._(?:kd|ball)_tree\.\w+|metrics\._dist_metrics\.\w+"
    r"|neural_network\._stochastic_optimizers\.\w+)"
)
"""Parts of scikit-learn's estimators that skops does not count among those it knows. They hold numbers, and call nothing; where scikit-learn
takes such numbers for places in memory, `_sound` looks at them first."""
_TRUST = "If you trust where it comes from, say so: --allow-pickle, or load(..., allow_pickle=True)."


def claims(model: object) -> bool:
    base = sys.modules.get("sklearn.base")
    return base is not None and isinstance(model, base.BaseEstimator) and not _of_others(model)


def _of_others(model: object) -> bool:
    """XGBoost's and LightGBM's estimators have flavors of their own."""
    return any(kind.__module__.partition(".")[0] in ("xgboost", "lightgbm") for kind in type(model).__mro__)


def save(model: Any, data: Path) -> Saved:
    version = sys.modules["sklearn"].__version__
    file, needed, parts, why = _kept(model, data)
    kind = "skops" if file == _SKOPS else "cloudpickle"
    entry = {"pickled_model": f"{data.name}/{file}", "serialization_format": kind, "sklearn_version": version, "code": None,
             "skops_trusted_types": parts or None}  # fmt: skip
    return Saved(entry, [f"scikit-learn=={version}", needed], {"model_path": f"{data.name}/{file}", "predict_fn": "predict"},
                 pickle=why)  # fmt: skip


def _kept(model: Any, data: Path) -> tuple[str, str, list[str], str]:
    """The file's name, the package that reads it, which parts of scikit-learn that has to be told of, and why it is a pickle."""
    skops, parts = _skops(), list[str]()
    try:
        skops.dump(model, data / _SKOPS)
        parts = list(skops.get_untrusted_types(file=data / _SKOPS))
        unknown = _strange(parts)
    except Exception as error:  # Of many kinds, for what it cannot take apart.
        unknown = [" ".join(str(error).split())[:120]]
    if not unknown:
        return _SKOPS, f"skops=={import_module('skops').__version__}", parts, ""
    (data / _SKOPS).unlink(missing_ok=True)
    cloudpickle = import_module("cloudpickle")
    try:
        (data / _PICKLE).write_bytes(cloudpickle.dumps(model))
    except Exception as error:
        raise Invalid(
            f"This model cannot be pickled ({error}).", "Leave out of it what is open, such as files and locks."
        ) from None
    return _PICKLE, f"cloudpickle=={cloudpickle.__version__}", [], ", ".join(unknown)


def _strange(parts: Sequence[str]) -> list[str]:
    return [part for part in parts if not _OWN.fullmatch(part)]


def _skops() -> Any:
    try:
        return import_module("skops.io")
    except ImportError:
        raise Unsupported("Models of scikit-learn are kept by the package skops, which is not installed.",
                          "pip install 'noria[sklearn]'") from None  # fmt: skip


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool = False) -> Any:
    root = data.parent.resolve()
    file = (root / str(entry.get("pickled_model", _PICKLE))).resolve()
    if not file.is_relative_to(root):
        raise Invalid(f"The model in {root} points to data outside of its folder.", "Do not trust it; get it again.")
    if not file.is_file():
        raise Invalid(f"The model in {root} is incomplete: it has no {file.name}.", "Save or download it again.")
    if entry.get("serialization_format") == "skops":
        return _loaded(file, allow_pickle)
    if not allow_pickle:
        raise Forbidden(f"The model in {root} is a pickle: loading it would run whatever code it holds.", _TRUST)
    try:
        return import_module("cloudpickle").loads(file.read_bytes())
    except (ImportError, AttributeError) as error:
        raise Unsupported(
            f"The model in {root} needs code that is not here ({error}).", "Install what defines its parts."
        ) from None
    except Exception as error:  # Whatever a pickle makes.
        raise _damaged(file, error) from None


def _loaded(file: Path, trusted: bool) -> Any:
    skops = _skops()
    try:
        parts = skops.get_untrusted_types(file=file)
        if trusted or not _strange(parts):
            return _sound(skops.load(file, trusted=parts))
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError, AttributeError, ImportError, EOFError) as error:
        raise _damaged(file, error) from None
    raise Forbidden(
        f"The model in {file.parent} holds {', '.join(_strange(parts))}: loading it would run code of theirs.", _TRUST
    )


def _sound(model: Any) -> Any:
    """Raise ValueError for a tree that leads out of itself: scikit-learn would follow it into whatever lies there."""
    for part in _inside(model):
        kind = f"{type(part).__module__}.{type(part).__name__}"
        if (kind == "sklearn.tree._tree.Tree" and not _is_tree(part)) or (kind in _BALLS and not _is_ball(part)):
            raise ValueError(f"a {type(part).__name__} in it leads out of itself")
    return model


_BALLS = frozenset(f"sklearn.neighbors.{module}.{name}{size}" for module, name in (("_kd_tree", "KDTree"), ("_ball_tree", "BallTree"))
                   for size in ("", "64", "32"))  # fmt: skip


def _is_tree(tree: Any) -> bool:
    """A child stands after its parent, so that no way leads round in a circle either."""
    import numpy as np

    nodes = tree.__getstate__()["nodes"]
    inner = nodes["left_child"] != -1
    own, kept = np.arange(len(nodes))[inner], nodes[inner]
    children = np.stack([kept["left_child"], kept["right_child"]])
    features = kept["feature"]
    return len(nodes) == tree.node_count and bool(
        (children > own).all() and (children < len(nodes)).all() and (features >= 0).all() and (features < tree.n_features).all()
    )


def _is_ball(tree: Any) -> bool:
    points, order, nodes, _, _, levels, count, *_ = tree.__getstate__()
    order, nodes, size = order.ravel(), nodes.ravel(), len(points)
    first, last = nodes["idx_start"], nodes["idx_end"]
    return (
        len(nodes) == count == 2**levels - 1
        and len(order) == size
        and bool(
            (order >= 0).all() and (order < size).all() and (first >= 0).all() and (first <= last).all() and (last <= size).all()
        )
    )


def _inside(model: Any) -> Iterator[Any]:
    """All that it is made of."""
    left, seen = [model], set[int]()
    while left:
        part = left.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        yield part
        if isinstance(part, Mapping):
            left += [*part.keys(), *part.values()]
        elif isinstance(part, list | tuple | set):
            left += part
        elif getattr(getattr(part, "dtype", None), "hasobject", False):
            left += part.ravel().tolist()
        else:
            left += getattr(part, "__dict__", {}).values()


def _damaged(file: Path, error: Exception) -> Invalid:
    return Invalid(f"{file} cannot be read: {' '.join(str(error).split()):.200}.", "Save or download the model again.")


def predictor(model: Any) -> Predict:
    names = getattr(model, "feature_names_in_", None)

    def predict(batch: Any) -> np.ndarray[Any, Any]:
        import numpy as np

        if not hasattr(model, "predict"):
            raise Invalid(f"A {type(model).__name__} does not predict.", "Put what predicts behind it, in a Pipeline.")
        named = hasattr(batch, "columns")
        batch = batch.to_numpy() if named and names is None else batch
        fits = names is not None and not named and batch.ndim == 2 and batch.shape[1] == len(names)
        out: np.ndarray[Any, Any] = np.asarray(
            model.predict(import_module("pandas").DataFrame(batch, columns=names) if fits else batch)
        )
        return out

    return predict
