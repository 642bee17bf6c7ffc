"""MLflow's scoring protocol: {"inputs": …} or {"instances": …} in, {"predictions": …} out."""

from __future__ import annotations

from typing import Any

import msgspec

from noria.errors import Invalid

PATH = "/invocations"
_SEND = 'Send JSON such as {"inputs": [[…], […]]}, one entry for each example.'


def decode(body: bytes, kind: str) -> Any:
    """dataframe_split is taken as its rows, dataframe_records as theirs, columns in the order of the first."""
    if kind not in ("application/json", ""):
        raise Invalid(f"This model does not read '{kind[:80]}'.", _SEND)
    try:
        fields = msgspec.json.decode(body)
    except msgspec.DecodeError as error:
        raise Invalid(f"The body is not valid JSON ({error}).", _SEND) from None
    if not isinstance(fields, dict):
        raise Invalid("The body is not a JSON object.", _SEND)
    for name in ("inputs", "instances"):
        if name in fields:
            value = fields[name]
            return next(iter(value.values())) if isinstance(value, dict) and len(value) == 1 else value
    if isinstance(fields.get("dataframe_split"), dict):
        return fields["dataframe_split"].get("data")
    if isinstance(fields.get("dataframe_records"), list):
        return [list(record.values()) if isinstance(record, dict) else record for record in fields["dataframe_records"]]
    raise Invalid("The body has no 'inputs'.", _SEND)


def encode(answers: Any) -> tuple[bytes, str]:
    return msgspec.json.encode({"predictions": answers.tolist()}), "application/json"
