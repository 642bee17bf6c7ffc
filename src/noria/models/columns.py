"""Tables made to fit a signature of columns, or refused in one sentence."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct

from noria.errors import Invalid, Unsupported
from noria.models.infer import is_array, is_frame, missing
from noria.models.schema import ColSpec


class Table(Struct, frozen=True):
    """Rows as JSON brings them; columns are None where only their places are known."""

    columns: tuple[str, ...] | None
    rows: list[Any]


def listed(names: Any) -> str:
    return ", ".join(str(name)[:40] for name in list(names)[:12]) or "none"


def pandas() -> Any:
    try:
        import pandas as found
    except ImportError:
        raise Unsupported("This model takes a table, and pandas is not installed.", "pip install pandas") from None
    return found


def as_frame(data: Any, columns: Sequence[ColSpec]) -> Any:
    if is_frame(data):
        return data
    pd = pandas()
    try:
        if isinstance(data, Table):
            return pd.DataFrame(data.rows, columns=None if data.columns is None else list(data.columns))
        if isinstance(data, pd.Series):
            return pd.DataFrame(data)
        if isinstance(data, Mapping):
            return pd.DataFrame([data] if _is_row(data, columns) else _lists(data))
        if isinstance(data, str | bytes | int | float):
            data = [data]
        frame = pd.DataFrame(data if is_array(data) else list(data))
    except (ValueError, TypeError) as error:
        raise Invalid(f"The input is no table ({' '.join(str(error).split()):.120}).", "Send rows of equal length.") from None
    if columns and frame.columns.dtype.kind == "i" and len(frame.columns) == len(columns) and columns[0].name is not None:
        frame.columns = [column.name for column in columns]  # An array has places for names, and all are there.
    return frame


def _is_row(data: Mapping[str, Any], columns: Sequence[ColSpec]) -> bool:
    """Whether a dict is one row, not columns: MLflow's rule."""
    complex_ = any(column.type in ("array", "object") for column in columns)
    return complex_ or all(
        _is_scalar(value) or (isinstance(value, list) and all(isinstance(item, str) for item in value)) for value in data.values()
    )


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bytes | bool | int | float) or getattr(value, "shape", None) == ()


def _lists(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() if is_array(value) and value.ndim > 1 else value for name, value in data.items()}


def fitted(frame: Any, columns: Sequence[ColSpec]) -> Any:
    """The columns that the signature has, in its order; those besides are dropped."""
    if columns[0].name is None:
        if len(frame.columns) < len(columns):
            raise Invalid(f"The input has {len(frame.columns)} columns; this model takes {len(columns)}.", "Send them all.")
        pairs = list(zip(columns, frame.columns, strict=False))
    else:
        lost = [str(each.name) for each in columns if each.required and each.name not in frame.columns]
        if lost:
            raise Invalid(f"The input lacks the column {', '.join(lost)}; it has {listed(frame.columns)}.",
                          "Send every column that the signature requires.")  # fmt: skip
        pairs = [(each, each.name) for each in columns if each.name in frame.columns]
    return pandas().DataFrame({name: _series(frame[name], each) for each, name in pairs}, index=frame.index)


def _series(series: Any, column: ColSpec) -> Any:
    if getattr(series, "ndim", 1) != 1:
        raise Invalid(f"The input has two columns named {column.name}.", "Leave one of them out.")
    if column.type in ("any", "sparkml_vector"):
        return series
    if column.type in ("array", "object", "map"):
        kind = {"type": column.type, **column.inside}
        made = [as_value(each, kind, column.required, f"column {column.name}") for each in series.tolist()]
        return pandas().Series(made, index=series.index, dtype=object)
    return _plain(series, column.type, f"column {column.name}" if column.name is not None else "input")


_NUMPY = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "datetime": "datetime64[ns]",
}


def _plain(series: Any, kind: str, what: str) -> Any:
    """A column of single values as the type that it is to have: wider is fine, and what is equal, but nothing is cut."""
    if series.dtype.kind == "O" and kind not in ("binary", "string"):
        series = series.infer_objects()
    texts = series.dtype.kind == "O" or pandas().api.types.is_string_dtype(series.dtype)
    if (kind == "string" and texts) or (kind == "binary" and (texts or series.dtype.kind == "S")):
        return series.map(_bytes) if kind == "binary" else series
    if kind not in _NUMPY:
        raise _unfit(series, kind, what)
    import numpy as np

    wanted = np.dtype(_NUMPY[kind])
    try:
        if series.dtype == wanted or (kind == "boolean" and series.dtype.kind == "O" and _all(series, bool)):
            return series
        if kind == "datetime" and (texts or series.dtype.kind == "M"):
            return series.astype("datetime64[ns]")
        if _widens(series, wanted):
            return series.astype(wanted)
    except (ValueError, TypeError) as error:
        raise Invalid(f"The {what} cannot be read as {kind} ({' '.join(str(error).split()):.120}).", "Convert it.") from None
    raise _unfit(series, kind, what)


def _all(series: Any, kind: type) -> bool:
    return all(missing(each) or isinstance(each, kind) for each in series)


def _bytes(value: Any) -> Any:
    """Bytes come through JSON as base64."""
    if not isinstance(value, str):
        return value
    try:
        return base64.b64decode(value.encode())
    except (binascii.Error, ValueError):
        return value.encode()


def _unfit(series: Any, kind: str, what: str) -> Invalid:
    hint = " It has gaps, which integers cannot have." if kind in ("integer", "long") and bool(series.isna().any()) else ""
    return Invalid(f"The {what} is of {series.dtype}; this model takes {kind}.{hint}", "Convert it before.")


def _widens(series: Any, wanted: Any) -> bool:
    """Whether every value of the column is one of `wanted` as well. JSON has but one kind of integer and one of floats, so values count."""
    have = series.dtype.kind
    if have == wanted.kind == "f" or (have in "iu" and wanted.kind == "f"):
        return bool(series.dtype.itemsize <= wanted.itemsize or _same(series, wanted))
    if have in "iu" and wanted.kind in "iu":
        return _same(series, wanted)
    return False


def _same(series: Any, wanted: Any) -> bool:
    """Equal, floats up to the digits that they keep."""
    import numpy as np

    values = series.to_numpy()
    cast = values.astype(wanted)
    if values.dtype.kind == "f":
        return bool(np.isfinite(cast[np.isfinite(values)]).all())
    return bool((cast == values).all())


def as_value(value: Any, kind: Mapping[str, Any], required: bool, what: str) -> Any:
    """One value of an array, object or map, or a single one inside of them."""
    if kind["type"] == "any" or (not required and missing(value)):
        return value
    if kind["type"] == "array":
        if not (isinstance(value, list | tuple) or is_array(value)):
            raise Invalid(f"The {what} holds a {type(value).__name__}; this model takes lists there.", "Send a list in each row.")
        return [as_value(each, kind["items"], required, what) for each in value]
    if kind["type"] in ("object", "map"):
        return _mapping(value, kind, what)
    return _single(value, kind["type"], what)


def _mapping(value: Any, kind: Mapping[str, Any], what: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise Invalid(
            f"The {what} holds a {type(value).__name__}; this model takes {kind['type']}s there.", "Send a JSON object."
        )
    if kind["type"] == "map":
        return {str(name): as_value(each, kind["values"], True, what) for name, each in value.items()}
    properties = kind["properties"]
    lost = [name for name, each in properties.items() if each["required"] and name not in value]
    unknown = [name for name in value if name not in properties]
    if lost or unknown:
        said = f"lacks {', '.join(lost)}" if lost else f"has {listed(unknown)}, which the signature does not name"
        raise Invalid(f"The {what} {said}.", f"It is made of {listed(properties)}.")
    return {name: as_value(each, properties[name], properties[name]["required"], what) for name, each in value.items()}


_SINGLE: dict[str, Callable[[Any], bool]] = {
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: isinstance(v, int) and not isinstance(v, bool) and -(2**31) <= v < 2**31,
    "long": lambda v: isinstance(v, int) and not isinstance(v, bool) and -(2**63) <= v < 2**63,
    "float": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "double": lambda v: isinstance(v, int | float) and not isinstance(v, bool),
    "string": lambda v: isinstance(v, str),
    "binary": lambda v: isinstance(v, bytes | bytearray | str),
    "datetime": lambda v: hasattr(v, "isoformat") or isinstance(v, str),
}


def _single(value: Any, kind: str, what: str) -> Any:
    plain = value.item() if hasattr(value, "item") and getattr(value, "shape", None) == () else value
    if not _SINGLE.get(kind, lambda _: True)(plain):
        raise Invalid(f"The {what} holds {str(plain)[:40]!r}; this model takes {kind} there.", "Send that type.")
    if kind in ("float", "double"):
        return float(plain)
    return _bytes(plain) if kind == "binary" else plain
