"""What goes into a model and what comes out: tensors, or a table's columns, and parameters. Written as MLflow writes them.

Source: MLflow documentation, "Model Signatures and Input Examples"; compared with `mlflow.models.ModelSignature` of MLflow 3.17.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

PLAIN = ("boolean", "integer", "long", "float", "double", "string", "binary", "datetime")
"""The types of single values; integer and float have 32 bits, long and double 64."""
_INSIDE = {"array": "items", "object": "properties", "map": "values"}
"""Types of values that hold values, and where the types of these are written."""
_MOST = 2**40
_DEEPEST = 32


class TensorSpec(Struct, frozen=True):
    """One tensor: a NumPy dtype's name, and a shape in which -1 is any length. `name` is empty if there is but one."""

    dtype: str
    shape: tuple[int, ...]
    name: str = ""

    def record(self) -> dict[str, Any]:
        named = {"name": self.name} if self.name else {}
        return {"type": "tensor", "tensor-spec": {"dtype": self.dtype, "shape": list(self.shape)}, **named}


class ColSpec(Struct, frozen=True):
    """One column: a type of PLAIN, "any", "sparkml_vector", or array, object or map with what is `inside`, as MLflow's JSON has it.

    `name` is None for a column that is known by its place, and a number where pandas counted the columns.
    """

    type: str
    name: str | int | None = None
    required: bool = True
    inside: dict[str, Any] = {}

    def record(self) -> dict[str, Any]:
        named = {} if self.name is None else {"name": self.name}
        return {"type": self.type, **self.inside, **named, "required": self.required}


class ParamSpec(Struct, frozen=True):
    """One parameter of a prediction. `listed`: its value is a list of `type`, not one of them."""

    name: str
    type: str
    default: Any
    listed: bool = False
    inside: dict[str, Any] = {}

    def record(self) -> dict[str, Any]:
        shape = [-1] if self.listed else None
        return {"name": self.name, "default": self.default, "shape": shape, "type": self.type, **self.inside}


Spec = TensorSpec | ColSpec


class Signature(Struct, frozen=True):
    """A side is tensors or columns, never both; empty where it is not known."""

    inputs: tuple[Spec, ...] = ()
    outputs: tuple[Spec, ...] = ()
    params: tuple[ParamSpec, ...] = ()

    @property
    def columns(self) -> tuple[ColSpec, ...]:
        """The input's, if it is a table."""
        return tuple(spec for spec in self.inputs if isinstance(spec, ColSpec))

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """The input's, if it is made of tensors."""
        return tuple(spec for spec in self.inputs if isinstance(spec, TensorSpec))

    def record(self) -> dict[str, str | None]:
        """MLflow's: each side as JSON in a text, or None."""
        sides: dict[str, Sequence[Spec | ParamSpec]] = {"inputs": self.inputs, "outputs": self.outputs, "params": self.params}
        return {name: json.dumps([spec.record() for spec in specs]) if specs else None for name, specs in sides.items()}


def read(record: Mapping[str, Any]) -> Signature:
    """The reverse of Signature.record. Raises ValueError, TypeError or KeyError for what is no signature."""
    sides = {name: json.loads(record[name]) if record.get(name) else [] for name in ("inputs", "outputs", "params")}
    return Signature(tuple(map(_spec, sides["inputs"])), tuple(map(_spec, sides["outputs"])), tuple(map(_param, sides["params"])))


def _spec(record: Mapping[str, Any]) -> Spec:
    if record["type"] == "tensor":
        tensor = record["tensor-spec"]
        return TensorSpec(str(tensor["dtype"]), _shape(tensor["shape"]), str(record.get("name") or ""))
    kind = checked(record)
    return ColSpec(kind["type"], record.get("name"), bool(record.get("required", True)), _without_type(kind))


def _shape(lengths: Sequence[Any]) -> tuple[int, ...]:
    shape = tuple(int(length) for length in lengths)
    if len(shape) > 64 or min(shape, default=0) < -1 or math.prod(max(length, 1) for length in shape) > _MOST:
        raise ValueError(f"no tensor has the shape {str(list(shape))[:80]}")
    return shape


def _param(record: Mapping[str, Any]) -> ParamSpec:
    kind = checked({**record, "type": record.get("type") or record["dtype"]})
    return ParamSpec(str(record["name"]), kind["type"], record["default"], record.get("shape") is not None, _without_type(kind))


def checked(record: Mapping[str, Any], depth: int = 0) -> dict[str, Any]:
    """A type as MLflow writes it, and nothing else that stands beside it. Raises ValueError, TypeError or KeyError."""
    kind = record["type"]
    if depth > _DEEPEST:
        raise ValueError("its types stand too deep in each other")
    if kind in (*PLAIN, "any", "sparkml_vector"):
        return {"type": kind}
    if kind not in _INSIDE:
        raise ValueError(f"there is no type '{str(kind)[:40]}'")
    word = _INSIDE[kind]
    if kind != "object":
        return {"type": kind, word: checked(record[word], depth + 1)}
    found = {
        str(name): {**checked(each, depth + 1), "required": bool(each.get("required", True))}
        for name, each in record[word].items()
    }
    return {"type": kind, word: found}


def _without_type(kind: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kind.items() if name != "type"}


def shown(spec: Spec | ParamSpec) -> str:
    """For people: `x: float32 [-1, 4]`, `age: long`, `words: list of string (optional)`."""
    name = f"{spec.name}: " if spec.name not in ("", None) else ""
    if isinstance(spec, TensorSpec):
        return f"{name}{spec.dtype} {list(spec.shape)}"
    text = _worded({"type": spec.type, **spec.inside})
    if isinstance(spec, ParamSpec):
        return f"{name}{'list of ' if spec.listed else ''}{text} = {str(spec.default)[:60]}"
    return f"{name}{text}{'' if spec.required else ' (optional)'}"


def _worded(kind: Mapping[str, Any]) -> str:
    if kind["type"] == "array":
        return f"list of {_worded(kind['items'])}"
    if kind["type"] == "map":
        return f"map to {_worded(kind['values'])}"
    if kind["type"] == "object":
        return f"{{{', '.join(f'{name}: {_worded(each)}' for name, each in kind['properties'].items())}}}"
    return str(kind["type"])
