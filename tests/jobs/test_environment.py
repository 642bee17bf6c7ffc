"""What was active at submission is active where the tasks run: through the command line, on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.jobs.activate import activated
from noria.process import Answer
from noria.types import Environment, JobSpec
from tests.conftest import require

Noria = Callable[..., subprocess.CompletedProcess[str]]
INIT = Path("/usr/share/modules/init/bash")


def ran(noria: Noria, *argv: str, **env: str) -> str:
    """What a job printed."""
    job = json.loads(noria("submit", "--json", *argv, **env).stdout)["id"]
    noria("wait", job)
    return noria("logs", job).stdout


def failed(noria: Noria, *argv: str, **env: str) -> str:
    """Why a job failed."""
    job = json.loads(noria("submit", "--json", *argv, **env).stdout)["id"]
    done = noria("wait", job, check=False)
    assert done.returncode == 127 and "Traceback" not in done.stderr
    return done.stderr


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def modules(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """The environment of a shell in which these modules of a site were loaded."""
    require("modules", INIT.exists(), "install environment-modules (apt)")
    for version in ("1", "2"):
        program(tmp_path / f"tool/{version}/bin/tool", f"#!/bin/sh\necho tool {version} for $TOOL_USER\n")
        path = tmp_path / "modulefiles/tool" / version
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#%Module\nconflict tool\nprepend-path PATH {tmp_path}/tool/{version}/bin\nsetenv TOOL_USER nobody\n")

    def loaded(*names: str) -> dict[str, str]:
        lines = f". {INIT}; module use {tmp_path}/modulefiles; module load {' '.join(names)} >&2; exec env -0"
        out = subprocess.run(["bash", "-c", lines], capture_output=True, text=True, check=True).stdout
        env = dict(pair.split("=", 1) for pair in out.split("\0") if "=" in pair)
        assert env["LOADEDMODULES"] == ":".join(names)
        return env

    return loaded


def test_modules_are_loaded_and_nothing_else_goes_along(noria: Noria, modules: Callable[..., dict[str, str]]) -> None:
    shell = modules("tool/2") | {"SECRET": "hunter2"}
    said = ran(noria, "--", "bash", "-c", "tool; echo $LOADEDMODULES $SECRET", **shell)
    assert said == "tool 2 for nobody\ntool/2\n"
    shown = noria("submit", "--dry-run", "--", "tool", **shell).stdout
    assert "# with modules tool/2" in shown and "hunter2" not in shown


def test_what_env_says_stands_before_what_a_module_sets(noria: Noria, modules: Callable[..., dict[str, str]]) -> None:
    assert ran(noria, "--env", "TOOL_USER=me", "--", "tool", **modules("tool/1")) == "tool 1 for me\n"


def test_an_environments_programs_go_before_the_modules(
    noria: Noria, modules: Callable[..., dict[str, str]], tmp_path: Path
) -> None:
    program(tmp_path / "venv/bin/tool", "#!/bin/sh\necho mine in $VIRTUAL_ENV\n")
    shell = modules("tool/1")
    active = {"VIRTUAL_ENV": str(tmp_path / "venv"), "PATH": f"{tmp_path}/venv/bin:{shell['PATH']}"}
    assert ran(noria, "--", "tool", **{**shell, **active}) == f"mine in {tmp_path}/venv\n"


def test_a_module_that_a_node_lacks_is_named(noria: Noria, modules: Callable[..., dict[str, str]], tmp_path: Path) -> None:
    shell = modules("tool/1")
    (tmp_path / "modulefiles/tool/1").unlink()
    said = failed(noria, "--", "tool", **shell)
    assert "the job cannot start: modules tool/1 cannot be loaded on" in said and "Unable to locate a modulefile" in said
    assert "`module avail` there lists what it has" in said


def test_a_node_without_the_module_command() -> None:
    answer = Answer(1, "", "there is no module command; looked in /opt/modules\n")
    spec = JobSpec(["tool"], environment=Environment(modules=["tool/1"]))
    with pytest.raises(Exception, match=r"cannot be loaded on .*: there is no module command; looked in /opt/modules"):
        activated(spec, {}, {}, lambda argv, env: answer)


def test_a_conda_environment_is_activated_with_the_scripts_of_its_packages(noria: Noria, tmp_path: Path) -> None:
    """A conda environment as conda lays it out: a prefix, with scripts in etc/conda/activate.d."""
    conda = tmp_path / "conda" / "vision"
    program(conda / "bin/train", "#!/bin/sh\necho $CONDA_DEFAULT_ENV $CONDA_PREFIX $NVCC_HOME $TOOL\n")
    program(conda / "etc/conda/activate.d/nvcc.sh", "echo sourced\nexport NVCC_HOME=$CONDA_PREFIX/nvcc TOOL=package\n")
    shell = {"CONDA_PREFIX": str(conda), "CONDA_DEFAULT_ENV": "vision", "PATH": f"{conda}/bin:{os.environ['PATH']}"}
    assert ran(noria, "--env", "TOOL=mine", "--", "train", **shell) == f"vision {conda} {conda}/nvcc mine\n"


def test_an_environment_that_a_node_lacks_is_named_before_another_python_runs(noria: Noria, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    shell = {"VIRTUAL_ENV": str(gone), "PATH": f"{gone}/bin:{os.environ['PATH']}"}
    assert f"has no {gone}, the virtual environment of this job." in failed(noria, "--", "python3", "-c", "1", **shell)
    assert ran(noria, "--", sys.executable, "-c", "print('other')", **shell) == "other\n", "it is not asked for"


# ---- images. Apptainer is not packaged for the machines that these tests run on: what stands for it runs the command that it was given.

STANDIN = """#!/bin/sh
echo "$@" | sed 's/ -- .*//' >&2
while [ "$1" != image.sif ] && [ "${1##*/}" != image.sif ]; do shift; done
shift
exec "$@"
"""


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "image.sif").write_bytes(b"SIF_MAGIC")
    return tmp_path / "image.sif"


def test_tasks_run_in_their_image(noria: Noria, image: Path, tmp_path: Path) -> None:
    program(tmp_path / "bin/apptainer", STANDIN)
    env = {"PATH": f"{tmp_path}/bin:{os.environ['PATH']}", "VIRTUAL_ENV": "/venv", "PYTHONPATH": "/mine"}
    said = ran(noria, "--image", "image.sif", "--", "sh", "-c", "echo $VIRTUAL_ENV in $RANK $PYTHONPATH", **env)
    words, last = said.splitlines()
    assert words.startswith("exec --bind ") and f"--pwd {tmp_path} {image} sh -c" in words and "--nv" not in words
    assert last.startswith("in 0 ") and "/mine" not in last
    assert f"# with image {image}" in noria("submit", "--dry-run", "--image", "image.sif", "--", "true").stdout


def test_an_image_or_an_apptainer_that_is_missing(noria: Noria, image: Path) -> None:
    assert "has no apptainer, which --image needs." in failed(noria, "--image", "image.sif", "--", "true", PATH="/usr/bin:/bin")
    for given, says in (("other.sif", "there is no such file"), ("docker://python", "Fetch it first: apptainer pull")):
        done = noria("submit", "--image", given, "--", "true", check=False)
        assert done.returncode == 1 and says in done.stderr and done.stderr.count("\n") == 1
    Path("old.sh").write_text("#!/bin/sh\n#SBATCH --time=1\n")
    done = noria("submit", "--image", "image.sif", "old.sh", check=False)
    assert done.stderr == "noria: --image: old.sh starts its programs itself. Write it there.\n"
