"""`noria run --on databricks`: projects that really run as jobs of a workspace, and come back with all that they logged."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from noria.errors import NoriaError
from tests.conftest import Running, until
from tests.databricks_fake import Databricks

pytestmark = [pytest.mark.mlflow, pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]
Noria = Callable[..., subprocess.CompletedProcess[str]]
CLUSTER = json.dumps({"spark_version": "16.4.x-cpu-ml-scala2.12", "node_type_id": "i3.xlarge", "num_workers": 0})
PROJECT = """
name: small
python_env: python_env.yaml
entry_points:
  main:
    parameters: {alpha: float, text: {type: string, default: "it's plain"}, data: {type: path, default: data.csv}}
    command: "python train.py {alpha} {text} {data}"
  fails:
    command: "python -c 'print(\\"about to fail\\"); raise SystemExit(3)'"
  sleeps:
    command: "echo begun; sleep 100"
  quiet:
    command: "cat $WHICH/data.csv"
"""
TRAIN = """
import sys, mlflow
alpha, text, data = sys.argv[1:]
print("rows", open(data).read().split())
with mlflow.start_run():
    for step in range(5):
        mlflow.log_metric("loss", float(alpha) / (step + 1), step=step)
    mlflow.set_tag("said", text)
    mlflow.log_text("weights", "model/weights.txt")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "MLproject").write_text(PROJECT)
    (folder / "python_env.yaml").write_text('python: "3.11"\ndependencies:\n  - mlflow\n  - numpy>=1.26\n')
    (folder / "train.py").write_text(TRAIN)
    (folder / "data.csv").write_text("1\n2\n")
    return folder


def spec(workspace: Databricks, job: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((workspace.folder / "jobs" / f"{job}.json").read_text())
    return found


def test_a_project_runs_there_and_its_run_comes_here(
    own_server: Running, workspace: Databricks, noria: Noria, project: Path
) -> None:
    words = ("run", str(project), "--on", "databricks", "--cluster", CLUSTER, "-P", "alpha=0.5")
    done = noria(*words, "--experiment", "small", "--wait", "--json")
    told = json.loads(done.stdout)
    assert (
        told["job"]["state"] == "COMPLETED"
        and told["experiment"] == "/Users/ada@example.org/small"
        and "succeeded" in done.stderr
    )
    run = json.loads(noria("runs", "show", told["run_id"], "--json").stdout)
    data = run["data"]
    assert {each["key"]: each["value"] for each in data["params"]}["alpha"] == "0.5"
    tags = {each["key"]: each["value"] for each in data["tags"]}
    assert (
        tags["said"] == "it's plain"
        and tags["mlflow.project.backend"] == "databricks"
        and tags["mlflow.databricks.runURL"] == told["url"]
    )
    assert {each["key"]: each["value"] for each in data["metrics"]}["loss"] == 0.1 and run["info"]["status"] == "FINISHED"
    root = run["info"]["artifact_uri"]
    own_server.client.download(root, "model/weights.txt", project / "back")
    assert (project / "back").read_text() == "weights"
    (project / "back").unlink()
    task = spec(workspace, told["job"]["job"])["tasks"][0]
    assert [each["pypi"]["package"] for each in task["libraries"]] == ["mlflow", "numpy>=1.26"]
    assert task["new_cluster"]["node_type_id"] == "i3.xlarge"
    assert "rows ['1', '2']" in noria("logs", told["uri"]).stdout
    sent = len(workspace.calls("workspace/import"))
    assert sent in (1, 2)  # The project, and what runs it if no other test of this file has sent that.
    noria(*words, "--experiment", "small")
    assert len(workspace.calls("workspace/import")) == sent and len(workspace.calls("jobs/runs/submit")) == 2
    again = noria("runs", "import", f"databricks:///{told['run_id']}")
    assert "1 were here already" in again.stderr


def test_the_same_key_is_the_same_job_whatever_is_lost(
    own_server: Running, workspace: Databricks, noria: Noria, project: Path
) -> None:
    words = (
        "run",
        str(project),
        "--on",
        "databricks",
        "-e",
        "quiet",
        "--env",
        "WHICH=.",
        "--key",
        "k1",
        "--experiment",
        "keys",
        "--json",
    )
    for path in ("mlflow/runs/create", "jobs/runs/submit"):
        workspace.fault(path, "lost")
    workspace.fault("workspace/import", "429", wait=2)
    first = json.loads(noria(*words).stdout)
    second = json.loads(noria(*words).stdout)
    assert (first["job"], first["run_id"], first["known"]) == (second["job"], second["run_id"], False) and second["known"]
    assert "environment_key" in spec(workspace, first["job"])["tasks"][0]
    assert spec(workspace, first["job"])["environments"][0]["spec"]["dependencies"] == ["mlflow", "numpy>=1.26"]
    slow = [each["time"] for each in workspace.calls("workspace/import")]
    assert slow[1] - slow[0] >= 2, "Retry-After was not waited for"
    waited = noria("wait", first["uri"], "--json")
    assert json.loads(waited.stdout)["state"] == "COMPLETED"
    assert noria("logs", first["uri"]).stdout == "1\n2\n"


@pytest.mark.parametrize(("entry", "cluster", "more", "says"), [
    ("fails", {}, {}, "The program failed (Workload failed, see run output for details (exit code 3)), and its last line was: about to fail."),
    ("quiet", {"node_type_id": "nosuch"}, {}, "Databricks could not give it a cluster: Cluster 'x' was terminated"),
    ("quiet", {}, {"libraries": [{"pypi": {"package": "nosuch-package"}}]}, "A package could not be installed there"),
    ("sleeps", {}, {"timeout_seconds": 1}, "It took longer than its time limit."),
])  # fmt: skip
def test_a_failure_is_told_in_a_sentence(
    own_server: Running,
    workspace: Databricks,
    noria: Noria,
    project: Path,
    entry: str,
    cluster: dict[str, Any],
    more: dict[str, Any],
    says: str,
) -> None:
    (project.parent / "backend.json").write_text(json.dumps({"new_cluster": json.loads(CLUSTER) | cluster, **more}))
    words = ("run", str(project), "--on", "databricks", "-e", entry, "--backend-config", str(project.parent / "backend.json"), "--experiment", "failing")  # fmt: skip
    done = noria(*words, "--wait", check=False)
    assert done.returncode == 1 and says in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    listed = json.loads(noria("runs", "list", "-x", "failing", "--json").stdout)["runs"]
    assert listed[0]["info"]["status"] == "FAILED"


def test_a_job_is_cancelled(own_server: Running, workspace: Databricks, noria: Noria, project: Path) -> None:
    uri = noria("run", str(project), "--on", "databricks", "-e", "sleeps", "--cluster", "0101-000000-abcd").stdout.strip()
    log = workspace.folder / "jobs" / f"{uri.rpartition('/')[2]}.log"
    until(lambda: log.exists() and "begun" in log.read_text(), 60)
    assert "is running; Databricks tells" in noria("logs", uri).stderr
    began = time.monotonic()
    assert "is cancelled" in noria("cancel", uri).stderr and time.monotonic() - began < 60
    assert "cancelled" in noria("wait", uri, check=False).stderr
    assert "is cancelled" in noria("cancel", uri).stderr


def test_code_is_kept_where_it_is_asked_for(workspace: Databricks, project: Path) -> None:
    from noria.databricks.workspace import Workspace
    from noria.projects import databricks
    from noria.projects.start import Request
    from noria.types import JobSpec

    asked, request = Workspace(), Request(str(project), "quiet", resources=JobSpec([], env={"WHICH": "."}))
    for storage, path in (
        ("/Volumes/main/ml/files/code", "/Volumes/"),
        ("dbfs:/code", "/dbfs/"),
        ("/Shared/code", "/Workspace/"),
    ):
        done = databricks.submit(asked, request, databricks.Settings(storage=storage))
        *_, last = databricks.watch(asked, done.job)
        assert last.state == "COMPLETED", last
        assert spec(workspace, done.job)["tasks"][0]["spark_python_task"]["parameters"][0].startswith(path)
        sent = len(workspace.calls("PUT .*/fs/files|add-block|workspace/import"))
        databricks.submit(asked, request, databricks.Settings(storage=storage))
        assert len(workspace.calls("PUT .*/fs/files|add-block|workspace/import")) == sent, "sent twice"
    with pytest.raises(NoriaError, match="is no folder at Databricks"):
        databricks.submit(asked, request, databricks.Settings(storage="here"))
    (project / "large.bin").write_bytes(random.Random(1).randbytes(11 << 20))
    with pytest.raises(NoriaError, match="a workspace takes 10 MiB"):
        databricks.submit(asked, request, databricks.Settings())


def test_what_is_wrong_is_said_before_anything_is_sent(
    own_server: Running, workspace: Databricks, noria: Noria, project: Path
) -> None:
    (project.parent / "other.csv").write_text("")
    (project.parent / "typo.json").write_text('{"new_clutser": {}}')
    here = ("run", str(project), "--on", "databricks")
    for words, says in (
        ((*here, "-P", "alpha=x"), "Parameter alpha is 'x', which is no number."),
        (
            (*here, "-P", "alpha=1", "-P", f"data={project.parent}/other.csv"),
            "which Databricks does not see. Put it into the project",
        ),
        ((*here, "-P", "alpha=1", "-P", "data=nosuch.csv"), "there is no such file or folder"),
        ((*here, "-e", "nosuch"), "has no entry point 'nosuch'"),
        ((*here, "--gpus", "2"), "--gpus means nothing to Databricks."),
        ((*here, "--cluster", "{nope"), "--cluster is no JSON"),
        ((*here, "--backend-config", "nosuch.json"), "nosuch.json cannot be read"),
        ((*here, "--backend-config", str(project.parent / "typo.json")), "new_clutser"),
        (("run", str(project), "--cluster", "{}"), "--cluster is for Databricks. Add --on databricks."),
        (("wait", "databricks:///nosuch"), "is no job"),
        (("wait", "databricks:///77"), "There is no job 77"),
    ):
        done = noria(*words, check=False)
        assert done.returncode != 0 and says in done.stderr and "Traceback" not in done.stderr, (words, done.stderr)
    assert not workspace.calls("submit") and not workspace.calls("runs/create")
    done = noria(*here, "-e", "quiet", "--cluster", '{"new_cluster": {"num_workers": 1}}', "--experiment", "bad", check=False)
    assert "Missing required field" in done.stderr and "Traceback" not in done.stderr
