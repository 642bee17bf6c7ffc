"""What an MLproject file says, as MLflow reads it (MLflow: Projects, "MLproject file"). Pure but for finding and reading the file."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from msgspec import Struct

from noria.errors import Invalid, Unsupported

MAIN = "main"
ENVIRONMENTS = ("python_env", "conda_env", "docker_env")
"""At most one of these may be there."""
_SCRIPTS = {".py": "python {}", ".sh": "bash {}", ".R": "Rscript -e \"mlflow::mlflow_source('{}')\" --args"}
"""What runs a file that is named as an entry point."""


class Parameter(Struct, frozen=True):
    """One parameter of an entry point. default: None if it must be given."""

    name: str
    type: str = "string"
    default: str | None = None


class Entry(Struct, frozen=True):
    """An entry point: a command with {placeholders}, in the order of its parameters."""

    name: str
    command: str
    parameters: dict[str, Parameter] = {}


class Project(Struct, frozen=True):
    """A folder's project. file: its MLproject, "" without one. environment: of ENVIRONMENTS the one that it names, and what it says."""

    folder: str
    file: str = ""
    name: str = ""
    entries: dict[str, Entry] = {}
    environment: dict[str, Any] = {}

    def entry(self, name: str) -> Entry:
        """The entry point of this name, or the file of this name as a program. Raises Invalid, with the nearest name."""
        if name in self.entries:
            return self.entries[name]
        program = _SCRIPTS.get(Path(name).suffix)
        if program and (Path(self.folder) / name).is_file():
            return Entry(name, program.format(shlex.quote(name)).replace("{", "{{").replace("}", "}}"))
        raise Invalid(f"{self._called} has no entry point '{name}'.", self._instead(name))

    @property
    def _called(self) -> str:
        return f"The project {self.name}" if self.name else f"The project in {self.folder}"

    def _instead(self, name: str) -> str:
        if not self.file:
            return "It has no MLproject file: name one of its .py or .sh files with -e, or write an MLproject."
        scripts = sorted(each.name for each in Path(self.folder).iterdir() if each.suffix in _SCRIPTS)
        close = get_close_matches(name, [*self.entries, *scripts], 1)
        has = f"It has {', '.join(self.entries)}." if self.entries else "It has none; name one of its .py or .sh files."
        return f"Did you mean '{close[0]}'? {has}" if close else has


def read(folder: Path) -> Project:
    """The project in a folder, which may be one without an MLproject. Raises Invalid for a file that cannot be read as one."""
    found = next((each for each in sorted(folder.iterdir()) if each.name.lower() == "mlproject" and each.is_file()), None)
    if found is None:
        return Project(str(folder))
    try:
        text = found.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{found} cannot be read ({error}).", "It must be a YAML file in UTF-8.") from None
    return parsed(text, found)


def parsed(text: str, file: Path) -> Project:
    """What the text of that file says."""
    said = _mapping(_yaml(text, file), str(file))
    named = [each for each in ENVIRONMENTS if said.get(each)]
    if len(named) > 1:
        raise Invalid(f"{file} has {' and '.join(named)}.", "A project has one environment: keep one of them.")
    entries = _mapping(said.get("entry_points"), f"{file}: entry_points")
    environment = {each: _environment(each, said[each], file) for each in named}
    return Project(str(file.parent), str(file), str(said.get("name") or ""),
                   {str(name): _entry(str(name), each, file) for name, each in entries.items()}, environment)  # fmt: skip


def _yaml(text: str, file: Path) -> Any:
    try:
        import yaml
    except ImportError:
        raise Unsupported(f"{file} cannot be read: this Python has no PyYAML.", "pip install pyyaml") from None
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise Invalid(
            f"{file}{where} is no YAML: {getattr(error, 'problem', None) or 'it cannot be read'}.", "Mend it there."
        ) from None


def _mapping(value: Any, where: str) -> Mapping[Any, Any]:
    if value is not None and not isinstance(value, Mapping):
        raise Invalid(f"{where} is {str(value)[:80]!r}.", "Write it as names with values below them, such as `main:`.")
    return value or {}


def _environment(kind: str, said: Any, file: Path) -> Any:
    if kind != "docker_env":
        if not isinstance(said, str):
            raise Invalid(f"{file}: {kind} is {str(said)[:80]!r}.", f"Write the name of a file, such as {kind}: {kind}.yaml.")
        return said
    image = _mapping(said, f"{file}: docker_env")
    if not isinstance(image.get("image"), str) or not image["image"]:
        raise Invalid(f"{file}: docker_env names no image.", "Write it below: image: NAME, or the path of a .sif file.")
    return dict(image)


def _entry(name: str, said: Any, file: Path) -> Entry:
    where = f"{file}: the entry point {name}"
    entry = _mapping(said, where)
    command = entry.get("command")
    if not isinstance(command, str) or not command.strip():
        raise Invalid(f"{where} has no command.", 'Write one below it, such as command: "python train.py".')
    parameters = _mapping(entry.get("parameters"), f"{where}, parameters")
    return Entry(name, command, {str(key): _parameter(str(key), each, where) for key, each in parameters.items()})


def _parameter(name: str, said: Any, where: str) -> Parameter:
    if isinstance(said, str):
        return Parameter(name, said)
    about = _mapping(said, f"{where}, parameter {name}")
    default = about.get("default")
    return Parameter(name, str(about.get("type") or "string"), None if default is None else str(default))
