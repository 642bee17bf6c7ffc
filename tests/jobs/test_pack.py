"""A virtual environment that goes along as one file: through the command line, on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.errors import Invalid
from noria.projects.packs import packed
from noria.types import Environment
from tests.conftest import require

Noria = Callable[..., subprocess.CompletedProcess[str]]
CODE = "import sys, mine, os; print(sys.prefix, mine.__file__, os.environ['VIRTUAL_ENV'])"


@pytest.fixture(autouse=True)
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "disk").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "disk"))
    return tmp_path / "disk" / f"noria-{os.getuid()}" / "kept"


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment with a module, a program, and a link into itself; it is active."""
    folder = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    (site / "mine.py").write_text("def main(): import sys; print('train in', sys.prefix)\n")
    (site / "more.pth").write_text(f"{folder}/more\n")
    (folder / "more").mkdir()
    (folder / "more/further.py").write_text("")
    train = folder / "bin/train"
    train.write_text(f"#!{folder}/bin/python\nimport mine, further\nmine.main()\nprint(further.__file__)\n")
    train.chmod(0o755)
    (folder / "bin/also").symlink_to(train)
    monkeypatch.setenv("VIRTUAL_ENV", str(folder))
    monkeypatch.setenv("PATH", f"{folder}/bin:{os.environ['PATH']}")
    return folder


def ran(noria: Noria, *argv: str) -> list[str]:
    """The words that a job with a packed environment printed."""
    job = json.loads(noria("submit", "--json", "--pack", *argv).stdout)["id"]
    noria("wait", job)
    return noria("logs", job).stdout.split()


def copies(disk: Path) -> list[str]:
    return sorted(str(path) for path in disk.iterdir() if path.is_dir())


def test_a_job_has_its_environment_on_the_nodes_own_disk(noria: Noria, venv: Path, disk: Path) -> None:
    prefix, module, active = ran(noria, "--", "python", "-c", CODE)
    assert copies(disk) == [prefix] and active == prefix and module.startswith(f"{prefix}/lib/")
    assert ran(noria, "--", str(venv / "bin/python"), "-c", CODE) == [prefix, module, active], "as does one that names its Python"
    for program in ("train", "also"):
        assert ran(noria, "--", program) == ["train", "in", prefix, f"{prefix}/more/further.py"]
    assert copies(disk) == [prefix], "it was unpacked once"
    shutil.rmtree(venv)
    settings = (Path(prefix) / "pyvenv.cfg").read_text()
    assert str(venv) not in settings
    assert subprocess.run([f"{prefix}/bin/train"], capture_output=True, text=True).stdout.split()[2] == prefix


def test_it_is_packed_once_as_long_as_it_does_not_change(noria: Noria, venv: Path, disk: Path) -> None:
    packs = Path(os.environ["NORIA_HOME"]) / "packs"
    ran(noria, "--", "train")
    (first,) = packs.glob("*.tar")
    made = first.stat().st_ino
    ran(noria, "--tasks-per-node", "2", "--", "train")
    assert [path.stat().st_ino for path in packs.glob("*.tar")] == [made] and len(copies(disk)) == 1
    (venv / "more/further.py").write_text("# More.\n")
    os.utime(first, (time.time() - 31 * 24 * 3600,) * 2)
    ran(noria, "--", "train")
    (second,) = packs.glob("*.tar")
    assert second != first and len(copies(disk)) == 2, "what no submission has used for a month is forgotten"


def test_a_pack_that_is_gone_is_named(noria: Noria, venv: Path) -> None:
    job = json.loads(noria("submit", "--json", "--pack", "--begin", "1s", "--", "train").stdout)["id"]
    (pack,) = (Path(os.environ["NORIA_HOME"]) / "packs").glob("*.tar")
    pack.unlink()
    done = noria("wait", job, check=False)
    assert done.returncode == 127 and f"There is no {pack}, this job's environment. Submit it again." in done.stderr


def test_what_cannot_be_packed_is_said(noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.delenv("CONDA_PREFIX", raising=False)
    done = noria("submit", "--pack", "--", "true", check=False)
    assert done.stderr == "noria: --pack: no environment is active here. Activate the one that the job needs.\n"
    (tmp_path / "i.sif").touch()
    done = noria("submit", "--pack", "--image", str(tmp_path / "i.sif"), "--", "true", check=False)
    assert done.stderr == "noria: --pack: an image has its own environment. Leave out --pack.\n"


def test_a_conda_environment_is_packed_by_conda_pack(
    noria: Noria, tmp_path: Path, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder as conda lays it out, with a script and a program that hold its name; conda itself is not here."""
    require("conda-pack", importlib.util.find_spec("conda_pack") is not None, "pip install conda-pack")
    conda = tmp_path / "conda"
    for folder in ("bin", "lib", "conda-meta", "etc/conda/activate.d"):
        (conda / folder).mkdir(parents=True)
    (conda / "bin/python").symlink_to(os.path.realpath(sys.executable))
    (conda / "bin/train").write_text(f"#!/bin/sh\ncat {conda}/lib/program; echo in $CONDA_PREFIX for $TOOL\n")
    (conda / "bin/train").chmod(0o755)
    (conda / "lib/program").write_bytes(b"\0" + f"{conda}/lib".encode() + b"\0" * 200 + b"end ")
    (conda / "etc/conda/activate.d/tool.sh").write_text("export TOOL=$CONDA_PREFIX/tool\n")
    files = ["bin/python", "bin/train", "lib/program", "etc/conda/activate.d/tool.sh"]
    package = {"name": "tool", "version": "1", "build": "0", "url": "", "link": {"source": "/none", "type": 1}, "files": files}
    (conda / "conda-meta/tool-1-0.json").write_text(json.dumps(package))
    (conda / "conda-meta/history").touch()
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    monkeypatch.setenv("CONDA_PREFIX", str(conda))
    monkeypatch.setenv("PATH", f"{conda}/bin:{os.environ['PATH']}")
    program, *said = ran(noria, "--", "train")
    (copy,) = copies(disk)
    assert said == ["in", copy, "for", f"{copy}/tool"]
    assert program.strip("\0").startswith(f"{copy}/lib\0") and program.endswith("\0end") and str(conda) not in program
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/usr/bin/python3")
        patch.setenv("PATH", "/usr/bin:/bin")
        with pytest.raises(Invalid, match="conda environments are packed by conda-pack, which is not here"):
            packed(Environment(conda=str(conda)), tmp_path / "packs")
