"""Functions of JAX, compiled ahead, and their parameters: loading runs no Python of the folder.

data/function.jax          what jax.export serializes: StableHLO, and how its arguments lie
data/params.safetensors    the leaves of the parameters, by their numbers
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.errors import Forbidden, Invalid, Unsupported
from noria.models.flavors import Saved
from noria.models.wrapped import JaxFunction

if TYPE_CHECKING:
    from noria.models.predictor import Predict

_FUNCTION, _PARAMS = "function.jax", "params.safetensors"
_CALL = re.compile(r'custom_call\s*@?"?([\w.:$-]+)|call_target_name\s*=\s*"([^"]*)"')
_KNOWN = re.compile(
    r"Sharding|SPMDFullToShardShape|SPMDShardToFullShape|shape_assertion|annotate_device_placement|mhlo\.[a-z_]+|chlo\.[a-z_]+"
    r"|(?:lapack|blas)_[a-z_]+|cu_threefry2x32(?:_ffi)?|cu(?:solver|blas)[a-z_]*|Eigh|Qr|ProductOfElementaryHouseholderReflectors"
    r"|LuDecomposition|ApproxTopK|TopK|stablehlo\.[a-z_]+|xla\.sdy\.[A-Za-z]+"
)
"""Code outside of the function that it may call: XLA's own. Others, such as calls back into Python, take numbers for places in memory."""
_TRUST = "If you trust where it comes from, say so: --allow-pickle, or load(..., allow_pickle=True)."


def claims(model: object) -> bool:
    export = sys.modules.get("jax._src.export._export") or sys.modules.get("jax.export")
    return isinstance(model, JaxFunction) or (export is not None and isinstance(model, export.Exported))


def save(model: Any, data: Path) -> Saved:
    import jax
    from safetensors.numpy import save_file

    leaves: list[Any] = []
    if isinstance(model, JaxFunction):
        leaves, exported = jax.tree_util.tree_leaves(model.params), _exported(model)
    else:
        exported = model
    if strange := _strange(exported):
        raise Unsupported(
            f"This function calls {', '.join(strange)}, which is not XLA's own.", "Leave out callbacks and foreign kernels."
        )
    import numpy as np

    (data / _FUNCTION).write_bytes(exported.serialize())
    save_file({str(place): np.asarray(leaf, order="C") for place, leaf in enumerate(leaves)}, data / _PARAMS)
    entry = {"jax_version": jax.__version__, "leaves": len(leaves)}
    return Saved(entry, [f"jax=={jax.__version__}", f"safetensors=={import_module('safetensors').__version__}"])


def _exported(model: JaxFunction) -> Any:
    """The function of a list of leaves and a batch of any length."""
    import jax
    from jax import export

    leaves, tree = jax.tree_util.tree_flatten(model.params)

    def function(leaves: Any, batch: Any) -> Any:
        return model.apply(jax.tree_util.tree_unflatten(tree, leaves), batch)

    (length,) = export.symbolic_shape("n")
    shape: Any = jax.ShapeDtypeStruct
    shapes = jax.tree_util.tree_map(lambda leaf: shape(leaf.shape, leaf.dtype), leaves)
    batch = jax.tree_util.tree_map(lambda array: shape((length, *array.shape[1:]), array.dtype), model.example)
    try:
        return export.export(jax.jit(function))(shapes, batch)
    except Exception as error:  # Whatever the function raises when it is traced.
        raise Invalid(f"This function cannot be exported for batches of any length: {' '.join(str(error).split()):.200}.",
                      "Make nothing in it depend on the number of rows or on values.") from None  # fmt: skip


def _strange(exported: Any) -> list[str]:
    """What the function calls that is not known."""
    named = {name for pair in _CALL.findall(exported.mlir_module()) for name in pair if name}
    return sorted(name for name in named if not _KNOWN.fullmatch(name))


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool = False) -> Any:
    try:
        from jax import export
        from safetensors.numpy import load_file
    except ImportError as error:
        raise Unsupported(
            f"The model in {data} needs {error.name}, which is not installed.", "pip install 'noria[jax]'"
        ) from None
    try:
        exported = export.deserialize(bytearray((data / _FUNCTION).read_bytes()))
        strange = _strange(exported)
        params = load_file(data / _PARAMS)
        leaves = [params[str(place)] for place in range(len(params))]
    except Exception as error:  # Its readers assert what they expect.
        raise Invalid(
            f"The model in {data} is damaged: {' '.join(str(error).split()):.200}.", "Save or download it again."
        ) from None
    if strange and not allow_pickle:
        raise Forbidden(
            f"The model in {data} calls {', '.join(strange)[:200]}: loading it would run code that is not XLA's own.", _TRUST
        )
    return exported, leaves


def predictor(model: Any) -> Predict:
    import jax
    import numpy as np

    exported, leaves = (
        (_exported(model), jax.tree_util.tree_leaves(model.params)) if isinstance(model, JaxFunction) else _pair(model)
    )
    first = (list(leaves),) if leaves else ([],) if _takes_leaves(exported) else ()

    def predict(batch: Any) -> Any:
        given = batch.to_numpy() if hasattr(batch, "columns") else batch
        answer = exported.call(*first, given)
        return jax.tree_util.tree_map(np.asarray, answer)

    return predict


def _pair(model: Any) -> tuple[Any, Any]:
    return model if isinstance(model, tuple) else (model, [])


def _takes_leaves(exported: Any) -> bool:
    """Whether it was made of a JaxFunction, one without parameters too, and not by its owner."""
    return len(exported.in_tree.children()[0].children()) == 2


class _PyFunc:
    """What mlflow.pyfunc calls."""

    def __init__(self, model: Any) -> None:
        self._predict = predictor(model)

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> Any:
        return self._predict(data)


def _load_pyfunc(path: str) -> _PyFunc:
    return _PyFunc(load(Path(path), {}))
