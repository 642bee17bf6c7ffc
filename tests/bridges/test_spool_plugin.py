"""The unmodified mlflow client on a node without a network: it writes to spools, and what arrives equals what HTTP brings."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from noria.agent.relay import Relay
from noria.process import whoami
from noria.types import ENDED, JobSpec, Run
from noria.wire import experiments, jobs, runs
from tests.conftest import Running, require, until

SCRIPTS = Path(__file__).parent / "scripts"
pytestmark = [pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(autouse=True)
def _mlflow() -> None:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")


def start(script: Path, *args: str, cwd: Path, **env: str) -> subprocess.Popen[str]:
    cwd.mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, str(script), *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "MLFLOW_DISABLE_TELEMETRY": "true", **env},
    )


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, error = process.communicate(timeout=110)
    assert process.returncode == 0, error
    return dict(json.loads(out.splitlines()[-1]))


def ship(server: Running, folder: Path) -> None:
    """What the agent does with the spools of a folder, to their end."""
    relay, paths = Relay(server.client), sorted(folder.glob("*.spool"))
    relay.ship(paths)
    assert [path for path in paths if not relay.finish(path)] == []


# Files that name ids, or that are zipped or pickled with the time of day.
OWN = {"MLmodel", "estimator.html", "cv_results.csv", "model.skops", "model.pkl"}


def comparable(tree: dict[str, Any], name: str) -> dict[str, Any]:
    """A snapshot without what no two calls of a script share: ids, made-up names, the clock, and files that have these."""
    runs, models = tree["runs"], tree["models"]
    ids = dict.fromkeys(runs, "run") | dict.fromkeys(models, "model") | {name: "experiment"}

    def plain(value: object) -> str:
        text = json.dumps(value, sort_keys=True)
        for own_id, word in ids.items():
            text = text.replace(own_id, word)
        return re.sub(r"\b[a-z]+-[a-z]+-\d{1,3}\b", "made-up", text)

    def files(found: dict[str, str]) -> list[object]:
        return [(path, "" if Path(path).name in OWN else digest) for path, digest in found.items()]

    def run(each: dict[str, Any]) -> object:
        history = {key: points for key, points in each["history"].items() if not key.endswith("_time")}
        given = {key: points for key, points in history.items() if points[0][0] < 1_750_000_000_000}
        return {
            **each,
            "info": each["info"][:3] + each["info"][5:],
            "latest": sorted(each["latest"]),
            "history": {key: [point[1:] for point in points] for key, points in history.items()} | given,
            "outputs": [step for _, step in each["outputs"]],
            "files": files(each["files"]),
        }

    def model(each: dict[str, Any]) -> object:
        tags = {
            key: value for key, value in each["tags"].items() if key != "mlflow.modelVersions"
        }  # With a server it stands there twice.
        metrics = sorted(point[:3] for point in each["metrics"] if not point[0].endswith("_time"))
        return {**each, "tags": tags, "files": files(each["files"]), "metrics": metrics}

    return {
        "tags": tree["tags"],
        "runs": [json.loads(text) for text in sorted(plain(run(each)) for each in runs.values())],
        "models": [json.loads(text) for text in sorted(plain(model(each)) for each in models.values())],
    }


@pytest.mark.slow
@pytest.mark.parametrize("script", ["tracking", "autolog"])
def test_a_script_without_a_server_equals_the_same_script_with_one(
    server: Running, tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.bridges.snapshot import registry, same, snapshot

    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", server.token)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    path, spools = SCRIPTS / f"{script}.py", tmp_path / "spools"
    offline = start(path, f"{script}-off", f"{script}-off", cwd=tmp_path / "a", MLFLOW_TRACKING_URI=f"noria-spool://{spools}")
    online = start(path, f"{script}-on", f"{script}-on", cwd=tmp_path / "b", MLFLOW_TRACKING_URI=server.url)
    run_id = result(offline)["run_id"]
    result(online)
    assert not any(each["runs"] for each in snapshot(server.url, [f"{script}-off"]).values())
    ship(server, spools)

    found = snapshot(server.url, [f"{script}-off", f"{script}-on"])
    assert run_id in found[f"{script}-off"]["runs"]
    offline_tree, online_tree = (comparable(found[name], name) for name in (f"{script}-off", f"{script}-on"))
    same(offline_tree, online_tree)
    versions = [
        (each["aliases"], {number: version[0] for number, version in each["versions"].items()})
        for name, each in sorted(registry(server.url).items())
        if name in (f"{script}-off", f"{script}-on")
    ]
    assert versions[:1] == versions[1:] if script == "tracking" else not versions
    assert not list((tmp_path / "a").iterdir())  # Nothing went to a folder of mlflow's own.


def python(body: str, tmp_path: Path, check: bool = True, **env: str) -> str:
    script = tmp_path / "script.py"
    script.write_text("import mlflow, os, sys\nfrom mlflow import MlflowClient\nclient = MlflowClient()\n" + body)
    process = start(script, cwd=tmp_path / "cwd", **{"MLFLOW_TRACKING_URI": f"noria-spool://{tmp_path}/spools", **env})
    out, error = process.communicate(timeout=60)
    assert not check or process.returncode == 0, error
    return out


def of(server: Running, run_id: str) -> tuple[Run, dict[str, str]]:
    run = server.client.call(runs.GET, runs.Get(run_id)).run
    return run, {tag.key: tag.value for tag in run.data.tags}


def test_kill_9_leaves_what_was_logged_and_a_failed_run(server: Running, tmp_path: Path) -> None:
    body = """
run = mlflow.start_run()
for step in range(500): mlflow.log_metric("loss", step / 2, step=step)
mlflow.log_param("last", "word")
print(run.info.run_id, flush=True)
os.kill(os.getpid(), 9)
"""
    run_id = python(body, tmp_path, check=False).strip()
    ship(server, tmp_path / "spools")
    run, _ = of(server, run_id)
    assert run.info.status == "FAILED" and [param.value for param in run.data.params] == ["word"]
    assert server.client.call(runs.CURVE, runs.Curve(run_id, "loss")).steps == list(range(500))


def test_processes_that_share_a_run_and_one_that_leaves_it_open(server: Running, tmp_path: Path) -> None:
    body = """
run_id = client.create_run("0", run_name="left open").info.run_id
client.log_metric(run_id, "a", 1)
if os.fork() == 0:
    client.log_metric(run_id, "b", 2)
    os._exit(0)
os.wait()
import subprocess
code = "import mlflow\\nwith mlflow.start_run(): mlflow.log_metric('c', 3)\\nassert mlflow.active_run() is None"
subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "MLFLOW_RUN_ID": run_id})
other = client.create_run("0", run_name="other").info.run_id
print(run_id, other)
"""
    shared, other = python(body, tmp_path).split()
    ship(server, tmp_path / "spools")
    run, _ = of(server, shared)
    assert sorted(metric.key for metric in run.data.metrics) == ["a", "b", "c"] and run.info.status == "FINISHED"
    assert of(server, other)[0].info.status == "RUNNING"  # As on a server: nobody has ended it.


def test_a_run_whose_later_spool_arrives_first_is_what_it_began_as(server: Running, tmp_path: Path) -> None:
    body = """
experiment = client.create_experiment("order")
run_id = client.create_run(experiment, start_time=5, run_name="late", tags={"mlflow.user": "somebody"}).info.run_id
client.set_terminated(run_id, end_time=9)
client.set_tag(run_id, "k", "v")
print(run_id)
"""
    run_id = python(body, tmp_path).strip()
    relay, paths = Relay(server.client), sorted((tmp_path / "spools").glob("*.spool"), reverse=True)
    for path in paths:
        relay.ship([path])
    run, tags = of(server, run_id)
    chosen = server.client.call(experiments.GET_BY_NAME, experiments.GetByName("order")).experiment
    assert (run.info.run_name, run.info.user_id, run.info.start_time, run.info.end_time) == ("late", "somebody", 5, 9)
    assert run.info.experiment_id == chosen.experiment_id and tags["k"] == "v" and "noria.unbegun" not in tags


def test_what_cannot_be_done_offline_is_said_in_a_sentence(tmp_path: Path) -> None:
    body = """
experiment = client.create_experiment("e")
for call in (
    lambda: client.rename_experiment(experiment, "f"),
    lambda: client.get_experiment("12"),
    lambda: client.search_registered_models(),
    lambda: client.get_run("0" * 32),
    lambda: mlflow.log_artifact("/nosuch"),
    lambda: client.log_metric(mlflow.active_run().info.run_id, "x", 1, timestamp=2**70),
):
    try: call()
    except Exception as error: print(type(error).__name__, error)
mlflow.set_tracking_uri("noria-spool://relative/path")
try: MlflowClient()
except Exception as error: print(type(error).__name__, error)
"""
    says = python(body, tmp_path).splitlines()
    assert len(says) == 7 and all(line.startswith("MlflowException ") for line in says), says
    for line, words in zip(
        says,
        ("not possible on a node", "Choose it by name", "not possible on a node", "not known on this node", "no file '/nosuch'",
         "fit into 64 bits", "three slashes: noria-spool:///relative/path"),
        strict=True,
    ):  # fmt: skip
        assert words in line


def test_a_job_without_a_network_logs_to_its_own_run(own_server: Running, tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import mlflow\nmlflow.set_experiment('chosen')\n"
        "with mlflow.start_run(run_name='renamed') as run:\n"
        "    mlflow.log_metric('x', 1.5, step=3)\n    mlflow.log_text('hello', 'a.txt')\n    assert run.info.user_id\n"
        "with mlflow.start_run(): mlflow.log_metric('y', 2)\n"
        "raise SystemExit(3)\n"
    )
    line = f'MLFLOW_TRACKING_URI="noria-spool://$NORIA_JOB_FOLDER/spool" exec "{sys.executable}" {script}'
    env = {"PATH": os.environ["PATH"], "PYTHONWARNINGS": "ignore"}
    spec = JobSpec(["sh", "-c", line], cwd=str(tmp_path), env=env)
    job = own_server.client.call(jobs.SUBMIT, jobs.Submit(spec, whoami())).job
    until(lambda: own_server.client.call(jobs.GET, jobs.Key(job.id)).job.state in ENDED, 60)
    run, _ = of(own_server, job.run_id)
    assert (run.info.status, run.info.run_name, [metric.key for metric in run.data.metrics]) == ("FAILED", "renamed", ["x"])
    chosen = own_server.client.call(experiments.GET_BY_NAME, experiments.GetByName("chosen")).experiment
    found = own_server.client.call(runs.SEARCH, runs.Search([chosen.experiment_id])).runs
    assert sorted(each.info.status for each in found) == ["FAILED", "FINISHED"] and run.info.run_id in [
        r.info.run_id for r in found
    ]
    assert sorted(own_server.client.tree(run.info.artifact_uri)) == ["a.txt", "noria/capsule.json"]
