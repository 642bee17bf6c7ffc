"""A look at a program before it is queued: through the command line, with this Python and with a bare one."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.errors import Invalid
from noria.projects.check import Program, check, program
from noria.types import Environment, JobSpec

Noria = Callable[..., subprocess.CompletedProcess[str]]


def judged(folder: Path, *command: str, **files: str) -> str:
    """What is said of a program of these files; empty if nothing is."""
    for name, text in files.items():
        path = folder / f"{name.replace('_in_', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    try:
        check(JobSpec([sys.executable, *command], cwd=str(folder)))
    except Invalid as error:
        return error.message
    return ""


def test_a_missing_module_is_named_with_its_place_before_anything_is_queued(noria: Noria, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import json\n\nimport torch_vision_missing.models as models\n")
    argv = ("submit", "--", sys.executable, str(tmp_path / "train.py"))
    done = noria(*argv, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"noria: {tmp_path}/train.py line 3: there is no module torch_vision_missing for {sys.executable}. "
        "Install it there, or activate the environment that has it. --no-check submits it all the same.\n"
    )
    assert json.loads(noria("ps", "--all", "--json").stdout)["jobs"] == []
    job = noria("submit", "--no-check", *argv[1:]).stdout.strip()
    assert noria("wait", job, check=False).returncode == 1


def test_what_does_not_compile(tmp_path: Path) -> None:
    assert judged(tmp_path, "train.py", train="x = 1\nif x\n") == (
        "train.py line 2: expected ':'. Mend it there. --no-check submits it all the same."
    )
    assert judged(tmp_path, "-c", "import os; print(").startswith("-c line 1: '(' was never closed")
    assert judged(tmp_path, "missing.py").startswith(f"There is no file missing.py in {tmp_path}.")


def test_files_beside_the_program_are_followed(tmp_path: Path) -> None:
    said = judged(tmp_path, "-u", "train.py", train="import model\n", model="import os\nfrom parts import one\n",
                  parts_in___init__="from . import one\nimport no_such_thing\n", parts_in_one="")  # fmt: skip
    assert said.startswith("parts/__init__.py line 2: there is no module no_such_thing for ")


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import no_such\nexcept ImportError:\n    no_such = None\n",
        "def later():\n    import no_such\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import no_such\n",
        "import sys\nsys.path.append('/elsewhere')\nimport no_such\n",
        "from sys import path\npath.insert(0, '.')\nimport no_such\n",
        "from __future__ import annotations\nimport noria, sys, os.path, xml.etree.ElementTree, concurrent.futures\n",
        "from . import sibling\n",
        "import train\n",
    ],
)
def test_what_may_be_there_after_all_passes(tmp_path: Path, text: str) -> None:
    assert judged(tmp_path, "train.py", train=text) == ""


def test_nothing_of_the_job_is_run(tmp_path: Path) -> None:
    text = "open('ran', 'w')\nimport beside\n"
    assert judged(tmp_path, "train.py", train=text, beside="open('ran', 'w')\n") == ""
    assert judged(tmp_path, "-m", "package.train", package_in___init__="open('ran', 'w')\n", package_in_train="") == ""
    assert not (tmp_path / "ran").exists()
    assert judged(tmp_path, "-m", "no_such.train").startswith("there is no module no_such.train for ")


def test_it_is_the_jobs_python_that_is_asked(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    (tmp_path / "train.py").write_text("import hypothesis\n")
    bare = str(tmp_path / "venv/bin")
    with pytest.raises(Invalid, match=rf"train\.py line 1: there is no module hypothesis for {bare}/python"):
        check(JobSpec(["python", "train.py"], cwd=str(tmp_path), env={"PATH": bare}))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/hypothesis.py").write_text("")
    check(JobSpec(["python", "train.py"], cwd=str(tmp_path), env={"PATH": bare, "PYTHONPATH": str(tmp_path / "elsewhere")}))


@pytest.mark.parametrize(
    "spec",
    [
        JobSpec(["torchrun", "no_such.py"]),
        JobSpec(["no-such-python3", "no_such.py"]),
        JobSpec(["python3", "no_such.py"], environment=Environment(image="/image.sif")),
        JobSpec(["python3", "no_such.py"], script="#!/bin/sh\n"),
        JobSpec(["python3"]),
        JobSpec(["python3", "-z", "no_such.py"]),
    ],
)
def test_what_cannot_be_judged_passes(spec: JobSpec) -> None:
    check(spec)


def test_a_python_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    slow = tmp_path / "python3"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    before = time.monotonic()
    check(JobSpec([str(slow), "-c", "import no_such"], cwd=str(tmp_path)))
    assert time.monotonic() - before < 3


def test_what_a_command_has_python_run(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text("#!/usr/bin/env python3\n")
    assert program(["python3.12", "-u", "-X", "dev", "-Wignore", "-m", "a.b", "-x"]) == Program(
        "python3.12", ["-u", "-X", "dev", "-Wignore"], "module", "a.b"
    )
    assert program([str(script), "--lr", "1"]) == Program("python3", [], "script", str(script))
    script.write_text("#!/opt/venv/bin/python -u\n")
    assert program([str(script)]) == Program("/opt/venv/bin/python", ["-u"], "script", str(script))
    for command in (["bash", "x.py"], ["/no/such.py"], ["pythonista", "x.py"], ["python", "-"]):
        assert program(command) is None
