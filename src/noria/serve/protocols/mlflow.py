"""MLflow's scoring protocol: {"inputs": …}, {"instances": …} or a DataFrame in, {"predictions": …} out."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from noria.errors import Invalid
from noria.models.columns import Table
from noria.serve.protocols import Asked

PATH = "/invocations"
_FORMS = ("inputs", "instances", "dataframe_split", "dataframe_records")
_SEND = 'Send JSON such as {"inputs": [[…], […]]}, one entry for each example.'


def decode(body: bytes, kind: str) -> Asked:
    """inputs and instances as they are, the others as a Table; its columns are in the order of the first record."""
    if kind not in ("application/json", ""):
        raise Invalid(f"This model does not read '{kind[:80]}'.", _SEND)
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"The body is not valid JSON ({error}).", _SEND) from None
    if not isinstance(fields, dict):
        raise Invalid("The body is not a JSON object.", _SEND)
    given = [name for name in _FORMS if name in fields]
    if len(given) > 1:
        raise Invalid(f"The body has both {given[0]} and {given[1]}.", _SEND)
    if not given:
        raise Invalid("The body has no 'inputs'.", _SEND)
    return Asked(_data(given[0], fields[given[0]]), fields.get("params"))


def _data(form: str, value: Any) -> Any:
    if form == "dataframe_split":
        return _split(value)
    if form == "dataframe_records":
        return _records(value)
    if form == "instances" and isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return {
            name: [each.get(name) for each in value] for name in value[0]
        }  # A tensor by each name, as TensorFlow Serving has it.
    return value


def _split(value: Any) -> Table:
    if not isinstance(value, dict) or not isinstance(value.get("data"), list) or not set(value) <= {"columns", "data", "index"}:
        raise Invalid(
            "dataframe_split is made of columns, index and data.", 'Send {"dataframe_split": {"columns": […], "data": [[…]]}}.'
        )
    columns = value.get("columns")
    if columns is not None and not (
        isinstance(columns, list) and all(len(row) == len(columns) for row in value["data"] if isinstance(row, list))
    ):
        raise Invalid(
            "A row of dataframe_split has another number of values than there are columns.",
            "Send a value for each, null for none.",
        )
    return Table(None if columns is None else tuple(columns), value["data"])


def _records(value: Any) -> Table:
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Invalid("dataframe_records is a list of objects.", 'Send {"dataframe_records": [{"COLUMN": VALUE}]}.')
    columns = tuple(dict.fromkeys(name for record in value for name in record))
    return Table(columns, [[record.get(name) for name in columns] for record in value])


def encode(answers: Any) -> tuple[bytes, str]:
    return msgspec.json.encode({"predictions": plain(answers)}, enc_hook=plain), "application/json"


def plain(answers: Any) -> Any:
    """Arrays as lists, tables as records, what is no number as null."""
    if hasattr(answers, "to_dict") and hasattr(answers, "columns"):
        return [{str(name): plain(each) for name, each in record.items()} for record in answers.to_dict(orient="records")]
    if hasattr(answers, "isoformat"):
        return answers.isoformat()
    if hasattr(answers, "tolist"):
        return answers.tolist()
    if isinstance(answers, dict):
        return {str(name): plain(each) for name, each in answers.items()}
    if isinstance(answers, list | tuple):
        return [plain(each) for each in answers]
    if isinstance(answers, float) and not math.isfinite(answers):
        return None
    return answers if isinstance(answers, str | bytes | bool | int | float | None) else str(answers)
