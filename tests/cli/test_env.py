"""noria env build, list, remove and prune."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

Noria = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "python_env.yaml").write_text("dependencies: []\n")
    return folder


def test_built_listed_and_removed(noria: Noria, project: Path, tmp_path: Path) -> None:
    first = noria("env", "build", str(project))
    folder = Path(first.stdout.strip())
    assert (
        folder.parent == tmp_path / "home" / "environments"
        and subprocess.run([folder / "bin" / "python", "-c", ""]).returncode == 0
    )
    assert first.stderr.startswith(
        f"noria: building the environment of {project}/python_env.yaml\nnoria: making it with Python 3."
    )
    second = noria("env", "build", str(project / "python_env.yaml"))
    assert (second.stdout, second.stderr) == (first.stdout, "noria: it is there\n")
    made = json.loads(noria("env", "build", str(project), "--json").stdout)
    assert made["folder"] == str(folder) and made["cached"] and made["seconds"] < 0.1 and made["manager"] == "virtualenv"
    (listed,) = json.loads(noria("env", "list", "--json").stdout)["environments"]
    assert (listed["folder"], listed["digest"], listed["kind"]) == (str(folder), made["digest"], "python_env")
    head, row = noria("env", "list").stdout.splitlines()
    assert head.split()[:3] == ["ENVIRONMENT", "KIND", "PYTHON"] and row.split()[:2] == [made["digest"][:8], "python_env"]
    gone = noria("env", "remove", made["digest"][:6])
    assert gone.stdout.strip() == str(folder) and gone.stderr.startswith("noria: 1 removed, ") and not folder.exists()
    assert noria("env", "list").stderr == "noria: No environments: noria env build\n".removeprefix("noria: ")
    again = noria("env", "build", str(project))
    assert again.stdout and "building" in again.stderr


def test_what_nobody_uses_goes_and_what_somebody_uses_stays(noria: Noria, project: Path, tmp_path: Path) -> None:
    cache = tmp_path / "home" / "environments"
    folder = Path(noria("env", "build", str(project)).stdout.strip())
    other = project / "requirements.txt"
    other.write_text("# nothing\n-c bound.txt\n")
    (project / "bound.txt").write_text("x<1\n")
    kept = noria("env", "build", str(other)).stdout.strip()
    record = cache / f"{folder.name.split('.')[0]}.json"
    old = time.time() - 40 * 86_400
    os.utime(record, (old, old))
    ruin = cache / f"{'0' * 20}.3"
    (ruin / "bin").mkdir(parents=True)
    would = json.loads(noria("env", "prune", "--dry-run", "--json").stdout)
    assert would == {"removed": [str(folder), str(ruin)], "dry_run": True, "failed": []} and folder.exists() and ruin.exists()
    noria("env", "build", str(project))
    assert record.stat().st_mtime > old + 1000, "to ask for it is to use it"
    os.utime(record, (old, old))
    assert noria("env", "prune", "--unused", "30d").stdout.split() == [str(folder), str(ruin)]
    assert not folder.exists() and not ruin.exists() and Path(kept).exists()
    claim = record.with_name(f"{folder.name}.claim")
    assert claim.exists()
    os.utime(claim, (old, old))
    assert noria("env", "prune").stderr == "noria: nothing to remove\n"
    assert not claim.exists() and len(list(cache.glob("*.claim"))) == 1, "that of what is kept stays"


def test_what_is_wrong_is_a_sentence(noria: Noria, tmp_path: Path) -> None:
    def said(*argv: str) -> str:
        done = noria("env", *argv, check=False)
        assert done.returncode and "Traceback" not in done.stderr
        return done.stderr

    assert said("build", "gone") == "noria: There is no gone. Give a project's folder, or a file such as requirements.txt.\n"
    assert f"noria: Nothing in {tmp_path} describes an environment. Write a requirements.txt" in said("build", str(tmp_path))
    assert "There is no environment abc in " in said("remove", "abc")
    assert "'soon' is not a time." in said("prune", "--unused", "soon")
    assert "There is no command 'create'. Write: noria env build" in said("create")
    blocked = tmp_path / "file"
    blocked.touch()
    (tmp_path / "requirements.txt").touch()
    done = noria("env", "build", str(tmp_path), check=False, NORIA_ENVIRONMENTS=str(blocked / "cache"))
    assert done.stderr.startswith(
        f"noria: Environments cannot be kept in {blocked}/cache (Not a directory). Name another folder in NORIA_ENVIRONMENTS."
    )
