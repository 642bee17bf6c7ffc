"""A request as MLflow's server reads one, field by field: either spelling of a name, null for absent, 1.0 for 1, "7" for 7.

The fast decoder takes what is plain (see endpoint.decode); what it refuses comes here, and either fits or is told what is
wrong in MLflow's words, which its clients and their tests match.
"""

from __future__ import annotations

import json
import math
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Struct, structs

from noria.errors import Invalid

Q = TypeVar("Q")
_HINT = "See the API docs for more information about request parameters."


def parse(body: bytes) -> dict[str, Any]:
    """A JSON object, bare NaN and Infinity included; Invalid for anything else."""
    try:
        value = json.loads(body.decode() or "{}", parse_float=_finite)
        if isinstance(value, str):
            value = json.loads(value, parse_float=_finite)  # Old clients encode twice.
    except (ValueError, RecursionError) as error:
        raise Invalid(f"The body is not valid JSON: {error}.", "Send a JSON object.") from None
    if not isinstance(value, dict):
        raise Invalid("The body is JSON, but not an object.", "Send a JSON object.")
    return value


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:40]} is out of range")
    return value


def fit(kind: type[Q], value: object, path: str = "") -> Q:
    """`value` as a Struct; Invalid names the first field that does not fit. `path` is where in the request it stands."""
    if not isinstance(value, dict):
        raise wrong(path, value)
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        return value  # type: ignore[return-value]
    found = {}
    for each in _fields(kind):
        where = f"{path}.{each.name}" if path else each.name
        given = _named(value, each.name)
        if given is not None:
            found[each.name] = _value(each.type, given, where)
        elif each.required or (each.name == "run_id" and _no_run(kind, value)):
            raise missing(where)
    return kind(**found)


def _no_run(kind: type[Struct], value: dict[str, Any]) -> bool:
    """Whether a request must name a run, which it may under two names, and does under neither."""
    return "run_uuid" in kind.__struct_fields__ and _named(value, "run_uuid") is None


@cache
def _fields(kind: type[Struct]) -> list[structs.FieldInfo]:
    """Fields in MLflow's order: a request's run comes first, though it has another name too and is optional for that."""
    return sorted(structs.fields(kind), key=lambda each: each.name != "run_id")


def _named(value: dict[str, Any], name: str) -> Any:
    other = camel(name)
    if other != name and name in value and other in value:
        raise Invalid(f"Request specifies both '{name}' and '{other}'; provide only one of them.")
    return value.get(name, value.get(other))


@cache
def camel(name: str) -> str:
    """The other spelling of a field's name."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


@cache
def aliases(kind: Any) -> frozenset[bytes]:
    """The other spellings of all names in a Struct, as they stand in a body, but for those that its decoder stumbles at anyway."""
    kind = _plain(kind)
    if get_origin(kind) is list:
        return aliases(get_args(kind)[0])
    if not (isinstance(kind, type) and issubclass(kind, Struct)):
        return frozenset()
    own = {f'"{camel(each.name)}"'.encode() for each in structs.fields(kind) if "_" in each.name}
    if kind.__struct_config__.forbid_unknown_fields:
        own = set()
    return frozenset(own).union(*(aliases(each.type) for each in structs.fields(kind)))


def _plain(kind: Any) -> Any:
    """A type without what may also be there instead of it."""
    if get_origin(kind) in (Union, UnionType):
        named = [each for each in get_args(kind) if each not in (msgspec.UnsetType, type(None))]
        return named[0] if len(named) == 1 else kind
    return kind


def _value(kind: Any, value: Any, where: str) -> Any:
    kind = _plain(kind)
    if get_origin(kind) is list:
        if not isinstance(value, list):
            raise wrong(where, value)
        item = get_args(kind)[0]
        return [_value(item, each, f"{where}[{place}]") for place, each in enumerate(value)]
    if isinstance(kind, type) and issubclass(kind, Struct):
        return fit(kind, value, where)
    if isinstance(value, str):
        if not value and get_origin(kind) is Annotated:
            raise missing(where)
        _check_text(value, where)
    elif get_origin(kind) is Literal and type(value) is int and 0 < value <= len(get_args(kind)):
        return get_args(kind)[value - 1]  # Protobuf numbers the names of an enumeration, from 1.
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        large = isinstance(value, int) and not -(2**63) <= value < 2**63
        raise wrong(where, value, "It does not fit into 64 bits." if large else "") from None


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise wrong(where, text, "It has half of a surrogate pair, which is no character.") from None
    if "\0" in text:
        raise wrong(where, text, "It has a NUL character, which databases do not keep. Remove it.")


def missing(where: str) -> Invalid:
    return Invalid(f"Missing value for required parameter '{where}'. {_HINT}")


def wrong(where: str, value: object, why: str = "") -> Invalid:
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    shown = shown if len(shown) <= 500 else f"{shown[:500]}…"
    why = why or f"Hint: Value was of type '{type(value).__name__}'. {_HINT}"
    return Invalid(f"Invalid value {shown} for parameter '{where or 'request body'}' supplied: {why}")
