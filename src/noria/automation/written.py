"""Rules as people write them, in a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.automation import settings
from noria.errors import Invalid
from noria.wire.rules import Rule


def read(path: Path) -> list[Rule]:
    """The rules of a TOML file: one at its top, or several as [[rule]]. A step's ./path is relative to that file. Raises Invalid."""
    try:
        given = tomllib.loads(path.read_text())
    except OSError as error:
        raise Invalid(f"{path} cannot be read ({(error.strerror or str(error)).lower()}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} is not valid TOML ({error}).", "Mend that line.") from None
    several = given.pop("rule", None)
    if several is None:
        return [written(_placed(given, path), str(path))]
    if given or not isinstance(several, list) or not all(isinstance(each, dict) for each in several):
        odd = next(iter(given), "rule")
        raise Invalid(f"{path}: '{odd}' stands beside the rules.", "Write each rule under a line [[rule]] of its own.")
    return [written(_placed(each, path), f"{path}, rule {number}") for number, each in enumerate(several, 1)]


def _placed(given: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Engines run anywhere, and know nothing of where the file lay."""
    steps = {name: given[name] for name in ("then", "otherwise") if isinstance(given.get(name), list)}
    return {**given, **{name: [_whole(step, path.absolute().parent) for step in listed] for name, listed in steps.items()}}


def _whole(step: Any, folder: Path) -> Any:
    if not isinstance(step, dict):
        return step
    near = {name: value for name, value in step.items() if isinstance(value, str) and value.startswith(("./", "../"))}
    return {**step, **{name: str((folder / value).resolve()) for name, value in near.items() if (folder / value).exists()}}


def written(given: Mapping[str, Any], where: str) -> Rule:
    """A rule from plain data. where: what it is called if it has no name."""
    name = given.get("name")
    return settings.struct(Rule, given, f"Rule '{name}'" if isinstance(name, str) else where)
