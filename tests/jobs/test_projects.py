"""Projects on real clusters: what `noria run` gives there is what `mlflow run` gives here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.clusters.cluster import Cluster, Emulated
from tests.projects.lent import NAMES, committed, copied, git

pytestmark = [
    pytest.mark.slow,
    pytest.mark.mlflow,
    pytest.mark.timeout(300),
    pytest.mark.parametrize("cluster", ["slurm", "sge"], indirect=True, scope="session"),
]
FACTS = Path(__file__).parents[1] / "projects/facts.py"
GIVEN = {"multistep": ("-P", "rate=0.5")}
PYTHON = str(Path(sys.executable).parent)


def surrounded() -> dict[str, str]:
    """What a user has active there: the Python of these tests."""
    own = {"PYTHONPATH": os.environ["PYTHONPATH"]} if os.environ.get("PYTHONPATH") else {}
    return {"PATH": f"{PYTHON}:/usr/local/bin:/usr/bin:/bin", **own}


def project(cluster: Emulated, name: str) -> tuple[Path, str]:
    """A folder at home, as this process sees it, and its URI there."""
    folder = cluster.home / "projects" / name
    if not folder.exists():
        copied("python_env" if name == "git" else name, folder.parent / f".{name}").rename(folder)
        conda = folder / "conda.yaml"
        if conda.exists():  # No index of packages is reached from there, not even for pip.
            conda.write_text(conda.read_text().replace("  - pip\n", ""))
        committed(folder)
        git(folder, "remote", "add", "origin", "https://example.com/team/project.git")
        cluster.root("chown", "-R", "ada", "/home/ada/projects")
    there = f"/home/ada/projects/{name}"
    return folder, f"file://{there}" if name == "git" else there


def run(cluster: Cluster, *words: str, check: bool = True) -> Any:
    done = cluster.noria("run", *words, "--on", cluster.on, "--json", "--wait", check=check, **surrounded())
    return json.loads(done.stdout)


def theirs(folder: Path, tmp_path: Path, words: tuple[str, ...], experiment: str) -> Any:
    """What MLflow makes of the same folder on this machine."""
    env = {**os.environ, "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/theirs.db", "PATH": f"{PYTHON}{os.pathsep}{os.environ['PATH']}",
           "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*"}  # fmt: skip
    argv = [sys.executable, "-m", "mlflow", "run", ".", "--env-manager", "local", "--experiment-name", experiment, *words]
    subprocess.run(argv, check=True, env=env, cwd=folder, capture_output=True, timeout=200)
    told = subprocess.run([sys.executable, str(FACTS), experiment], check=True, env=env, capture_output=True, text=True)
    return json.loads(told.stdout)


def ours(cluster: Cluster, experiment: str) -> Any:
    variables = json.loads(cluster.noria("env", "--json").stdout)
    return json.loads(cluster.run(sys.executable, str(FACTS), experiment, **variables).stdout)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_what_mlflow_makes_of_it(cluster: Emulated, name: str, tmp_path: Path) -> None:
    folder, uri = project(cluster, name)
    words = GIVEN.get(name, ("-P", "alpha=0.25"))
    made = run(cluster, uri, "--experiment", name, *words)
    assert made["job"]["exit_code"] == 0, cluster.printed(made["job_id"])
    assert made["job"]["spec"]["scheduler"] == cluster.on
    found, expected = ours(cluster, name), theirs(folder, tmp_path, words, name)
    for each in (*found, *expected):
        if name in ("plain", "multistep"):
            each["params"].pop("data", None)  # Where this copy of the data lies.
    assert found == expected
    assert len(found) == (3 if name == "multistep" else 1)


def test_the_second_start_builds_nothing(cluster: Emulated) -> None:
    _, uri = project(cluster, "python_env")
    first = run(cluster, uri, "-P", "alpha=2")
    second = run(cluster, uri, "-P", "alpha=3")
    assert second["built_seconds"] == 0 and first["environment"] == second["environment"] != ""


def test_our_own_steps_on_a_node_without_a_network(cluster: Emulated) -> None:
    """They cannot be looked for there, so that each is run, in a run of its own below the job's."""
    _, uri = project(cluster, "multistep")
    made = run(cluster, uri, "-e", "ours", "--experiment", "own")
    assert made["job"]["exit_code"] == 0, cluster.printed(made["job_id"])
    steps = [each for each in ours(cluster, "own") if each["tags"]["mlflow.project.entryPoint"] == "load"]
    assert [(each["status"], each["artifacts"], each["params"]) for each in steps] == [
        ("FINISHED", ["data/rows.csv"], {"count": "6"})
    ] * 2


def test_a_step_that_has_finished_is_taken_over_on_any_cluster(cluster: Emulated) -> None:
    _, uri = project(cluster, "multistep")
    first = run(cluster, uri, "-e", "load", "-P", "count=7")
    assert (first["cached"], run(cluster, uri, "-e", "load", "-P", "count=7")["run_id"]) == (False, first["run_id"])
