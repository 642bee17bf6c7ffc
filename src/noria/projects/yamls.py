"""YAML files as people write them: all values stay texts, so that Python 3.10 is not 3.1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from noria.errors import Invalid
from noria.projects.requirements import text_of


def read(path: Path) -> dict[str, Any]:
    """The mapping that a file holds. Raises Invalid if it holds none."""
    import yaml

    loader = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
    try:
        found = yaml.load(text_of(path), Loader=loader)  # noqa: S506 (a BaseLoader makes texts, lists and mappings alone)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None) or "it cannot be read"
        at = f" line {mark.line + 1}" if mark else ""
        raise Invalid(f"{path}{at} is no valid YAML ({problem}).", "Mend that line.") from None
    if found is None or found == "":
        return {}
    if not isinstance(found, dict):
        raise Invalid(f"{path} is no mapping of names to values.", "Write it as NAME: VALUE, one on each line.")
    return found


def known(path: Path, found: Mapping[str, Any], names: Iterable[str]) -> None:
    """Raise Invalid for a key that means nothing."""
    for key in found:
        if key not in names:
            close = get_close_matches(key, list(names), 1)
            raise Invalid(
                f"{path}: there is no key {key}.", f"Did you mean {close[0]}?" if close else f"It may have {', '.join(names)}."
            )


def texts(path: Path, found: Mapping[str, Any], key: str) -> list[str]:
    """A list of lines. Raises Invalid if it is anything else."""
    value = found.get(key) or []
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise Invalid(f"{path}: {key} is no list of lines.", f"Write {key}: and below it one '- LINE' for each.")
    return value
