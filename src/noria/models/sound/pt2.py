"""Archives of torch.export (.pt2): a graph in JSON beside raw weights. torch.export.load also takes pickles and libraries from them, turns
names into whatever they lead to from `torch` on, and makes Python of names, sizes and guards. Here a copy is made that can only be a graph.

Source: torch.export.pt2_archive and torch._export.serde of PyTorch 2.13.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

_RECORDS = re.compile(
    r"models/model\.json|data/(?:weights|constants)/\w+|data/(?:weights|constants)/model_\w+_config\.json"
    r"|data/sample_inputs/model\.pt|archive_format|archive_version|extra/.*"
)
_OWN = re.compile(r"version|byteorder|\.data/.*")
"""What PyTorch's writer puts there itself."""
_TARGET = re.compile(
    r"torch\.ops\.(?:aten|prims|quantized_decomposed)\.(?!save\b|from_file\b|_print\b)(?:__(?:i?and|i?or|i?xor|i?lshift|i?rshift)__|(?!__)\w+)"
    r"\.[A-Za-z]\w*"
    r"|torch\.ops\.higher_order\.(?:cond|while_loop|map_impl|scan|associative_scan|wrap_with_set_grad_enabled|wrap_with_autocast)"
    r"|torch\.sym_(?:max|min|int|float|not|ite|sum|sqrt)|torch\._sym_sqrt|math\.[a-z]\w*"
    r"|_operator\.(?:getitem|add|sub|mul|floordiv|truediv|mod|pow|neg|pos|abs|le|ge|lt|gt|eq|ne|and_|or_|xor|not_|lshift|rshift)"
)
_NAME = re.compile(r"[\w.+:\- ]*")
_SYMBOL = re.compile(r"Symbol\('\w+'(?:, \w+=(?:True|False|None))*\)|(?:Integer|Float)\('?[-+.\de]+'?(?:, precision=\d+)?\)")
_WORDS = frozenset(
    [
        "_",
        "Add",
        "Mul",
        "Pow",
        "Integer",
        "Rational",
        "FloorDiv",
        "ModularIndexing",
        "Where",
        "PythonMod",
        "Mod",
        "CleanDiv",
        "CeilToInt",
        "FloorToInt",
        "CeilDiv",
        "LShift",
        "RShift",
        "PowByNatural",
        "FloatPow",
        "FloatTrueDiv",
        "IntTrueDiv",
        "TruncToFloat",
        "TruncToInt",
        "RoundToInt",
        "RoundDecimal",
        "ToFloat",
        "Identity",
        "Max",
        "Min",
        "Eq",
        "Ne",
        "Lt",
        "Le",
        "Gt",
        "Ge",
        "Equality",
        "Unequality",
        "StrictLessThan",
        "LessThan",
        "StrictGreaterThan",
        "GreaterThan",
        "And",
        "Or",
        "Not",
        "true",
        "false",
        "True",
        "False",
        "evaluate",
    ]
)
_KINDS = {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
_DROPPED: dict[str, Any] = {"metadata": {}, "guards_code": []}


def cleaned(records: Mapping[str, bytes]) -> dict[str, bytes]:
    """The archive's records by their names, without notes and guards. Raises ValueError, with what is in it that no graph needs."""
    if strange := [name for name in records if not _RECORDS.fullmatch(name) and not _OWN.fullmatch(name)]:
        raise ValueError(f"it holds {strange[0]:.60}")
    if "models/model.json" not in records:
        raise ValueError("it holds no graph")
    kept = {name: content for name, content in records.items() if _RECORDS.fullmatch(name) and not name.startswith("extra/")}
    for place in ("weights", "constants"):
        _raw(json.loads(records[f"data/{place}/model_{place}_config.json"]))
    kept["models/model.json"] = json.dumps(_graph(json.loads(records["models/model.json"]), "")).encode()
    return kept


def _raw(config: Any) -> None:
    for name, entry in config["config"].items():
        if entry["use_pickle"] or not re.fullmatch(r"(?:weight|tensor)_\d+", entry["path_name"]):
            raise ValueError(f"its {name:.60} is a pickle")


def _graph(part: Any, name: str) -> Any:
    """The same values, each text among them what its place allows."""
    if name in _DROPPED:
        return _DROPPED[name]
    if isinstance(part, dict):
        if strange := [key for key in part if not _NAME.fullmatch(key)]:
            raise ValueError(f"it has the name {strange[0]!r:.60}")
        return {key: _graph(value, key) for key, value in part.items()}
    if isinstance(part, list):
        return [_graph(value, name) for value in part]
    if isinstance(part, str):
        _text(part, name)
    return part


def _text(text: str, name: str) -> None:
    if name in ("target", "as_operator"):
        if not _TARGET.fullmatch(text):
            raise ValueError(f"it uses {text:.60}")
    elif name == "expr_str":
        _expression(text)
    elif name in ("in_spec", "out_spec"):
        _spec(json.loads(text)[1] if text else {"type": None})
    elif name != "as_string" and not _NAME.fullmatch(text):
        raise ValueError(f"it has the name {text!r:.60}")


def _expression(text: str) -> None:
    plain = _SYMBOL.sub("_", text)
    words = set(re.findall(r"[A-Za-z_]\w*", plain))
    if (
        not words <= _WORDS
        or not re.fullmatch(r"[\w\s()+\-*/,.%<>=!&|~]{0,2000}", plain)
        or re.search(r"\.\s*[A-Za-z_]|\*\*\s*\d{3}", plain)
    ):
        raise ValueError(f"it has the size {text:.60}")


def _spec(spec: Any) -> None:
    """How arguments are put together: of tuples, lists and dicts alone."""
    if spec["type"] not in _KINDS:
        raise ValueError(f"it takes or gives a {spec['type']!s:.60}")
    context = json.loads(spec["context"]) if spec.get("context") else None
    if not (context is None or (isinstance(context, list) and all(isinstance(key, (str, int)) for key in context))):
        raise ValueError("it takes or gives what cannot be told")
    for child in spec.get("children_spec", []):
        _spec(child)
