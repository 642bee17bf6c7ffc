"""The input example of a model, kept as MLflow keeps it: `input_example.json`, and as a request to a server besides."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from noria.errors import Invalid
from noria.models.infer import is_array, is_frame, missing

FILE, REQUEST = "input_example.json", "serving_input_example.json"


def write(given: Any, folder: Path, params: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Both files; what MLmodel says about them. Raises Invalid for what JSON cannot say."""
    kind, word, plain = _as_json(given)
    request = {word: plain, **({"params": dict(params)} if params else {})}
    content: Any = {"data": plain, "params": dict(params)} if params else plain
    try:
        (folder / FILE).write_text(json.dumps(content, default=_plain))
        (folder / REQUEST).write_text(json.dumps(request, default=_plain))
    except TypeError as error:
        raise Invalid(f"This input example cannot be kept ({error}).", "Give arrays, a DataFrame, or lists and dicts.") from None
    return {"artifact_path": FILE, "serving_input_path": REQUEST, **kind, **({"params": "true"} if params else {})}


def _as_json(given: Any) -> tuple[dict[str, str], str, Any]:
    """What kind it is, by which name a request carries it, and its values."""
    if is_array(given):
        return {"type": "ndarray"}, "inputs", _values(given)
    if isinstance(given, Mapping) and given and all(is_array(each) for each in given.values()):
        return {"type": "ndarray"}, "inputs", {str(name): _values(each) for name, each in given.items()}
    if is_frame(given):
        split = {
            "columns": given.columns.tolist(),
            "data": [[_cell(each) for each in row] for row in given.to_numpy(dtype=object).tolist()],
        }
        counted = split["columns"] == list(range(len(split["columns"])))
        split = {"data": split["data"]} if counted else split
        return {"type": "dataframe", "pandas_orient": "values" if counted else "split"}, "dataframe_split", split
    return {"type": "json_object"}, "inputs", given


def _values(array: Any) -> Any:
    """As lists, with null for what is no number."""
    import numpy as np

    if array.dtype.kind in "fc" and bool(np.isnan(array).any()):
        gaps = np.isnan(array)
        array = array.astype(object)
        array[gaps] = None
    return array.tolist()


def _cell(value: Any) -> Any:
    return None if missing(value) else value


def _plain(value: Any) -> Any:
    if isinstance(value, bytes | bytearray):
        return base64.encodebytes(value).decode()
    if isinstance(value, date):
        return value.isoformat()
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"there is a {type(value).__name__} in it")


def batch(given: Any) -> Any:
    """What a model is called with for this example: arrays and tables as they are, lists and values as MLflow's servers make tables of them."""
    if is_array(given) or is_frame(given) or (isinstance(given, Mapping) and all(is_array(each) for each in given.values())):
        return given
    from noria.models.enforce import enforce
    from noria.models.infer import infer_signature

    return enforce(given, infer_signature(given))
