"""What is different in what two runs were made of. Pure: capsules and code come in as values, and changes go out, unranked
(`capsule_rank.py` says which of them matters)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from itertools import chain
from pathlib import PurePosixPath
from typing import Any, Literal

import msgspec
from msgspec import Struct

from noria.client import rows
from noria.client.rows import Rows
from noria.projects.capsule import Capsule, Data, Library
from noria.projects.capsule_code import File

Kind = Literal[
    "seed", "code", "data", "package", "parameter", "command", "variable", "python", "driver", "resources", "hardware", "system"
]
DATA = {".csv", ".tsv", ".jsonl", ".ndjson", ".npy", ".npz", ".parquet", ".arff", ".libsvm", ".svm", ".txt", ".dat", ".data", ".h5", ".hdf5", ".pt", ".pth",
        ".pkl", ".bin", ".gz", ".zip", ".png", ".jpg", ".jpeg", ".wav"}  # fmt: skip
_HUNKS = 20
_SHOWN = 5
_SEED = re.compile(r"(.*[._-])?seed", re.IGNORECASE)
_NO_RESOURCE = {"command", "cwd", "env", "name", "experiment", "code", "environment", "site", "home", "script", "variables", "raw", "cluster", "agent",
                "after", "begin", "stage", "hang", "warn", "at_once", "as_is", "max_restarts", "retry"}  # fmt: skip


class Set(Struct, frozen=True):
    """A data set that a run logged. rows: by the name of each part, "" for the whole."""

    name: str
    context: str
    digest: str
    source: str = ""
    rows: dict[str, Rows] = {}


class Side(Struct, frozen=True):
    """One of two runs. capsule: None if it has none. Times in milliseconds since 1970; ended is 0 until it has. logged: the names
    of files that it kept, which it made as a rule."""

    run_id: str
    capsule: Capsule | None
    files: dict[str, File] = {}
    params: dict[str, str] = {}
    sets: list[Set] = []
    started: int = 0
    ended: int = 0
    logged: list[str] = []


class Change(Struct, frozen=True, omit_defaults=True):
    """One difference. where: the line or row, as people count them. old, new: what stands there. why: what makes it weigh more or less than others of
    its kind: "comment", "unreached", "config", "library", "imported", "tool", "rebuilt", "source", "beside", "output", "missing", "size"."""

    kind: Kind
    name: str
    old: str = ""
    new: str = ""
    where: str = ""
    why: str = ""

    def __str__(self) -> str:
        at = f"{self.name} {self.where}".strip()
        return f"{self.kind} {at}: {self.old or '-'} -> {self.new or '-'}"


def differences(old: Side, new: Side) -> list[Change]:
    """Of two runs. What both capsules lack is not told."""
    found = [*_parameters(old, new), *_sets(old, new)]
    if old.capsule is not None and new.capsule is not None:
        one, two = old.capsule, new.capsule
        logged = {each.source for each in chain(old.sets, new.sets) if each.source}
        seeds = _seeds({**one.seeds, **_of_seeds(old.params)}, {**two.seeds, **_of_seeds(new.params)})
        found = [
            *seeds, *_code(old, new), *_libraries(one.software.libraries, two.software.libraries), *_packages(old, new), *_data(old, new, logged), *found,
            *_software(one, two), *_variables(one, two), *_resources(one, two), *_hardware(one, two),
        ]  # fmt: skip
        found += _command(one, two, [*found])
    return found


def _both(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Names whose values are others, with both; None where there is none."""
    return ((name, old.get(name), new.get(name)) for name in sorted({*old, *new}) if old.get(name) != new.get(name))


def _of_seeds(params: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in params.items() if _SEED.fullmatch(name)}


def _seeds(old: Mapping[str, str], new: Mapping[str, str]) -> Iterator[Change]:
    """One change where a seed goes by several names."""
    told: set[tuple[str | None, str | None]] = set()
    for name, one, two in sorted(_both(old, new), key=lambda each: (each[0] != "seed", each[0] == "torch", each[0])):
        if (one, two) not in told and not (name == "torch" and told):
            told.add((one, two))
            yield Change("seed", name, one or "", two or "")


def _parameters(old: Side, new: Side) -> Iterator[Change]:
    for name, one, two in _both(old.params, new.params):
        if not _SEED.fullmatch(name):
            yield Change("parameter", name, _cut(one), _cut(two))


def _code(old: Side, new: Side) -> Iterator[Change]:
    assert old.capsule is not None and new.capsule is not None
    reached = {*old.capsule.code.reached, *new.capsule.code.reached}
    for name in sorted({*old.files, *new.files}):
        one, two = old.files.get(name), new.files.get(name)
        if one is not None and two is not None and one.content == two.content:
            continue
        output = _output(name, two.changed if two else 0, old, new)
        ending = PurePosixPath(name).suffix.lower()
        if ending in DATA:
            yield from _rows_of(name, one, two, ending, output)
        else:
            yield from _hunks(name, one, two, output or ("" if name in reached else _weight(name)))
    for name, left, right in _both(old.capsule.code.left, new.capsule.code.left):
        if name not in old.files and name not in new.files:
            kind: Kind = "data" if PurePosixPath(name).suffix.lower() in DATA else "code"
            yield Change(kind, name, left or "", right or "", why="" if left and right else "missing")


def _output(name: str, changed: int, old: Side, new: Side) -> str:
    """Whether a file was written by one of the runs: then it is what came of them, and not what they came of."""
    written = any(each.ended and each.started <= changed <= each.ended for each in (old, new))
    return "output" if written or PurePosixPath(name).name in {*old.logged, *new.logged} else ""


def _weight(name: str) -> str:
    """What a file is that the program does not import."""
    return (
        "config"
        if PurePosixPath(name).suffix in (".yaml", ".yml", ".json", ".toml", ".cfg", ".ini", ".sh") and "/." not in f"/{name}"
        else "unreached"
    )


def _hunks(name: str, old: File | None, new: File | None, why: str) -> Iterator[Change]:
    """Each stretch of lines that are others, with the first of them."""
    one, two = _lines(old), _lines(new)
    if one is None or two is None:
        yield Change("code", name, _size(old), _size(new), why=why)
        return
    if old is None or new is None:
        yield Change(
            "code",
            name,
            "" if old is None else f"{len(one)} lines",
            "" if new is None else f"{len(two)} lines",
            why=why or "missing",
        )
        return
    changes = [each for each in difflib.SequenceMatcher(None, one, two, autojunk=False).get_opcodes() if each[0] != "equal"]
    for _, a, b, c, d in changes[:_HUNKS]:
        where = f"line {c + 1}" if d - c <= 1 else f"lines {c + 1}-{d}"
        dull = name.endswith(".py") and all(_is_comment(line) for line in (*one[a:b], *two[c:d]))
        yield Change("code", name, _joined(one[a:b]), _joined(two[c:d]), where, why or ("comment" if dull else ""))


def _lines(file: File | None) -> list[str] | None:
    """None for what is no text."""
    try:
        return file.content.decode().splitlines() if file else []
    except UnicodeDecodeError:
        return None


def _is_comment(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _joined(lines: list[str]) -> str:
    return "\n".join([*lines[:_SHOWN], *([f"… {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else [])])


def _size(file: File | None) -> str:
    return f"{len(file.content):,} bytes" if file else ""


def _rows_of(name: str, old: File | None, new: File | None, ending: str, why: str) -> Iterator[Change]:
    """Of data that were frozen with the code, so that the rows themselves are at hand."""
    if old is None or new is None:
        yield Change("data", name, _size(old), _size(new), why=why or "missing")
        return
    try:
        seen = rows.moved(rows.of_stream(BytesIO(old.content), ending), rows.of_stream(BytesIO(new.content), ending))
    except Exception:  # Whatever a broken file of numpy's or of zip's raises: it differs all the same.
        seen = None
    one, two = old.content.splitlines(), new.content.splitlines()
    text = ending in rows.TEXT

    def shown(lines: list[bytes], at: int) -> str:
        return lines[at].decode(errors="replace")[:200] if text and at < len(lines) else ""

    yield _moved(
        Change("data", name, _size(old), _size(new), why=why),
        seen,
        "line" if text else "row",
        lambda at: (shown(one, at), shown(two, at)),
    )


def _moved(plain: Change, seen: rows.Moved | None, unit: str, show: Callable[[int], tuple[str, str]] | None = None) -> Change:
    """A change of data with the rows that are others."""
    if seen is None:
        return plain
    parts = [(seen.changed, ""), (seen.added, " added"), (seen.removed, " removed")]
    where = ", ".join(f"{_numbers(numbers, unit, sure=seen.sure)}{verb}" for numbers, verb in parts if numbers)
    if show and len(seen.changed) == 1 and not seen.added and not seen.removed and any(show(seen.changed[0])):
        old, new = show(seen.changed[0])
        return Change(plain.kind, plain.name, old, new, where, plain.why)
    return Change(plain.kind, plain.name, plain.old, plain.new, where, plain.why)


def _numbers(numbers: list[int], unit: str, *, sure: bool) -> str:
    """As people count them, from 1."""
    first = ", ".join(str(each + 1) for each in numbers[:_SHOWN])
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"{'' if sure else 'some of '}{unit}{'s' if len(numbers) > 1 else ''} {first}{more}"


def _sets(old: Side, new: Side) -> Iterator[Change]:
    """Data sets that were logged, by their names and what they were for."""
    one, two = ({(each.name, each.context): each for each in side.sets} for side in (old, new))
    for key in sorted({*one, *two}):
        left, right = one.get(key), two.get(key)
        if left is None or right is None:
            yield Change("data", key[0], left.digest if left else "", right.digest if right else "", key[1], "missing")
        elif left.digest != right.digest:
            yield _of_parts(Change("data", key[0], left.digest, right.digest), left, right)


def _of_parts(plain: Change, left: Set, right: Set) -> Change:
    places = []
    for part in sorted({*left.rows} & {*right.rows}):
        seen = rows.moved(left.rows[part], right.rows[part])
        change = _moved(plain, seen, f"{part} {right.rows[part].unit}".strip())
        if change.where:
            places.append(change.where)
    return Change(plain.kind, plain.name, plain.old, plain.new, ", ".join(places), plain.why)


def _data(old: Side, new: Side, logged: set[str]) -> Iterator[Change]:
    assert old.capsule is not None and new.capsule is not None
    one, two = ({each.path: each for each in side.data if each.path not in logged} for side in (old.capsule, new.capsule))
    for path in sorted({*one} & {*two}):
        left, right = one[path], two[path]
        same = (
            left.digest == right.digest
            if left.digest and right.digest
            else (left.size, left.changed) == (right.size, right.changed)
        )
        if not same:
            why = _output(path, right.changed, old, new) or ("beside" if right.why == "beside" else "")
            plain = Change("data", path, left.digest or _weighed(left), right.digest or _weighed(right), why=why)
            seen = rows.moved(left.rows, right.rows) if left.rows and right.rows else None
            yield _moved(plain, seen, right.rows.unit if right.rows else "row")
    for path in sorted({*one} ^ {*two}):
        each, gone = (one[path], True) if path in one else (two[path], False)
        said = each.digest or _weighed(each)
        why = _output(path, each.changed, old, new) or "missing"
        yield Change("data", path, said if gone else "", "" if gone else said, why=why)


def _weighed(data: Data) -> str:
    return f"{data.size:,} bytes"


def _libraries(old: Mapping[str, Library], new: Mapping[str, Library]) -> Iterator[Change]:
    for folder, one, two in _both(old, new):
        if one is None or two is None:
            yield Change("code", folder, one.digest if one else "", two.digest if two else "", why="missing")
        elif one.files and two.files:
            yield from (
                Change("code", f"{folder}/{name}", a or "", b or "", why="library") for name, a, b in _both(one.files, two.files)
            )
        else:
            yield Change("code", folder, one.digest, two.digest, why="library")


_NAMES = {
    "pil": "pillow",
    "sklearn": "scikit-learn",
    "cv2": "opencv-python-headless",
    "yaml": "pyyaml",
    "skimage": "scikit-image",
    "bs4": "beautifulsoup4",
}
_TOOLS = {
    "pip",
    "setuptools",
    "wheel",
    "pytest",
    "ruff",
    "mypy",
    "black",
    "build",
    "hatchling",
    "ipython",
    "uv",
    "virtualenv",
    "tox",
    "pre-commit",
}
_IMPORT = re.compile(rb"^\s*(?:import|from)\s+([A-Za-z_]\w*)", re.MULTILINE)


def _packages(old: Side, new: Side) -> Iterator[Change]:
    assert old.capsule is not None and new.capsule is not None
    used = {
        name.decode().lower()
        for side in (old, new)
        for path, file in side.files.items()
        if path.endswith(".py")
        for name in _IMPORT.findall(file.content)
    }
    wanted = {_NAMES.get(name, name).replace("_", "-") for name in used}
    for name, one, two in _both(old.capsule.software.packages, new.capsule.software.packages):
        why = "imported" if name in wanted else "tool" if name in _TOOLS else ""
        if one and two and one.version == two.version:
            if one.source != two.source:
                yield Change(
                    "package", name, f"{one.version} {one.source}".strip(), f"{two.version} {two.source}".strip(), why="source"
                )
            elif one.digest and two.digest:
                yield Change(
                    "package", name, f"{one.version} ({one.digest})", f"{two.version} ({two.digest})", "built anew", "rebuilt"
                )
        else:
            yield Change("package", name, one.version if one else "", two.version if two else "", why=why)


def _software(old: Capsule, new: Capsule) -> Iterator[Change]:
    one, two = old.software, new.software
    facts: tuple[tuple[Kind, str, str, str], ...] = (
        ("python", "version", f"{one.implementation} {one.version}", f"{two.implementation} {two.version}"), ("driver", "NVIDIA driver", one.driver, two.driver),
        ("driver", "CUDA", one.cuda, two.cuda), ("system", "libc", one.libc, two.libc), ("system", "kernel", one.system, two.system),
    )  # fmt: skip
    return (Change(kind, name, a, b) for kind, name, a, b in facts if a != b)


def _variables(old: Capsule, new: Capsule) -> Iterator[Change]:
    seeds = {*old.seeds} | {*new.seeds}
    return (Change("variable", name, _cut(a), _cut(b)) for name, a, b in _both(old.variables, new.variables) if name not in seeds)


def _resources(old: Capsule, new: Capsule) -> Iterator[Change]:
    """A script's are not known."""
    if old.spec is not None and new.spec is not None:
        one, two = (msgspec.to_builtins(each.spec) for each in (old, new))
        for name, a, b in _both(one, two):
            if name not in _NO_RESOURCE:
                yield Change("resources", name, str(a), str(b))


def _hardware(old: Capsule, new: Capsule) -> Iterator[Change]:
    one, two = (msgspec.to_builtins(each.hardware) for each in (old, new))
    return (Change("hardware", name, _plain(a), _plain(b)) for name, a, b in _both(one, two))


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _command(old: Capsule, new: Capsule, told: list[Change]) -> Iterator[Change]:
    """What is different in the words, where no seed or parameter says it already. Which interpreter it is says the software."""
    one, two = old.command[1:], new.command[1:]
    known = {each.old for each in told} | {each.new for each in told}
    differing = [word for word in {*one} ^ {*two} if word not in known and word.partition("=")[2] not in known]
    if one != two and (differing or {*one} == {*two}):
        yield Change("command", "", " ".join(one), " ".join(two))


def _cut(value: str | None) -> str:
    return (value or "")[:300]
