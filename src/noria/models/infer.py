"""The signature of data that one has: what `mlflow.models.infer_signature` says of them, said without MLflow."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from typing import Any

from noria.errors import Invalid
from noria.models.schema import ColSpec, ParamSpec, Signature, Spec, TensorSpec

_CURE = "Give an array, a dict of arrays, a DataFrame, or lists and dicts of numbers and texts."
_ANY = {"type": "any"}


def infer_signature(model_input: Any, model_output: Any = None, params: Mapping[str, Any] | None = None) -> Signature:
    """What a model takes and gives, of an example of either: arrays [n, ...], dicts of arrays, DataFrames, lists, values.

    The first length of arrays is that of the batch, and any will do. Raises Invalid for what no signature can say.
    """
    outputs = () if model_output is None else specs(model_output)
    return Signature(specs(model_input), outputs, tuple(_param(name, value) for name, value in (params or {}).items()))


def specs(data: Any) -> tuple[Spec, ...]:
    """One side of a signature."""
    if is_array(data):
        return (_tensor(data),)
    if isinstance(data, Mapping) and data and all(is_array(each) for each in data.values()):
        return tuple(_tensor(array, str(name)) for name, array in data.items())
    return _columns(data)


def _columns(data: Any) -> tuple[ColSpec, ...]:
    if is_frame(data):
        return tuple(_column(data[name], _name(name)) for name in data.columns)
    if _is_series(data):
        return (_column(data, _name(data.name)),)
    if isinstance(data, list):
        if data and all(isinstance(each, dict) for each in data):
            return tuple(_from_records(data))
        return (_spec(_items(data) if data else {"type": "string"}),)
    if isinstance(data, Mapping):
        return tuple(_spec(_kind(value), _name(name), _all_there(value)) for name, value in data.items())
    return (_spec(_kind(data)),)


def is_array(data: Any) -> bool:
    """A NumPy array; one that has to be imported to be asked for is none."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(data, numpy.ndarray)


def is_frame(data: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame)


def _is_series(data: Any) -> bool:
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.Series)


def _name(name: Any) -> str | int | None:
    if name is None or isinstance(name, str):
        return name
    if isinstance(name, int) or hasattr(name, "__index__"):
        return int(name)
    raise Invalid(f"A column is named {name!r}, which is no text.", "Rename it: frame.columns = frame.columns.map(str).")


def _tensor(array: Any, name: str = "") -> TensorSpec:
    if array.ndim == 0:
        raise Invalid("An array without a length is no batch.", "Give it one: array[None].")
    return TensorSpec(_dtype(array.dtype), (-1, *map(int, array.shape[1:])), name)


def _dtype(dtype: Any) -> str:
    """Its name; of texts and bytes without their length, which is that of the longest one here."""
    return {"U": "str", "S": "bytes"}.get(dtype.kind, str(dtype.name))


def _spec(kind: Mapping[str, Any], name: str | int | None = None, required: bool = True) -> ColSpec:
    inside = {word: value for word, value in kind.items() if word not in ("type", "required")}
    return ColSpec(kind["type"], name, required, inside)


def _from_records(records: list[dict[Any, Any]]) -> Iterable[ColSpec]:
    for name in dict.fromkeys(name for record in records for name in record):
        found = [record[name] for record in records if name in record]
        yield _spec(_items(found), _name(name), all(record.get(name) is not None for record in records))


def _column(series: Any, name: str | int | None) -> ColSpec:
    if series.dtype.kind == "O":
        series = series.infer_objects()
    mixed = series.dtype.kind == "O" and not _is_text(series.dtype)
    kind = _items(series.tolist()) if mixed else {"type": _plain(series.dtype)}
    return _spec(kind, name, not bool(series.isna().any()))


def _is_text(dtype: Any) -> bool:
    return isinstance(dtype, sys.modules["pandas"].StringDtype)


def _plain(dtype: Any) -> str:
    """MLflow's name for what a column of this dtype holds: the smallest of its types that can."""
    kind, size = dtype.kind, getattr(dtype, "itemsize", 0)
    if kind in "iu" and (size < 4 or (kind == "i" and size == 4)):
        return "integer"
    if kind in "iu" and (size < 8 or kind == "i"):
        return "long"
    if kind == "f" and size <= 8:
        return "float" if size <= 4 else "double"
    named = {"b": "boolean", "U": "string", "T": "string", "O": "string", "S": "binary", "M": "datetime"}.get(kind)
    if named is None:
        raise Invalid(f"A signature has no type for {dtype}.", "Convert that column, to float64 for instance.")
    return named


_VALUES: tuple[tuple[Callable[[Any], bool], str], ...] = (
    (lambda value: isinstance(value, bool), "boolean"),
    (lambda value: isinstance(value, int), "long"),
    (lambda value: type(value) is float, "double"),
    (lambda value: isinstance(value, str), "string"),
    (lambda value: isinstance(value, bytes | bytearray), "binary"),
    (lambda value: isinstance(value, date), "datetime"),
)


def _kind(value: Any) -> dict[str, Any]:
    """The type of one value."""
    if missing(value) or (isinstance(value, list | dict) and not value):
        return _ANY
    if isinstance(value, dict):
        kinds = {str(name): _kind(each) for name, each in value.items()}
        return {"type": "object", "properties": {name: {**kind, "required": kind != _ANY} for name, kind in kinds.items()}}
    if isinstance(value, list) or is_array(value):
        return {"type": "array", "items": _items(value)}
    for fits, name in _VALUES:
        if fits(value):
            return {"type": name}
    if hasattr(value, "dtype"):
        return {"type": _plain(value.dtype)}
    raise Invalid(f"A signature has no type for a {type(value).__name__}.", _CURE)


def _items(values: Iterable[Any]) -> dict[str, Any]:
    """The type that all of them have."""
    found: dict[str, Any] = {}
    for value in values:
        kind = _kind(value)
        found = merged(found, kind) if found else kind
    if not found:
        raise Invalid("There is nothing in this list to take a type from.", _CURE)
    return found


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The type of what is of either type. Raises Invalid if there is none."""
    if one == other or other == _ANY:
        return one if one["type"] != "object" or one == other else _optional(one)
    if one == _ANY:
        return _optional(other) if other["type"] == "object" else other
    if one["type"] == other["type"] == "array":
        return {"type": "array", "items": merged(one["items"], other["items"])}
    if one["type"] == other["type"] == "object":
        return {"type": "object", "properties": _properties(one["properties"], other["properties"])}
    raise Invalid(f"A list holds both {one['type']} and {other['type']}.", "Make it of one type.")


def _properties(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name in {**one, **other}:
        sides = [{word: v for word, v in each[name].items() if word != "required"} for each in (one, other) if name in each]
        needed = name in one and name in other and one[name]["required"] and other[name]["required"]
        found[name] = {**(merged(*sides) if len(sides) == 2 else sides[0]), "required": needed}
    return found


def _optional(kind: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {**each, "required": False} for name, each in kind["properties"].items()}}


def missing(value: Any) -> bool:
    """None, NaN and what pandas puts for them."""
    if isinstance(value, float):
        return math.isnan(value)
    pandas = sys.modules.get("pandas")
    return value is None or (pandas is not None and (value is pandas.NA or value is pandas.NaT))


def _all_there(value: Any) -> bool:
    return not any(missing(each) for each in value) if isinstance(value, list) else not missing(value)


def _param(name: str, value: Any) -> ParamSpec:
    listed = isinstance(value, list) or is_array(value)
    values = list(value) if listed else [value]
    kind = _items(values)
    if (listed and kind["type"] in ("array", "object")) or kind["type"] in ("any", "binary", "array"):
        raise Invalid(f"The parameter {name} is no value, list of values or dict.", "Give it a default such as 0.5.")
    plain = [each.isoformat() if isinstance(each, date) else getattr(each, "item", lambda each=each: each)() for each in values]
    inside = {word: each for word, each in kind.items() if word != "type"}
    return ParamSpec(str(name), kind["type"], plain if listed else plain[0], listed, inside)
