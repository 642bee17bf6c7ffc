"""Which Python a run has, and what is installed for it: read from files, so that nothing of the run's is imported."""

from __future__ import annotations

import ast
import hashlib
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from noria import process
from noria.hardware import probe
from noria.projects.capsule import Hardware, Library, Package, Software
from noria.projects.capsule_secrets import url

ASK = """import json, platform, sys
print(json.dumps({"executable": sys.executable, "prefix": sys.prefix, "base": sys.base_prefix, "version": platform.python_version(),
                  "implementation": platform.python_implementation(), "path": sys.path[1:]}))"""
_WAIT = 10.0
_FILES = 500
_LIBRARY = 3000
_HEAD = 16 << 10
_OTHERS = {"site-packages", "dist-packages", ".lib"}
"""Parts of paths below which installers put things, and jobs the copy of Noria that they carry."""
_NAMED = re.compile(r"^(Name|Version): *(.+?)\s*$", re.MULTILINE)


class Interpreter(Struct, frozen=True):
    """What a Python says of itself. path: sys.path without the program's own folder."""

    executable: str
    prefix: str
    base: str
    version: str
    implementation: str
    path: list[str]


def ask(python: str, env: Mapping[str, str], cwd: str) -> Interpreter | None:
    """None for a Python that is not there or does not answer."""
    said = process.run([python, "-c", ASK], env=env, cwd=cwd or None, timeout=_WAIT)
    try:
        return msgspec.json.decode(said.out, type=Interpreter) if said.code == 0 else None
    except msgspec.MsgspecError:
        return None


def installed(of: Interpreter, inside: str) -> Software:
    """inside: the root of the code, which is kept elsewhere."""
    driver, cuda = _driver()
    return Software(
        of.executable, of.version, of.implementation, of.prefix, f"{platform.system()} {platform.release()}",
        " ".join(platform.libc_ver()), driver, cuda, packages(of.path), libraries(of, inside),
    )  # fmt: skip


def packages(path: Sequence[str]) -> dict[str, Package]:
    """By name; of two with one name Python takes the first."""
    found: dict[str, Package] = {}
    for folder in dict.fromkeys(os.path.abspath(each or ".") for each in path):
        if os.path.exists(f"{folder}/.lib"):
            continue  # The copy of Noria that a job carries.
        for entry in _entries(folder):
            if entry.name.endswith((".dist-info", ".egg-info")):
                for name, package in _package(Path(entry.path)):
                    found.setdefault(name, package)
    return dict(sorted(found.items()))


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from sorted(entries, key=lambda entry: entry.name)
    except OSError:  # A part of sys.path may be a file, or not be there.
        return


def _package(info: Path) -> Iterator[tuple[str, Package]]:
    """Nothing for a folder that names none, as pip leaves them behind."""
    file = info if info.is_file() else info / ("METADATA" if info.suffix == ".dist-info" else "PKG-INFO")
    try:
        with file.open(encoding="utf-8", errors="replace") as text:
            said = dict(reversed(_NAMED.findall(text.read(_HEAD).partition("\n\n")[0])))
    except OSError:
        return
    if "Name" in said and "Version" in said:
        yield normal(said["Name"]), Package(said["Version"], _source(info), _recorded(info))


def normal(name: str) -> str:
    """As indexes write it (Python packaging: Name normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _source(info: Path) -> str:
    """Where a package is from that no index gave (PEP 610): a commit, an archive, or a folder that may be changed any time."""
    try:
        said = msgspec.json.decode((info / "direct_url.json").read_bytes(), type=dict)
    except (OSError, msgspec.MsgspecError):
        return ""
    commit = said.get("vcs_info", {}).get("commit_id", "")
    vcs = f"{said['vcs_info'].get('vcs', 'git')}+" if commit else ""
    editable = "editable " if said.get("dir_info", {}).get("editable") else ""
    return f"{editable}{vcs}{url(str(said.get('url', '')))}{f'@{commit}' if commit else ''}"


def _recorded(info: Path) -> str:
    """Of the hashes of its files, but for programs, which hold the environment's own path, and what installers write down."""
    try:
        lines = (info / "RECORD").read_bytes().splitlines()
    except OSError:
        return ""
    own = f"{info.name}/".encode()
    return hashlib.sha256(
        b"\n".join(sorted(line for line in lines if not line.startswith((b"..", b"/", own)) and b".pyc," not in line))
    ).hexdigest()[:16]


def libraries(of: Interpreter, inside: str) -> dict[str, Library]:
    """Folders of Python files on sys.path that no index and no interpreter put there, by their path."""
    usual = [*(Path(each).resolve() for each in (of.prefix, of.base) if each), *([Path(inside)] if inside else [])]
    found = {}
    for folder in dict.fromkeys(Path(text).resolve() for text in of.path if text):
        apart = not any(folder.is_relative_to(each) for each in usual) and not _OTHERS & {*folder.parts}
        # Where distributions are installed, they say what there is.
        if (
            apart
            and folder.is_dir()
            and not (folder / ".lib").exists()
            and not any(folder.glob("*.dist-info"))
            and (library := _library(folder))
        ):
            found[str(folder)] = library
    return found


def _library(folder: Path) -> Library | None:
    files, whole = {}, hashlib.sha256()
    for path in _pythons(folder):
        try:
            content = path.read_bytes()
        except OSError:
            continue
        name = str(path.relative_to(folder))
        files[name] = hashlib.sha256(content).hexdigest()[:16]
        whole.update(f"{name} {files[name]}\n".encode())
        if len(files) > _LIBRARY:
            return None  # A folder of everything is no library.
    return Library(whole.hexdigest()[:32], files if len(files) <= _FILES else {}) if files else None


def _pythons(folder: Path) -> Iterator[Path]:
    for at, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name.isidentifier() and name != "__pycache__")
        yield from (Path(at) / name for name in sorted(names) if name.endswith(".py"))


def _driver() -> tuple[str, str]:
    """Of NVIDIA's kernel module, and the CUDA that is installed beside it."""
    found = _text("/proc/driver/nvidia/version")
    driver = re.search(r"Kernel Module\D*?(\d+\.\d+[.\d]*)", found)
    try:
        said = msgspec.json.decode(Path("/usr/local/cuda/version.json").read_bytes(), type=dict)
        cuda = str(said.get("cuda", {}).get("version", ""))
    except (OSError, msgspec.MsgspecError):
        cuda = ""
    return driver[1] if driver else "", cuda


def hardware() -> Hardware:
    """Of the machine that this runs on. nvidia-smi takes seconds on some, so the kernel's files are asked first."""
    cpu = re.search(r"^(?:model name|Model|cpu model)\s*: *(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    said = [_text(str(path)) for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))]
    gpus = [model[1].strip() for each in said if (model := re.search(r"^Model:(.+)$", each, re.MULTILINE))]
    if not gpus and os.path.exists("/dev/nvidiactl"):
        gpus = [each.name for each in probe.probe().gpus]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Hardware(
        platform.node(), platform.machine(), cpu[1].strip() if cpu else "", len(os.sched_getaffinity(0)), memory, gpus
    )


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""


def reached(program: Path, root: Path) -> list[str]:
    """The Python files below a root that a program imports, itself first, by their paths there; imports are read and not run."""
    found: dict[Path, None] = {}
    left = [program]
    while left and len(found) < _FILES:
        path = left.pop()
        if path in found or not path.is_file() or not path.is_relative_to(root):
            continue
        found[path] = None
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError, RecursionError):
            continue
        names = {name for node in ast.walk(tree) for name in _imported(node)}
        left += [
            each for name in names for base in {path.parent, program.parent, root, root / "src"} for each in _files(base, name)
        ]
    return [str(path.relative_to(root)) for path in found]


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (each.name for each in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield node.module or ""
        yield from (f"{node.module}.{each.name}" if node.module else each.name for each in node.names)


def _files(base: Path, name: str) -> Iterator[Path]:
    """A module, and the packages that it lies in."""
    parts = name.split(".") if name else []
    for count in range(1, len(parts) + 1):
        path = base.joinpath(*parts[:count])
        yield from (path.with_suffix(".py") if path.suffix == "" else Path(f"{path}.py"), path / "__init__.py")


def own() -> Interpreter:
    """The Python that this runs in."""
    return Interpreter(
        sys.executable, sys.prefix, sys.base_prefix, platform.python_version(), platform.python_implementation(), sys.path
    )
