"""A gate is data: which conditions a version has to meet before it takes a stage, and on which held-out examples.

held_out = "held_out.npz"              # or a table of several: held_out = { usual = "a.npz", night = "b.npz" }

[[conditions]]
name = "better"                        # a file of the shelf conditions/
metric = "accuracy"                    # its settings
held_out = "night"                     # which of several sets; the first by default
"""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
from msgspec import Struct

from noria.automation.conditions import CONDITIONS
from noria.errors import Invalid, NotFound

TAG = "noria.gate"
"""The tag of a registered model that holds its gate, in TOML."""
USUAL = "held_out"
_KEYS = ("held_out", "conditions")
_CURE = "docs/promotion.md shows one that works."


class Rule(Struct, frozen=True):
    """One condition with its settings. held_out: the name of the set that it is judged on."""

    name: str
    settings: dict[str, Any]
    held_out: str = USUAL


class Gate(Struct, frozen=True):
    """held_out: paths by name, the first being the usual one. origin: where it was read, for people; digest: SHA-256 of its text."""

    rules: tuple[Rule, ...]
    held_out: dict[str, str] = {}
    origin: str = ""
    digest: str = ""


def usual(held_out: str) -> Gate:
    """What `--held-out` alone asks for: not significantly worse than the champion."""
    return Gate((Rule("not_worse", {}),), {USUAL: held_out}, "--held-out")


def load(path: Path) -> Gate:
    """A gate from a file; paths in it are relative to its folder. Raises NotFound, or Invalid for what it does not understand."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise NotFound(
            f"The gate {path} cannot be read ({getattr(error, 'strerror', None) or error}).", "Check the path."
        ) from None
    return parse(text, str(path), path.absolute().parent)


def parse(text: str, origin: str, base: Path) -> Gate:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{origin} is not valid TOML ({error}).", _CURE) from None
    unknown = sorted(content.keys() - {*_KEYS})
    if unknown:
        raise Invalid(f"{origin} says '{unknown[0]}', which a gate does not know.", f"It knows: {', '.join(_KEYS)}.")
    given = content.get("held_out", {})
    paths = {USUAL: given} if isinstance(given, str) else given
    if not isinstance(paths, dict) or not all(isinstance(path, str) for path in paths.values()):
        raise Invalid(f"{origin}: held_out is neither a path nor a table of paths.", _CURE)
    conditions = content.get("conditions")
    if not isinstance(conditions, list) or not conditions or not all(isinstance(each, dict) for each in conditions):
        raise Invalid(f"{origin} has no conditions.", f"Write [[conditions]] with a name: {', '.join(CONDITIONS.names())}.")
    sets = {name: str(base / path) for name, path in paths.items()}
    return Gate(tuple(_rule(each, sets, origin) for each in conditions), sets, origin, sha256(text.encode()).hexdigest())


def _rule(content: Mapping[str, Any], sets: Mapping[str, str], origin: str) -> Rule:
    settings = dict(content)
    name, where = settings.pop("name", None), settings.pop("held_out", next(iter(sets), USUAL))
    if not isinstance(name, str):
        raise Invalid(f"{origin} has a condition without a name.", f"There are: {', '.join(CONDITIONS.names())}.")
    if where not in sets and "held_out" in content:
        raise Invalid(f"{origin}: {name} names the held-out set '{where}' (there are: {', '.join(sets) or 'none'}).", _CURE)
    return Rule(name, checked(name, settings, origin), where)


def checked(name: str, settings: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """The settings as the condition takes them. Raises Invalid, with what there is, for an unknown condition or setting."""
    judge = CONDITIONS.get(name).judge
    known = [each.name for each in inspect.signature(judge).parameters.values() if each.kind is each.KEYWORD_ONLY]
    hints = get_type_hints(judge)
    result = {}
    for key, value in settings.items():
        if key not in known:
            raise Invalid(f"{origin}: {name} has no setting '{key}'.", f"It has: {', '.join(known)}.")
        try:
            result[key] = msgspec.convert(value, hints[key])
        except msgspec.ValidationError as error:
            raise Invalid(f"{origin}: {key} = {value!r} of {name} is wrong ({error}).", _CURE) from None
    return result


def dumps(gate: Gate) -> str:
    """The gate as TOML, with whole paths: so it means the same wherever it is read."""
    sets = ", ".join(f"{_key(name)} = {_value(path)}" for name, path in gate.held_out.items())
    lines = [f"held_out = {{ {sets} }}", ""] if sets else []
    for rule in gate.rules:
        which = {"held_out": rule.held_out} if rule.held_out in gate.held_out and len(gate.held_out) > 1 else {}
        pairs = {"name": rule.name, **rule.settings, **which}
        lines += ["[[conditions]]", *(f"{key} = {_value(value)}" for key, value in pairs.items()), ""]
    return "\n".join(lines)


def _key(name: str) -> str:
    return msgspec.json.encode(name).decode()


def _value(value: Any) -> str:
    """JSON's texts, numbers, lists and booleans are TOML's too, but for infinities."""
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    return msgspec.json.encode(value).decode()
