"""Environments are really built, of small packages from PyPI and of wheels made here, by uv and by pip."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from noria.errors import Invalid, Unavailable
from noria.projects import built, caches, packs, pythons, virtual
from noria.projects.build import KINDS, ORDER
from noria.projects.built import Built
from noria.types import Environment
from tests.conftest import require, until

SCRIPT = Path(__file__).parent / "build_script.py"


def make(folder: Path, cache: Path, file: str = "", said: list[str] | None = None, **options: bool) -> Built:
    need = built.needed(folder, file)
    assert need is not None
    return built.build(need, cache, (said if said is not None else []).append, **options)


def asked(made: Built, code: str) -> str:
    """What the environment's Python says, alone."""
    env = {"PATH": os.environ["PATH"]}
    return subprocess.run([made.python, "-c", code], capture_output=True, text=True, check=True, env=env).stdout.strip()


def wheel(folder: Path, name: str, version: str, needs: str = "") -> None:
    folder.mkdir(exist_ok=True)
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"version = '{version}'\n")
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with wheels, so that no index is asked."""
    folder = tmp_path / "project"
    for version in ("1.0", "2.0"):
        wheel(folder, "riverbank", version)
    (folder / "requirements.txt").write_text("--no-index\n-f .\nriverbank==1.0\n")
    return folder


@pytest.fixture(params=["uv", "pip"])
def tool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "pip":
        monkeypatch.setattr(virtual, "uv", lambda: None)
    else:
        require("uv", virtual.uv() is not None, "pip install 'noria[uv]'")
    return str(request.param)


@pytest.mark.slow
def test_a_file_of_each_kind_becomes_an_environment_and_is_there_the_next_time(tmp_path: Path, tool: str) -> None:
    said: list[str] = []
    for name, text in {
        "python_env.yaml": "python: '3.11'\nbuild_dependencies:\n- wheel\ndependencies:\n- -r more.txt\n- toolz==1.0.0\n",
        "conda.yaml": "name: x\nchannels: [conda-forge]\ndependencies:\n- python\n- pip\n- pip:\n  - toolz==1.0.0\n  - iniconfig\n",
        "requirements.txt": "-r more.txt\ntoolz==1.0.0  # really\n",
        "pyproject.toml": "[project]\nname = 'x'\nversion = '1'\nrequires-python = '>=3.9'\ndependencies = ['toolz==1.0.0', 'iniconfig']\n",
    }.items():
        (tmp_path / "more.txt").write_text("iniconfig\n")
        (tmp_path / name).write_text(text.replace("3.11", pythons.RUNNING))
        made = make(tmp_path, tmp_path / "cache", name, said)
        assert not made.cached and made.kind == name.partition(".")[0] and made.manager == "virtualenv"
        assert asked(made, "import iniconfig, toolz, sys; print(toolz.__version__, sys.prefix)") == f"1.0.0 {made.folder}"
        assert made.version.startswith(f"{pythons.RUNNING}.")
        again = make(tmp_path, tmp_path / "cache", name)
        assert again == msgspec.structs.replace(made, cached=True, seconds=again.seconds)
        assert again.seconds < 0.1, "ready means ready"
    assert sum(f"and {tool}, " in line for line in said) == 4
    assert not list((tmp_path / "cache" / "logs").iterdir())


@pytest.mark.slow
def test_what_is_locked_is_installed_as_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uv = virtual.uv()
    require("uv", uv is not None, "pip install 'noria[uv]'")
    assert uv is not None
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "__init__.py").write_text("x = 1\n")
    text = "[project]\nname = 'mine'\nversion = '1'\nrequires-python = '>=3.11'\ndependencies = ['toolz==1.0.0']\n"
    (tmp_path / "pyproject.toml").write_text(
        text + "[build-system]\nrequires = ['setuptools']\nbuild-backend = 'setuptools.build_meta'\n"
    )
    subprocess.run([uv, "lock", "-q", "--python", sys.executable], cwd=tmp_path, check=True)
    (tmp_path / "elsewhere").mkdir()
    cache = tmp_path.parent / f"{tmp_path.name}-cache"
    made = make(tmp_path, cache)
    assert (made.kind, asked(made, "import mine, toolz; print(mine.x, toolz.__version__)")) == ("uv", "1 1.0.0")
    assert made.folder in asked(made, "import mine; print(mine.__file__)"), "a copy, which nobody changes by editing"
    assert sorted(os.listdir(tmp_path)) == ["elsewhere", "mine", "pyproject.toml", "uv.lock"], "nothing is left in the project"
    assert make(tmp_path, cache).cached
    (tmp_path / "mine" / "__init__.py").write_text("x = 2\n")
    assert asked(make(tmp_path, cache), "import mine; print(mine.x)") == "2"
    monkeypatch.setattr(virtual, "uv", lambda: None)
    (tmp_path / "mine" / "__init__.py").write_text("x = 3\n")
    with pytest.raises(
        Invalid, match=r"uv.lock is built by uv, which is not here. pip install uv, or: pip install 'noria\[uv\]'"
    ):
        make(tmp_path, cache)


@pytest.mark.slow
def test_a_package_that_lies_in_the_project_is_a_part_of_it(tmp_path: Path, tool: str) -> None:
    package = tmp_path / "pkg"
    (package / "brook").mkdir(parents=True)
    (package / "brook" / "__init__.py").write_text("depth = 1\n")
    (package / "setup.py").write_text("from setuptools import setup\nsetup(name='brook', version='1', packages=['brook'])\n")
    (tmp_path / "requirements.txt").write_text("-e ./pkg\n")
    first = make(tmp_path, tmp_path / "cache")
    assert asked(first, "import brook; print(brook.depth)") == "1"
    assert sorted(os.listdir(package)) == ["brook", "setup.py"] and make(tmp_path, tmp_path / "cache").cached
    (package / "brook" / "__init__.py").write_text("depth = 2\n")
    second = make(tmp_path, tmp_path / "cache")
    assert [asked(each, "import brook; print(brook.depth)") for each in (first, second)] == ["1", "2"]


def test_what_only_pip_knows_is_built_by_pip(project: Path, tmp_path: Path) -> None:
    (project / "requirements.txt").write_text("--no-index\n-f .\n--pre\nriverbank\n")
    said: list[str] = []
    assert asked(make(project, tmp_path / "cache", said=said), "import riverbank; print(riverbank.version)") == "2.0"
    assert "and pip, 1 requirement" in said[1]


def test_pythons_that_are_here_and_those_that_are_not(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "python: {}\ndependencies: ['--no-index', '-f .', 'riverbank==1.0']\n"
    said: list[str] = []
    (project / "python_env.yaml").write_text(text.format(f"{pythons.RUNNING}.99"))
    made = make(project, tmp_path / "cache", said=said)
    assert made.note == said[-1] == f"Python {made.version} is taken for {pythons.RUNNING}.99, which is not here"
    assert make(project, tmp_path / "cache").note == made.note
    others = [each for each in pythons.here() if each not in (pythons.RUNNING, "3.6", "3.7") and virtual.uv()]
    for other in others[:1]:  # Where the machine has any.
        (project / "python_env.yaml").write_text(text.format(other))
        assert make(project, tmp_path / "cache").version.startswith(f"{other}.")
    (project / "python_env.yaml").write_text(text.format("3.29"))
    with pytest.raises(
        Invalid, match=r"python_env.yaml wants Python 3.29, and here (is|are) 3.*uv python install 3.29, pyenv install 3.29"
    ):
        make(project, tmp_path / "cache")
    (project / "python_env.yaml").unlink()
    (project / "pyproject.toml").write_text("[project]\nname='x'\nversion='1'\nrequires-python='>=3.29,<3.40'\n")
    with pytest.raises(Invalid, match=r"pyproject.toml wants Python >=3.29,<3.40, and here"):
        make(project, tmp_path / "cache", "pyproject.toml")


FAILURES = {
    "nosuch-package-of-noria==1": "there is no such package or version (",
    "riverbank==9": "there is no such package or version (",
    "riverbank==1.0\nriverbank==2.0": ") Loosen one of the versions.",
    "./broken": "a package cannot be compiled here (",
}


@pytest.mark.parametrize("line", FAILURES)
def test_what_cannot_be_built_is_a_sentence_a_log_and_no_ruin(line: str, project: Path, tmp_path: Path, tool: str) -> None:
    (project / "broken").mkdir()
    (project / "broken" / "setup.py").write_text("raise SystemExit('the compiler is on holiday')\n")
    offline = "" if "broken" in line else "--no-index\n-f .\n"
    (project / "requirements.txt").write_text(f"{offline}{line}\n")
    with pytest.raises(Invalid) as error:
        make(project, tmp_path / "cache")
    message = error.value.message
    assert message.startswith(f"The environment of {project}/requirements.txt cannot be built: ") and "\n" not in message
    assert FAILURES[line].removeprefix(") ") in message
    assert ("riverbank" in message) == ("riverbank" in line) and ("nosuch" in message) == ("nosuch" in line)
    log = Path(message.rpartition("All it said is in ")[2].rstrip("."))
    assert log.is_file() and (offline or "the compiler is on holiday" in log.read_text())
    assert [path.name for path in (tmp_path / "cache").iterdir() if path.suffix != ".claim"] == ["logs"]


def test_no_network_is_said_as_such(tmp_path: Path, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"UV_HTTP_RETRIES": "0", "PIP_RETRIES": "1", "PIP_INDEX_URL": "http://127.0.0.1:9/simple"}.items():
        monkeypatch.setenv(name, value)
    for name in ("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    (tmp_path / "requirements.txt").write_text("toolz\n")
    with pytest.raises(Unavailable) as error:
        make(tmp_path, tmp_path / "cache")
    assert "cannot be built: this machine does not reach the index of packages (" in error.value.message
    assert "Build it where there is a network, such as a login node, or name a mirror in PIP_INDEX_URL." in error.value.message


def start(project: Path, cache: Path, **options: object) -> subprocess.Popen[str]:
    argv = [sys.executable, str(SCRIPT), str(project / "requirements.txt"), str(cache)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # type: ignore[call-overload,no-any-return]


def slowly(project: Path, gate: Path) -> None:
    """Have its build take until `gate` is there."""
    (project / "slow").mkdir()
    wait = f"import os, time\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.02)\n"
    (project / "slow" / "setup.py").write_text(f"{wait}from setuptools import setup\nsetup(name='slow', version='1')\n")
    (project / "requirements.txt").write_text("./slow\n")


@pytest.mark.slow
def test_many_that_want_the_same_at_once_build_it_once(project: Path, tmp_path: Path) -> None:
    slowly(project, tmp_path / "gate")
    running = [start(project, tmp_path / "cache") for _ in range(4)]
    until(lambda: list((tmp_path / "cache").glob("*.claim")))
    (tmp_path / "gate").touch()
    ends = [each.communicate(timeout=60) for each in running]
    made = [msgspec.json.decode(out, type=Built) for out, _ in ends]
    assert [each.cached for each in made].count(False) == 1 and len({each.folder for each in made}) == 1
    said = "".join(err for _, err in ends)
    assert said.count("making it with") == 1 and said.count(", who builds it already") == 3
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir() and path.name != "logs"]) == 1


@pytest.mark.slow
def test_a_builder_that_is_killed_is_followed_and_its_ruin_never_used(project: Path, tmp_path: Path) -> None:
    slowly(project, tmp_path / "gate")
    first = start(project, tmp_path / "cache")
    until(lambda: list((tmp_path / "cache").glob("*.1/bin/python")))
    second = start(project, tmp_path / "cache")
    assert second.stderr is not None and "who builds it already" in second.stderr.readline()
    first.send_signal(signal.SIGKILL)
    first.communicate()
    (tmp_path / "gate").touch()  # What the first one started lives on, and may write where nobody looks.
    out, _ = second.communicate(timeout=60)
    made = msgspec.json.decode(out, type=Built)
    assert (
        made.folder.endswith(".2")
        and not made.cached
        and asked(made, "import importlib.metadata as m; print(m.version('slow'))") == "1"
    )
    assert make(project, tmp_path / "cache").folder == made.folder


def test_a_builder_that_slept_too_long_keeps_nothing(project: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"

    def follow(line: str) -> None:
        if line.startswith("making"):
            (path,) = cache.glob("*.claim")
            path.with_name(path.name.replace(".1.", ".2.")).write_bytes(path.read_bytes())

    need = built.needed(project)
    assert need is not None
    with pytest.raises(Unavailable, match=r"is being built by another process. Ask for it again."):
        built.build(need, cache, follow)
    assert not list(cache.glob("*.json")) and not list(cache.glob("*.1"))


def test_an_interrupted_build_leaves_nothing(project: Path, tmp_path: Path) -> None:
    slowly(project, tmp_path / "gate")
    running = start(project, tmp_path / "cache")
    until(lambda: list((tmp_path / "cache").glob("*.1/bin/python")))
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=20)
    assert running.returncode and not [path for path in (tmp_path / "cache").iterdir() if path.is_dir() and path.name != "logs"]
    assert not subprocess.run(["pgrep", "-f", str(tmp_path / "cache")], capture_output=True).stdout, "nor any process"


def test_built_anew_on_request_and_when_its_interpreter_has_gone(project: Path, tmp_path: Path) -> None:
    (project / "requirements.txt").write_text("--no-index\n-f .\nriverbank<2\n")
    first = make(project, tmp_path / "cache")
    os.utime(first.folder, (0, 0))
    second = make(project, tmp_path / "cache", again=True)
    assert (second.cached, second.digest == first.digest, second.folder == first.folder) == (False, True, False)
    assert asked(first, "print(1)") == "1", "jobs may still use it"
    assert make(project, tmp_path / "cache").folder == second.folder
    assert [str(path) for path in caches.left(tmp_path / "cache")] == [first.folder] and time.time() - os.stat(
        first.folder
    ).st_mtime < 60
    os.unlink(second.python)
    third = make(project, tmp_path / "cache")
    assert not third.cached and asked(third, "print(1)") == "1"


@pytest.mark.slow
def test_conda_makes_what_only_conda_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conda.yaml").write_text(
        "name: x\nchannels: [conda-forge]\ndependencies:\n- numpy=1.26\n- python=3.11\n- pip:\n  - toolz==1.0.0\n"
    )
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    for name in ("MAMBA_EXE", "CONDA_EXE", "MLFLOW_CONDA_HOME"):
        monkeypatch.delenv(name, raising=False)
    if shutil.which("conda") is None:
        with pytest.raises(
            Invalid, match=r"conda.yaml wants numpy=1.26 of conda, and there is no micromamba, mamba or conda here."
        ):
            make(tmp_path, tmp_path / "cache")
    # A channel is a network away: this one makes the folder, and keeps what it was told.
    program = tmp_path / "bin" / "micromamba"
    program.parent.mkdir()
    program.write_text(f"""#!{sys.executable}
import argparse, pathlib, shutil, subprocess
parser = argparse.ArgumentParser()
parser.add_argument("verb", choices=["create"])
parser.add_argument("--prefix", required=True)
parser.add_argument("--file", required=True)
told = parser.parse_args()
subprocess.run([{sys.executable!r}, "-m", "venv", told.prefix], check=True)
pathlib.Path(told.prefix, "conda-meta").mkdir()
shutil.copy(told.file, pathlib.Path(told.prefix, "conda-meta", "told.json"))
""")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    made = make(tmp_path, tmp_path / "cache")
    assert (made.manager, built.environment(made)) == ("conda", Environment(conda=made.folder))
    told = json.loads(Path(made.folder, "conda-meta", "told.json").read_text())
    assert told == {"channels": ["conda-forge"], "dependencies": ["numpy=1.26", "python=3.11"]}
    assert asked(made, "import toolz; print(toolz.__version__)") == "1.0.0" and make(tmp_path, tmp_path / "cache").cached


def test_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "MLproject").write_text("docker_env:\n  image: train.sif\n")
    with pytest.raises(
        Invalid, match=r"The image .*/train.sif cannot be read \(No such file or directory\). Mend its path in docker_env."
    ):
        make(tmp_path, tmp_path / "cache")
    (tmp_path / "train.sif").touch()
    made = make(tmp_path, tmp_path / "cache")
    assert (made.folder, made.cached, built.environment(made)) == (
        str(tmp_path / "train.sif"),
        True,
        Environment(image=made.folder),
    )
    (tmp_path / "MLproject").write_text("docker_env:\n  image: ghcr.io/team/train:1\n")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        Invalid, match=r"The project wants the image ghcr.io/team/train:1, and there is no apptainer here to fetch it."
    ):
        make(tmp_path, tmp_path / "cache")
    program = tmp_path / "apptainer"
    program.write_text('#!/bin/sh\n[ "$1" = pull ] && echo "$3" > "$2"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    made = make(tmp_path, tmp_path / "cache")
    assert Path(made.folder).read_text() == "docker://ghcr.io/team/train:1\n" and made.manager == "image"
    assert make(tmp_path, tmp_path / "cache").cached
    (tmp_path / "MLproject").write_text("docker_env:\n  image: a b\n")
    with pytest.raises(Invalid, match=r"'a b' is no name of an image."):
        make(tmp_path, tmp_path / "cache")


def test_it_goes_to_nodes_as_one_file(project: Path, tmp_path: Path) -> None:
    made = make(project, tmp_path / "cache")
    packed = packs.packed(built.environment(made), tmp_path / "packs")
    listed = subprocess.run(["tar", "-tf", packed], capture_output=True, text=True, check=True).stdout
    assert "riverbank.py" in listed and packs.packed(built.environment(made), tmp_path / "packs") == packed


def test_each_file_of_the_shelf_is_a_kind() -> None:
    assert {*ORDER} == {*KINDS.own()}, "a new kind has its place among those that are looked for"
    for name in KINDS.own():
        kind = KINDS.get(name)
        assert isinstance(kind.FILES, tuple) and all(
            callable(each) for each in (kind.read, kind.make, kind.interpreter, kind.manager)
        )


# Whose it may be.


@pytest.mark.parametrize(("mode", "said"), [
    (0o777, "Everybody can write to {0}, and so put programs there that you would run. Share it with a group: chgrp GROUP {0}; chmod 2775 {0}."),
])  # fmt: skip
def test_a_folder_that_strangers_can_write_to_is_refused(mode: int, said: str, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(mode)
    with pytest.raises(Invalid) as error:
        caches.own(cache)
    assert error.value.message == said.format(cache)
    (cache / "inner").mkdir()
    with pytest.raises(Invalid, match=f"Everybody can write to {cache}, and so put another inner there."):
        caches.own(cache / "inner")


def test_in_one_that_everybody_writes_to_each_has_a_part(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o1777)
    part = caches.own(cache)
    assert part == cache / str(os.getuid()) and caches.own(cache) == part
    part.chmod(0o777)
    with pytest.raises(Invalid, match="is not a folder of yours alone"):
        caches.own(cache)
    part.rmdir()
    (tmp_path / "theirs").mkdir()
    part.symlink_to(tmp_path / "theirs")
    with pytest.raises(Invalid, match="is not a folder of yours alone"):
        caches.own(cache)


class Two:
    """A place that two other users reach, with Noria and a Python that they may start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = next((each for each in pythons._places(pythons.RUNNING, os.environ) if pythons.reachable(each)), "")
        require("python-for-all", bool(self.python), "a Python of this version that every user may start")
        for name in ("noria", "msgspec", "packaging", "yaml", "_yaml"):
            source = Path(sys.modules[name].__file__ or "").parent if name in sys.modules else None
            if source is not None:
                shutil.copytree(source, folder / "lib" / name, ignore=shutil.ignore_patterns("__pycache__", "static", "*.pyi"))
        shutil.copy(SCRIPT, folder / "lib")
        subprocess.run(["chmod", "-R", "a+rX", folder], check=True)

    def start(self, user: str, file: Path, cache: Path, group: int) -> subprocess.Popen[str]:
        argv = [self.python, str(self.folder / "lib" / "build_script.py"), str(file), str(cache)]
        env = {
            "PYTHONPATH": str(self.folder / "lib"),
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        return subprocess.Popen(argv, user=user, group=group, extra_groups=[], env=env, cwd="/", umask=0o077,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip


@pytest.fixture
def two() -> Iterator[Two]:
    require("root", os.getuid() == 0, "only root can be two users")
    import yaml  # noqa: F401 (so that it is copied)

    folder = Path(f"/tmp/noria-two-{os.getpid()}-{time.monotonic_ns()}")
    folder.mkdir()
    try:
        yield Two(folder)
    finally:
        shutil.rmtree(folder)


@pytest.mark.slow
def test_two_users_of_a_group_build_it_once_and_both_use_it(two: Two) -> None:
    cache, project, gate = two.folder / "cache", two.folder / "project", two.folder / "gate"
    cache.mkdir()
    os.chown(cache, 0, 100)
    cache.chmod(0o2770)
    project.mkdir()
    slowly(project, gate)
    subprocess.run(["chmod", "-R", "a+rX", project], check=True)
    first = two.start("daemon", project / "requirements.txt", cache, 100)
    until(lambda: list(cache.glob("*.1/bin/python")))
    second = two.start("nobody", project / "requirements.txt", cache, 100)
    assert second.stderr is not None and "waiting for daemon (process " in second.stderr.readline()
    gate.touch()
    (out, err), (other, _) = first.communicate(timeout=60), second.communicate(timeout=60)
    assert out and other, err
    made, found = (msgspec.json.decode(each, type=Built) for each in (out, other))
    assert (made.cached, found.cached, found.folder) == (False, True, made.folder)
    for user, group, code in (("nobody", 100, 0), ("daemon", 100, 0), ("nobody", 65534, 126)):
        argv = ["sh", "-c", f"{made.python} -c 'import importlib.metadata as m; m.version(\"slow\")'"]
        assert subprocess.run(argv, user=user, group=group, extra_groups=[], env={}, stderr=subprocess.DEVNULL).returncode in (
            code,
            code + 1,
        )
    modes = {stat.S_IMODE(path.lstat().st_mode) & 0o027 for path in Path(made.folder).rglob("*") if not path.is_symlink()}
    assert not any(mode & 0o022 for mode in modes), "nobody but its builder changes it"
    third = two.start("nobody", project / "requirements.txt", cache, 100)
    assert msgspec.json.decode(third.communicate(timeout=30)[0], type=Built).cached
    assert caches.find(cache, made.digest) is not None, "and root, for whom it was made"


def test_what_a_stranger_planted_is_not_used(two: Two) -> None:
    """He cannot take a name in a folder that everybody may write to, and his own folder is not believed."""
    project = two.folder / "project"
    project.mkdir()
    (project / "requirements.txt").write_text("")
    (project / "requirements.txt").chmod(0o644)
    common, his = two.folder / "common", two.folder / "his"
    for folder, mode in ((common, 0o1777), (his, 0o755)):
        folder.mkdir()
        folder.chmod(mode)
    planted = two.start("daemon", project / "requirements.txt", common, 1)
    theirs = msgspec.json.decode(planted.communicate(timeout=60)[0], type=Built)
    mine = msgspec.json.decode(
        two.start("nobody", project / "requirements.txt", common, 65534).communicate(timeout=60)[0], type=Built
    )
    assert (
        theirs.digest == mine.digest and theirs.folder.startswith(f"{common}/1/") and mine.folder.startswith(f"{common}/65534/")
    )
    shutil.copytree(common / "1", his, dirs_exist_ok=True, symlinks=True)
    os.chown(his, 1, 1)
    refused = two.start("nobody", project / "requirements.txt", his, 65534)
    assert f"{his} is of another user, who could put programs there that you would run." in refused.communicate(timeout=60)[1]
    assert refused.returncode == 1
    roots = two.folder / "roots"
    roots.mkdir()
    roots.chmod(0o755)
    refused = two.start("nobody", project / "requirements.txt", roots, 65534)
    assert f"requirements.txt cannot be kept in {roots} (Permission denied)." in refused.communicate(timeout=60)[1]
    made = make(project, roots)
    if pythons.reachable(made.python):
        found = two.start("nobody", project / "requirements.txt", roots, 65534)
        assert msgspec.json.decode(found.communicate(timeout=60)[0], type=Built).folder == made.folder, "root is believed"
