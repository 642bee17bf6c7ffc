"""pip's requirement files, with all that they refer to, as lines that refer to no other file.

(pip: Requirements File Format.) `packaging` reads the requirements. The files themselves are read here, because no kept library reads
them that is not pip itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from msgspec import Struct

from noria.errors import Invalid
from noria.projects.build import Line

if TYPE_CHECKING:
    from packaging.requirements import Requirement

_VALUED = ("-i", "--index-url", "--pypi-url", "--extra-index-url", "-f", "--find-links", "--no-binary", "--only-binary",
           "--trusted-host", "--use-feature")  # fmt: skip
_FLAGS = ("--no-index", "--pre", "--prefer-binary", "--require-hashes")
_OF_A_LINE = re.compile(r"\s--(?:hash|config-settings?|global-option)[= ].*$")
ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2", ".tgz")


class Wanted(Struct):
    """What requirement files say together."""

    lines: list[Line] = []
    constraints: list[Line] = []
    options: list[Line] = []


def read(lines: Iterable[str], folder: Path, where: str, env: Mapping[str, str] = os.environ) -> Wanted:
    """What these lines say. folder: what their paths start from. where: their file, for a person.

    Raises Invalid for a line that pip would not take, and for a file that is not there.
    """
    found = Wanted([], [], [])
    _Reader(found, folder, env).read(lines, folder, where, found.lines, [])
    return found


def text_of(path: Path, named: str = "") -> str:
    """Of a file. Raises Invalid, where it is named and by whom, if it cannot be read."""
    try:
        return path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        raise Invalid(f"{path} is no text in UTF-8.", "Save it as UTF-8.") from None
    except OSError as error:
        by = f", which {named} refers to," if named else ""
        raise Invalid(f"{path}{by} cannot be read ({error.strerror}).", "Mend that name, or put the file there.") from None


class _Reader:
    def __init__(self, found: Wanted, folder: Path, env: Mapping[str, str]) -> None:
        self.found, self.folder, self.env = found, folder, env

    def read(self, lines: Iterable[str], beside: Path, where: str, into: list[Line], above: list[Path]) -> None:
        """above: the files that led here."""
        for line in _joined(lines):
            line = re.sub(r"\$\{([A-Z0-9_]+)\}", lambda name: self.env.get(name[1], name[0]), line)
            option, value = _option(line)
            if option in ("-r", "--requirement", "-c", "--constraint"):
                self._other(option, value, beside, where, into, above)
            elif option in ("-e", "--editable"):
                into.append(self._requirement(value, beside, where))
            elif option in _VALUED or option in _FLAGS:
                self.found.options.append(self._found_links(option, value, beside))
            elif option:
                raise Invalid(f"{where}: pip knows no option {option} in such a file.", "Mend that line.")
            else:
                into.append(self._requirement(line, beside, where))

    def _other(self, option: str, value: str, beside: Path, where: str, into: list[Line], above: list[Path]) -> None:
        if re.match(r"https?:", value):
            raise Invalid(f"{where} refers to {value}, which may say something else tomorrow.", "Keep that file in the project.")
        path = Path(_path(value, beside) if (beside / value).exists() or "file:" in value else _path(value, self.folder))
        if path in above:
            raise Invalid(f"{path} refers to itself, by {where}.", "Take one of the references out.")
        into = into if option in ("-r", "--requirement") else self.found.constraints
        self.read(text_of(path, where).splitlines(), path.parent, str(path), into, [*above, path])

    def _found_links(self, option: str, value: str, beside: Path) -> Line:
        """An option; a folder of wheels by its path."""
        local = _path(value, beside) if option in ("-f", "--find-links") else ""
        if local and os.path.exists(local):
            return Line(f"{option} {{}}", local)
        return Line(f"{option} {value}".strip().replace("{", "{{").replace("}", "}}"))

    def _requirement(self, text: str, beside: Path, where: str) -> Line:
        from packaging.requirements import InvalidRequirement, Requirement

        local = self._local(text, beside, where)
        if local is not None:
            return local
        if re.match(r"(git|hg|svn|bzr)\+|https?:", text):
            return Line(_plain(text))
        bare = _OF_A_LINE.sub("", text)
        try:
            return Line(_plain(f"{_canonical(Requirement(bare))}{text[len(bare) :]}"))
        except InvalidRequirement as error:
            reason = str(error).partition("\n")[0].rstrip(".")
            cure = "A version is pinned by ==." if re.search(r"[^=<>!~]=[^=]", bare) else "Write it as in numpy>=1.26,<3."
            raise Invalid(f"{where}: '{bare}' is no requirement ({reason}).", cure) from None

    def _local(self, text: str, beside: Path, where: str) -> Line | None:
        """A folder, wheel or archive of the project's own: `./pkg[extra] ; marker`, or `name @ file:…`."""
        bare, marker = re.fullmatch(r"(.*?)(\s+;.*|;\s.*)?", text, re.DOTALL).groups("")  # type: ignore[union-attr]
        named = re.fullmatch(r"([\w.\-]+\s*(?:\[[^\]]*\])?)\s*@\s*(.+)", bare)
        name, place = (f"{named[1].strip()} @ file://", named[2]) if named else ("", bare)
        extras = re.search(r"\[[^\]]*\]$", place)
        place = place[: extras.start()] if extras else place
        is_path = place.startswith((".", "/", "file:")) or (not named and place.endswith(ARCHIVES) and "://" not in place)
        if not is_path and (named or os.sep not in place or "://" in place):
            return None
        paths = [_path(place, folder) for folder in (self.folder, beside)]
        path = next((each for each in paths if os.path.exists(each)), "")
        if not path:
            raise Invalid(f"{where}: there is no {paths[0]}.", "Give the path of a package from the project's folder.")
        return Line(f"{name}{{}}{_plain(extras[0]) if extras else ''}{_plain(marker)}", path)


def _canonical(asked: Requirement) -> str:
    """Written in one way whatever release of packaging reads it: spaces and the order of specifiers say nothing."""
    from packaging.utils import canonicalize_name

    extras = f"[{','.join(sorted(asked.extras))}]" if asked.extras else ""
    version = ",".join(sorted(str(each) for each in asked.specifier))
    url, marker = (f" @ {asked.url}" if asked.url else ""), (f" ; {asked.marker}" if asked.marker else "")
    return f"{canonicalize_name(asked.name)}{extras}{version}{url}{marker}"


def _plain(text: str) -> str:
    """So that `format` leaves it as it is."""
    return text.strip(" ").replace("{", "{{").replace("}", "}}") if "{" in text or "}" in text else text


def _joined(lines: Iterable[str]) -> Iterable[str]:
    """Without comments, and with what goes on after a backslash."""
    held = ""
    for line in lines:
        line = held + re.sub(r"(^|\s)#.*$", "", line).rstrip()
        held = line[:-1] if line.endswith("\\") else ""
        if line.strip() and not held:
            yield line.strip()
    if held.strip():
        yield held.strip()


def _option(line: str) -> tuple[str, str]:
    """`-r x`, `-rx`, `--name x` and `--name=x` as a pair; ("", "") for a requirement."""
    if not line.startswith("-"):
        return "", ""
    if line.startswith("--"):
        found = re.fullmatch(r"(--[\w-]+)(?:[= ]\s*(.*))?", line)
        return (found[1], (found[2] or "").strip().strip("\"'")) if found else (line, "")
    return line[:2], line[2:].lstrip("= ").strip("\"'")


def _path(text: str, folder: Path) -> str:
    if text.startswith("file:"):
        text = unquote(urlsplit(text).path)
    return os.path.normpath(folder / text)
