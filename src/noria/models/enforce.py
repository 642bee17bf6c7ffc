"""Data made to fit a signature, or refused in one sentence. What MLflow refuses is refused, and nothing is cast that loses what it says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from noria.errors import Invalid
from noria.models.columns import Table, as_frame, as_value, fitted, listed
from noria.models.infer import is_array, is_frame
from noria.models.schema import ParamSpec, Signature, TensorSpec

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def enforce(data: Any, signature: Signature) -> Any:
    """An array, a DataFrame if the signature is of columns, or a dict of arrays if it names several tensors.

    data: any of these, a Table, or lists. Raises Invalid with what does not fit and what would.
    """
    if signature.columns:
        return fitted(as_frame(data, signature.columns), signature.columns)
    tensors = signature.tensors
    if len(tensors) > 1:
        return _tensors(data, tensors)
    return _tensor(_only(data, tensors[0].name), tensors[0]) if tensors else _unsigned(data)


def _unsigned(data: Any) -> Any:
    """What comes without a signature to hold it to: numbers as an array, anything else that has names as a DataFrame."""
    if isinstance(data, Table):
        array = None if data.columns is None else _numbers(data.rows)
        return array if array is not None else as_frame(data, ())
    if is_frame(data) or is_array(data):
        return data
    if isinstance(data, Mapping):
        return {str(name): _array(each) for name, each in data.items()}
    return _array(data)


def _numbers(rows: Any) -> Array | None:
    try:
        array = _array(rows)
    except Invalid:
        return None
    return array if array.dtype.kind in "biuf" else None


def _array(data: Any) -> Array:
    import numpy as np

    try:
        return np.asarray(data)
    except (TypeError, ValueError) as error:
        raise Invalid(f"The input is not an array of numbers ({error}).", "Send rows of equal length.") from None


def _only(data: Any, name: str) -> Any:
    """What is meant for the one tensor that there is."""
    if isinstance(data, Table):
        return data.rows
    if is_frame(data):
        return data.to_numpy()
    if isinstance(data, Mapping):
        if name and name not in data:
            raise Invalid(f"The input '{name}' is missing; there are {listed(data)}.", "Send all that the signature names.")
        if not name and len(data) != 1:
            raise Invalid(f"This model takes one array, not {len(data)} with names ({listed(data)}).", "Send that array alone.")
        return data[name] if name else next(iter(data.values()))
    return data


def _tensors(data: Any, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    if isinstance(data, Table) and data.columns is not None:
        data = {name: [row[place] for row in data.rows] for place, name in enumerate(data.columns)}
    elif is_frame(data):
        data = {name: data[name].tolist() for name in data.columns}
    wanted = ", ".join(spec.name for spec in specs)
    if not isinstance(data, Mapping):
        raise Invalid(f"This model takes arrays with names: {wanted}.", f'Send {{"{specs[0].name}": [...], ...}}.')
    lost = [spec.name for spec in specs if spec.name not in data]
    if lost:
        raise Invalid(f"The input lacks {', '.join(lost)}; this model takes {wanted}.", "Send all that the signature names.")
    return {spec.name: _tensor(data[spec.name], spec) for spec in specs}


def _tensor(data: Any, spec: TensorSpec) -> Array:
    import numpy as np

    try:
        wanted = np.dtype(spec.dtype)
    except TypeError:
        raise Invalid(f"This model's signature names the type '{spec.dtype[:40]}', which NumPy has not.", _AGAIN) from None
    array = np.asarray(data, dtype=object) if wanted.kind == "O" and not is_array(data) else _array(data)
    if not _fits(array.shape, spec.shape):
        raise Invalid(f"The input{_called(spec)} has the shape {list(array.shape)}; this model takes {list(spec.shape)} (-1: any length).",
                      "Send a batch: the first length is the number of examples.")  # fmt: skip
    return _cast(array, wanted, spec, of_lists=not is_array(data))


_AGAIN = "Save or download the model again."


def _called(spec: TensorSpec) -> str:
    return f" {spec.name}" if spec.name else ""


def _cast(array: Array, wanted: Any, spec: TensorSpec, *, of_lists: bool) -> Array:
    """The same values as `wanted`: more or fewer digits, but no number cut, wrapped or made of a text."""
    import numpy as np

    if array.dtype == wanted or wanted.kind == "O":
        return array
    if wanted.kind in "biufc" and array.dtype.kind not in "biufc":
        raise Invalid(f"The input{_called(spec)} is not an array of numbers: it is of {array.dtype}, this model takes {spec.dtype}.",
                      "Send numbers.")  # fmt: skip
    dates = of_lists and wanted.kind == "M" and array.dtype.kind == "U"
    try:
        if dates or (wanted.kind in "US" and array.dtype.kind == wanted.kind) or np.can_cast(array.dtype, wanted, "same_kind"):
            cast: Array = array.astype(wanted)
            if wanted.kind not in "iu" or bool((cast == array).all()):
                return cast
    except ValueError:
        pass
    raise Invalid(f"The input{_called(spec)} is of {array.dtype}; this model takes {spec.dtype}, and values would change on the way.",
                  f"Convert it: array.astype('{spec.dtype}').")  # fmt: skip


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(want in (-1, have) for have, want in zip(shape, wanted, strict=True))


def parameters(given: Any, specs: Sequence[ParamSpec]) -> dict[str, Any]:
    """The parameters of a prediction, with the defaults of those that were not given. Raises Invalid for a name or type that is unknown."""
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise Invalid(f"Parameters are a {type(given).__name__}, not an object.", 'Send "params": {"NAME": VALUE}.')
    names = [spec.name for spec in specs]
    unknown = [name for name in given if name not in names]
    if unknown:
        raise Invalid(f"This model has no parameter {listed(unknown)}.", f"It has: {listed(names)}.")
    return {spec.name: _parameter(given[spec.name], spec) if spec.name in given else spec.default for spec in specs}


def _parameter(given: Any, spec: ParamSpec) -> Any:
    if given is None:
        return None
    kind = {"type": spec.type, **spec.inside}
    return as_value(given, {"type": "array", "items": kind} if spec.listed else kind, True, f"parameter {spec.name}")
