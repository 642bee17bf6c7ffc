"""Makes a run's capsule, in a process of its own beside the run's, and puts it into a spool of its own: nobody waits for it, and nothing that goes
wrong here is the run's concern. It is started by `client/capsule.py` for scripts and by `jobs/capsule.py` for jobs."""

from __future__ import annotations

import os
import re
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from msgspec import Struct, structs

from noria import config, process
from noria.client.spool import Spool, now
from noria.jobs.folder import Folder
from noria.projects import capsule_code, capsule_data, capsule_secrets, capsule_software, check, code
from noria.projects.capsule import (
    FILE,
    FORMAT,
    NONE,
    PATCH,
    PROCESS,
    TAG,
    Capsule,
    Data,
    Kept,
    Process,
    Software,
    digest,
    encoded,
)
from noria.projects.capsule_software import Interpreter
from noria.projects.code import Tree
from noria.types import Job
from noria.wire.spools import FORMAT as SPOOL_FORMAT
from noria.wire.spools import Artifact, Close, Header, Record, Tags

_SEED = re.compile(r"--?(?:[\w.-]*[._-])?seed|(?:[\w.-]*[._])?seed", re.IGNORECASE)
_SCRIPTS = re.compile(r"[\w./~-]+\.(?:py|sh)\b")
_PYTHON = re.compile(r"(/[\w./+-]*/python[\d.]*)\b|(?:source|\.)\s+[\"']?([\w./+~-]+)/bin/activate\b")
Files = dict[str, bytes | Path]


class Ran(Struct, frozen=True):
    """What was started, where, with what. job: None for a script. python: None where no Python is known."""

    run_id: str
    command: list[str]
    cwd: Path
    env: Mapping[str, str]
    python: Interpreter | None
    job: Job | None = None
    seeds: Mapping[str, str] = {}
    threads: int = 0
    began: float = 0.0


def script(ask: dict[str, Any]) -> None:
    """The capsule of a script's run, or what a task of a job says of its Python."""
    _quietly()
    spool = _spool(Path(ask["folder"]), ask["run_id"], ask["job_id"], 0)
    python = Interpreter(ask["executable"], ask["prefix"], ask["base"], ask["version"], ask["implementation"], ask["path"])
    ran = Ran(
        ask["run_id"], ask["command"], Path(ask["cwd"]), os.environ, python, None, ask["seeds"], ask["threads"], ask["began"]
    )
    _put(spool, lambda: _process(ran) if ask["job_id"] else _capsule(ran))


def job(ask: dict[str, Any]) -> None:
    """The capsule of a job's run; this process has the environment and the working directory of its tasks."""
    _quietly()
    found = Folder(Path(ask["job_folder"])).job()
    spec = found.spec
    spool = _spool(Path(ask["folder"]), found.run_id, found.id, spec.world_size)
    program = check.program(spec.command)
    name = program.python if program else _named(spec.script or _text(spec.command))
    python = shutil.which(name, path=os.environ.get("PATH", os.defpath))
    asked = capsule_software.ask(python, os.environ, os.getcwd()) if python and not spec.environment.image else None
    _put(
        spool,
        lambda: _capsule(
            Ran(found.run_id, spec.command, Path(spec.cwd or os.getcwd()), os.environ, asked, found, began=ask["began"])
        ),
    )


def _text(command: Sequence[str]) -> str:
    """What a shell is to run: its files, and its words."""
    found = [" ".join(command)]
    for word in command:
        try:
            if word.endswith((".sh", ".bash", ".slurm", ".sbatch")) or "/" in word:
                found.append(Path(word).read_text(errors="replace")[: 64 << 10])
        except (OSError, ValueError):
            continue
    return "\n".join(found)


def _named(text: str) -> str:
    """The Python that a shell's text names by its path, or whose environment it activates; else the one that is found first."""
    found = [each[0] or f"{each[1]}/bin/python" for each in _PYTHON.findall(text)]
    return next((each for each in found if os.path.exists(each)), "python3")


def _quietly() -> None:
    """Training goes first."""
    os.nice(19)


def _spool(folder: Path, run_id: str, job_id: str, rank: int) -> Spool:
    me = os.getpid()
    return Spool(
        folder, Header(SPOOL_FORMAT, uuid4().hex, run_id, job_id, 0, rank, socket.gethostname(), me, process.born(me), now())
    )


def _put(spool: Spool, make: Any) -> None:
    """Write what was made, or why it could not be."""
    try:
        records: list[Record] = [_record(spool, path, what) for path, what in make().items()]
    except Exception as error:  # The run has no other place where it is said why it has no capsule.
        records = [Tags({TAG: f"{NONE}{type(error).__name__}: {error}"[:500]})]
    for record in records:
        spool.append(record)
    spool.append(Close())
    spool.close()


def _record(spool: Spool, path: str, what: bytes | Path) -> Record:
    if path == TAG:
        assert isinstance(what, bytes)
        return Tags({TAG: what.decode()})
    spool.files.mkdir(exist_ok=True, mode=0o700)
    copy = spool.files / uuid4().hex
    if isinstance(what, bytes):
        copy.write_bytes(what)
    else:
        try:
            os.link(what, copy)
        except OSError:  # Another file system.
            shutil.copyfile(what, copy)
    return Artifact(path, f"{copy.parent.name}/{copy.name}", copy.stat().st_size)


def _process(ran: Ran) -> Files:
    assert ran.python is not None
    command, _ = capsule_secrets.command(ran.command)
    said = Process(command, capsule_software.installed(ran.python, _root_of(ran)), {**ran.seeds, **seeds(command, {})})
    return {PROCESS: encoded(said)}


def _root_of(ran: Ran) -> str:
    folder = os.environ.get("NORIA_JOB_FOLDER", "")
    return f"{folder}/code" if ran.cwd.is_relative_to(f"{folder}/code") else str(ran.cwd)


def _capsule(ran: Ran) -> Files:
    began, home = time.monotonic(), config.load().folder
    tree, kept, packed, notes, reached = _code(ran, home)
    read = capsule_code.names_read(tree, reached)
    variables = capsule_secrets.variables(ran.env, ran.job.spec.env if ran.job else {}, read)
    data = _data(ran, tree, kept, reached, variables, home)
    command, masked = capsule_secrets.command(ran.command)
    software = capsule_software.installed(ran.python, tree.root) if ran.python else Software()
    if not ran.python:
        notes = [*notes, "No Python of this job answered, so that its packages are not known."]
    uncommitted = capsule_code.patch(tree)
    made = Capsule(
        FORMAT, ran.run_id, "job" if ran.job else "script", now(), command, str(ran.cwd), kept, software, capsule_software.hardware(), variables,
        {**ran.seeds, **seeds(command, variables)}, data, _spec(ran.job), masked, ran.threads, notes, round(time.monotonic() - began, 3),
    )  # fmt: skip
    content = encoded(made)
    return {
        **({f"{code.ROOT}/{kept.digest}.tar": packed} if packed else {}), **({PATCH: uncommitted.encode()} if uncommitted else {}),
        FILE: content, TAG: digest(content).encode(),
    }  # fmt: skip


def _code(ran: Ran, home: Path) -> tuple[Tree, Kept, Path | None, list[str], list[str]]:
    """The tree, what was kept of it, in which file, what is to be said of it, and what of it the program reaches."""
    program = _program(ran)
    if ran.job and ran.job.spec.code is not None:
        frozen, root = ran.job.spec.code, Path(os.environ["NORIA_JOB_FOLDER"], "code")
        packed = next((each for each in (Path(frozen.file), home / "code" / Path(frozen.file).name) if each.exists()), None)
        files = sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        reached = _reached(ran, program, root)
        kept = Kept(
            str(root), frozen.inside, Path(frozen.file).stem, frozen.commit, frozen.dirty, links=frozen.links, reached=reached
        )
        return Tree(str(root), files, frozen.commit, False), kept, packed, [], reached
    tree, inside = capsule_code.around(program, ran.cwd)
    tree = capsule_code.before(tree, ran.began)
    kept, packed, notes = capsule_code.frozen(tree, inside, home / "code", home / "hashes")
    reached = _reached(ran, program, Path(tree.root))
    return tree, structs.replace(kept, reached=reached), packed, notes, reached


def _program(ran: Ran) -> Path | None:
    """The file of the user's own that the command runs; None for programs of an environment, and for modules that are not here."""
    found = check.program(ran.command)
    what = found.what if found else ""
    if found and found.kind == "module":
        parts = what.split(".")
        names = [str(ran.cwd.joinpath(*parts)) + ".py", str(ran.cwd.joinpath(*parts, "__main__.py"))]
    elif found:
        names = [what] if found.kind == "script" else []
    else:
        names = ran.command
    for name in names:
        path = Path(os.path.normpath(ran.cwd / name))
        if path.is_file() and not os.path.realpath(path).startswith(("/bin/", "/usr/")) and not _of_environment(path, ran.python):
            return path
    return None


def _of_environment(path: Path, python: Interpreter | None) -> bool:
    return path.suffix not in (".py", ".sh", ".bash") and (
        path.parent.name == "bin" or (python is not None and path.is_relative_to(python.prefix))
    )


def _reached(ran: Ran, program: Path | None, root: Path) -> list[str]:
    """What the program reads of the code; a shell's script reaches the programs that it names."""
    if program is None or not program.is_relative_to(root):
        return []
    named = [program]
    if program.suffix != ".py":
        try:
            text = program.read_text(errors="replace")
        except OSError:
            text = ""
        named += [path for word in _SCRIPTS.findall(text) if (path := Path(os.path.normpath(ran.cwd / word))).is_file()]
    return list(dict.fromkeys(each for path in named for each in capsule_software.reached(path, root)))


def _data(ran: Ran, tree: Tree, kept: Kept, reached: Sequence[str], variables: Mapping[str, str], home: Path) -> list[Data]:
    root = Path(tree.root)
    frozen = {name for name in tree.files if name not in kept.left}
    known = {str(root / name) for name in frozen}
    configs = [root / name for name in frozen if Path(name).suffix in (".yaml", ".yml", ".json", ".toml", ".cfg", ".ini", ".sh")]
    beside = [target for name, target in kept.links.items() if "/" not in name]
    found = capsule_data.found(
        ran.command,
        [root / name for name in reached],
        configs,
        capsule_secrets.own(variables),
        beside,
        ran.cwd,
        root,
        known,
        home / "hashes",
    )
    # A folder of the code's own is told file by file, with the code.
    written = {each.path for each in found if ran.began and os.path.isfile(each.path) and each.changed > ran.began * 1000}
    return [each for each in found if each.path not in written and not any(name.startswith(f"{each.path}/") for name in known)]


def seeds(command: Sequence[str], variables: Mapping[str, str]) -> dict[str, str]:
    """What a command and its variables call a seed, by the name that it has there."""
    found = {name: value for name, value in variables.items() if "SEED" in name.upper()}
    for at, word in enumerate(command):
        name, equals, value = word.partition("=")
        if _SEED.fullmatch(name) and (equals or (name.startswith("-") and at + 1 < len(command))):
            found[name.lstrip("-")] = value if equals else command[at + 1]
    return found


def _spec(job: Job | None) -> Any:
    """What the job was told, without what may be secret."""
    if job is None:
        return None
    command, _ = capsule_secrets.command(job.spec.command)
    env = {
        name: value
        for name, value in job.spec.env.items()
        if not capsule_secrets.secret(name) and not capsule_secrets.looks_secret(value)
    }
    return structs.replace(job.spec, env=env, command=command)
