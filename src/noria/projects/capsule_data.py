"""The files that a run could read, as far as its command, its code and its variables name them; what scripts log by `noria.log_dataset` is known
better, and comes on its own."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from msgspec import structs

from noria.client import content, rows
from noria.errors import NoriaError
from noria.projects.capsule import Data

Why = Literal["command", "code", "variable", "beside"]
MOST = 64
_READ, _ROWS, _FOLDER = 256 << 20, 16 << 20, 2000
_SECONDS = 0.6
"""For all of them together: what comes after has its size and time alone."""
_CODE = {".py", ".pyc", ".pyi", ".so", ".sh", ".log", ".lock", ".spool", ".sif", ".tar"}
_OUTPUTS = {
    "runs",
    "outputs",
    "output",
    "out",
    "logs",
    "log",
    "checkpoints",
    "ckpts",
    "results",
    "build",
    "dist",
    "wandb",
    "mlruns",
    "htmlcov",
    "site",
}
_CONFIG = {".yaml", ".yml", ".json", ".toml", ".cfg", ".ini", ".sh", ".conf"}
_WORD = re.compile(r"""[^\s"'=:,;()\[\]{}<>|&$`]{2,300}""")


def found(command: Sequence[str], reached: Iterable[Path], configs: Iterable[Path], variables: Mapping[str, str], beside: Iterable[str],
          cwd: Path, root: Path, known: set[str], cache: Path) -> list[Data]:  # fmt: skip
    """known: paths of what was frozen with the code, which is not told twice. beside: paths that lie next to the code and are not of it."""
    whys: dict[str, Why] = {}
    for why, names in (
        ("command", _of_command(command)), ("variable", variables.values()), ("code", _of_code(reached)), ("code", _of_configs(configs)), ("beside", beside),
    ):  # fmt: skip
        for name in names:
            if path := _there(name, cwd, root, why):
                whys.setdefault(path, why)  # type: ignore[arg-type]  # The words above.
    wanted = [
        path for path in whys if path not in known and not any(path.startswith(f"{each}/") for each in whys if each != path)
    ]
    until = time.monotonic() + _SECONDS
    budget = _READ
    told = []
    for path in wanted[:MOST]:
        data, used = _told(path, whys[path], cache, budget if time.monotonic() < until else 0)
        budget -= used
        told.append(data)
    return told


def _of_command(command: Sequence[str]) -> Iterator[str]:
    for word in command[1:]:
        yield from {word, word.partition("=")[2]}


def _of_code(files: Iterable[Path]) -> Iterator[str]:
    """Texts that stand in programs."""
    for file in files:
        try:
            tree = ast.parse(file.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError):
            continue
        yield from (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def _of_configs(files: Iterable[Path]) -> Iterator[str]:
    for file in files:
        if file.suffix in _CONFIG:
            try:
                yield from _WORD.findall(file.read_text(errors="replace")[: 64 << 10])
            except OSError:
                continue


def _there(name: str, cwd: Path, root: Path, why: str) -> str:
    """Where data of this name lie, or "". A folder counts only by a path that says so, and never one that holds the code."""
    if not 1 < len(name) <= 300 or "\n" in name or "\0" in name or name.startswith(("/dev/", "/proc/", "/sys/", "-")):
        return ""
    for base in dict.fromkeys((cwd, root)):
        path = os.path.normpath(os.path.join(base, os.path.expanduser(name)))
        if os.path.isfile(path) and Path(path).suffix not in _CODE and not os.access(path, os.X_OK):
            return path
        if os.path.isdir(path) and not f"{root}/".startswith(f"{path}/") and not _dull(path, why):
            return path
    return ""


def _dull(path: str, why: str) -> bool:
    """Whether a folder is no data: an environment, or what programs write to."""
    name = os.path.basename(path)
    if (
        name.startswith(".")
        or name in _OUTPUTS
        or name.endswith((".egg-info", ".dist-info"))
        or os.path.exists(f"{path}/pyvenv.cfg")
    ):
        return True
    return path in ("/", "/tmp", "/usr", "/etc", "/home", "/var", "/opt") or (why == "code" and path.count("/") < 2)  # noqa: S108 (no file is made there)


def _told(path: str, why: Why, cache: Path, budget: int) -> tuple[Data, int]:
    """What is known of it, and how many bytes were read for that."""
    try:
        files = [Path(path)] if os.path.isfile(path) else _inside(path)
        seen = [file.stat() for file in files]
        size, changed = sum(each.st_size for each in seen), max((each.st_mtime_ns for each in seen), default=0) // 10**6
        plain = Data(path, size, why=why, changed=changed)
        if not files or len(files) > _FOLDER or size > budget:
            return plain, 0
        digest = content.of_path(Path(path), cache).digest
        made = rows.of_file(files[0], size, _ROWS) if os.path.isfile(path) else _listed(files)
        return structs.replace(plain, digest=digest, rows=made), size
    except (OSError, NoriaError):  # Gone meanwhile, not ours to read, or being written.
        return Data(path, why=why), 0


def _inside(path: str) -> list[Path]:
    found: list[Path] = []
    for at, folders, names in os.walk(path):
        folders.sort()
        found += [Path(at) / name for name in sorted(names) if os.path.isfile(os.path.join(at, name))]
        if len(found) > _FOLDER:
            break
    return found


def _listed(files: Sequence[Path]) -> rows.Rows:
    """A folder's files are its rows, in the order of their names: by their sizes and times, since their content was read for the digest."""
    return rows.kept(
        [
            int(hashlib.sha256(f"{file.name} {file.stat().st_size} {file.stat().st_mtime_ns}".encode()).hexdigest()[:16], 16)
            for file in files
        ],
        "file",
    )
