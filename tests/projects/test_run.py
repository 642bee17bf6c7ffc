"""`noria run` of public-style project folders gives what `mlflow run` gives, through the command line and on this machine's queue."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.tracking import MlflowClient

from tests.conftest import Running
from tests.projects.lent import NAMES, committed, copied, git

pytestmark = [pytest.mark.mlflow, pytest.mark.slow]
Noria = Callable[..., subprocess.CompletedProcess[str]]
PARAMETERS = {"plain": ("alpha=0.25", "more=and more"), "python_env": ("alpha=0.25",), "conda": ("alpha=0.25",), "multistep": ("rate=0.5",),
              "git": ("alpha=0.25",)}  # fmt: skip
TAGS = ("mlflow.project.entryPoint", "mlflow.project.backend", "mlflow.source.type", "mlflow.source.name", "mlflow.source.git.commit",
        "mlflow.source.git.repoURL", "mlflow.user", "note")  # fmt: skip


def project(name: str, folder: Path) -> tuple[Path, str]:
    """A folder to run in, and the URI of the project there; all but the plain one are repositories."""
    made = copied("python_env" if name == "git" else name, folder)
    if name != "plain":
        committed(made)
        git(made, "remote", "add", "origin", "https://ada:secret@example.com/team/project.git")
    return made, f"file://{made}" if name == "git" else "."


def given(name: str) -> list[str]:
    return [word for each in PARAMETERS[name] for word in ("-P", each)]


def facts(client: MlflowClient, run: Any) -> dict[str, Any]:
    """What a run is compared by."""

    def files(path: str = "") -> list[str]:
        return [
            name
            for each in client.list_artifacts(run.info.run_id, path)
            for name in ([] if not each.is_dir else files(each.path)) or [each.path]
        ]

    history = {
        key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]
        for key in run.data.metrics
        if "system/" not in key
    }
    return {
        "status": run.info.status, "params": run.data.params, "metrics": history, "artifacts": [name for name in sorted(files()) if not name.startswith("noria/")],
        "tags": {key: run.data.tags.get(key) for key in TAGS},
    }  # fmt: skip


@pytest.fixture
def client(own_server: Running, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", own_server.token)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return MlflowClient(own_server.url)


@pytest.mark.parametrize("name", NAMES)
def test_a_run_is_what_mlflow_makes_of_it(name: str, client: MlflowClient, own_server: Running, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    folder, uri = project(name, tmp_path / "p")
    monkeypatch.chdir(folder)
    theirs = [sys.executable, "-m", "mlflow", "run", uri, "--env-manager", "local", "--experiment-name", "theirs", *given(name)]
    subprocess.run(
        theirs, check=True, env={**os.environ, "MLFLOW_TRACKING_URI": own_server.url}, capture_output=True, timeout=100
    )
    told = json.loads(noria("run", uri, "--experiment", "ours", "--json", *given(name)).stdout)
    assert told["job"]["exit_code"] == 0 and not told["cached"]

    def made(experiment: str) -> list[dict[str, Any]]:
        found = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
        return sorted((facts(client, run) for run in found), key=lambda each: each["tags"]["mlflow.project.entryPoint"])

    ours, theirs_ = made("ours"), made("theirs")
    for each in (*ours, *theirs_):
        if name == "git" or each["tags"]["mlflow.project.entryPoint"] in ("load", "train"):
            each["tags"].pop(
                "mlflow.source.name"
            )  # Where the job has its copy; and of a file:// URL MLflow makes a path that is none.
        for key in ("data",):
            each["params"].pop(key, None) if name == "multistep" else None
    assert ours == theirs_ and {each["status"] for each in ours} == {"FINISHED"}
    assert len(ours) == (3 if name == "multistep" else 1)
    env = client.get_run(told["run_id"]).data.tags.get("mlflow.project.env")
    assert env == (None if name in ("plain", "multistep") else "virtualenv")
    assert bool(told["environment"]) == (env is not None)


def test_the_second_start_takes_less_than_a_second(
    client: MlflowClient, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project("python_env", tmp_path / "p")[0])
    first = json.loads(noria("run", ".", "--json", "--wait").stdout)
    before = _used()
    second = json.loads(noria("run", ".", "--json", "--no-wait").stdout)
    assert first["environment"] == second["environment"] and second["built_seconds"] == 0 < first["built_seconds"]
    assert _used() - before < 1, "what it costs, whatever else this machine does meanwhile"


def _used() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_steps_that_have_not_changed_are_taken_over(
    client: MlflowClient, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = project("multistep", tmp_path / "p")
    monkeypatch.chdir(folder)

    def load(*words: str) -> Any:
        return json.loads(noria("run", ".", "-e", "load", "--json", "--wait", *words).stdout)

    first = load("-P", "count=3")
    again = load("-P", "count=3")
    assert (again["cached"], again["run_id"], again["job_id"]) == (True, first["run_id"], "")
    assert "nothing has changed since run" in noria("run", ".", "-e", "load", "-P", "count=3").stderr
    assert not load("-P", "count=3", "--no-cache")["cached"] and not load("-P", "count=2")["cached"]
    assert not load("-P", "count=3", "--experiment", "another")["cached"], "an experiment is its own world"
    (folder / "load.py").write_text((folder / "load.py").read_text() + "\n")
    assert not load("-P", "count=3")["cached"], "its code has changed"
    data = tmp_path / "rows.csv"
    data.write_text("1\n")

    def train() -> Any:
        return json.loads(noria("run", ".", "-e", "train", "-P", f"data={data}", "--json", "--wait").stdout)

    assert [train()["cached"], train()["cached"]] == [False, True]
    data.write_text("2\n")
    assert not train()["cached"], "its data has changed"
    client.delete_run(train()["run_id"])
    assert not train()["cached"], "a run that was deleted stands for nothing"


def test_mlflows_own_steps_find_their_runs_again(
    client: MlflowClient, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project("multistep", tmp_path / "p")[0])
    for words in (["load starts", "train starts"], ["load found", "train found"]):
        printed = noria("run", ".").stdout
        assert all(line in printed for line in words), printed


def test_steps_of_a_project_with_an_environment_run_in_the_jobs(
    client: MlflowClient, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where MLflow would make a virtual environment for each."""
    folder = copied("multistep", tmp_path / "p")
    (folder / "python_env.yaml").write_text("dependencies:\n  - ./lent-1.0-py3-none-any.whl\n")
    (folder / "main.py").write_text((folder / "main.py").read_text().replace(', env_manager="local"', ""))
    (folder / "load.py").write_text("import sys\nprint('python', sys.prefix)\n" + (folder / "load.py").read_text())
    monkeypatch.chdir(folder)
    told = json.loads(noria("run", ".", "--json").stdout)
    assert told["job"]["exit_code"] == 0 and f"python {told['environment']}" in noria("logs", told["job_id"]).stdout


def test_our_own_steps_within_a_job(client: MlflowClient, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project("multistep", tmp_path / "p")[0])
    told = json.loads(noria("run", ".", "-e", "ours", "--json").stdout)
    assert told["job"]["exit_code"] == 0
    assert "cached False True" in noria("logs", told["job_id"]).stdout
    assert client.get_run(told["run_id"]).data.metrics["same"] == 1
    (step,) = client.search_runs(["0"], "tags.mlflow.project.entryPoint = 'load'")
    assert step.data.tags["mlflow.parentRunId"] == told["run_id"] and step.info.status == "FINISHED"
    assert [each.path for each in client.list_artifacts(step.info.run_id, "data")] == ["data/rows.csv"]
    forced = noria("run", ".", "-e", "ours", "--no-cache").stdout
    assert "cached False False" in forced


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("-P", "alpha=fast"), "Parameter alpha is 'fast', which is no number."),
        (("-e", "chek"), "Did you mean 'check'?"),
        (("-e", "check"), "needs the parameter n."),
        (("-P", "data=no.csv"), "there is no such file or folder"),
        (("-P", "alpha"), "-P alpha has no value."),
        (("-v", "v1"), "is no repository of git"),
        (("--on", "nowhere"), "There is no cluster 'nowhere'."),
        (("-e", "broken.py"), "broken.py line 1"),
        (("train.py",), "`noria submit -- . train.py`"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_queued(words: tuple[str, ...], sentence: str, own_server: Running, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    folder = copied("plain", tmp_path / "p")
    (folder / "broken.py").write_text("def (\n")
    monkeypatch.chdir(folder)
    done = noria("run", ".", *words, check=False)
    assert done.returncode == 1 and sentence in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert json.loads(noria("ps", "--all", "--json").stdout)["jobs"] == []


def test_an_environment_that_cannot_be_built(
    own_server: Running, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("python_env", tmp_path / "p")
    (folder / "requirements.txt").write_text("./not-there-1.0-py3-none-any.whl\n")
    monkeypatch.chdir(folder)
    done = noria("run", ".", check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr and "not-there-1.0" in done.stderr
    assert json.loads(noria("ps", "--all", "--json").stdout)["jobs"] == []


def test_a_dry_run_prints_and_submits_nothing(
    own_server: Running, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project("python_env", tmp_path / "p")[0])
    shown = noria("run", ".", "--dry-run").stdout
    assert "# in the environment that" in shown and "python_env.yaml" in shown
    assert json.loads(noria("ps", "--all", "--json").stdout)["jobs"] == []
    assert not (tmp_path / "home/environments").exists()


def test_a_key_starts_once_and_a_failure_is_the_exit_code(
    client: MlflowClient, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("plain", tmp_path / "p")
    (folder / "fails.sh").write_text("exit 7\n")
    monkeypatch.chdir(folder)
    first, second = (
        json.loads(noria("run", ".", "-e", "fails.sh", "--key", "k", "--json", "--no-wait").stdout) for _ in range(2)
    )
    assert first["job_id"] == second["job_id"] and second["known"]
    done = noria("run", ".", "-e", "fails.sh", check=False)
    assert done.returncode == 7 and "failed" in done.stderr


def test_a_folder_is_run_as_it_was_when_it_was_handed_in(
    client: MlflowClient, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied("plain", tmp_path / "p")
    (folder / "says.sh").write_text("sleep 1\ncat word\n")
    (folder / "word").write_text("before")
    monkeypatch.chdir(folder)
    job = json.loads(noria("run", ".", "-e", "says.sh", "--json", "--no-wait").stdout)["job_id"]
    (folder / "word").write_text("after")
    noria("wait", job)
    assert noria("logs", job).stdout.strip() == "before"


def test_mlflow_run_with_our_backend(
    client: MlflowClient, own_server: Running, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the entry point as pyproject.toml declares it, whatever was installed here before."""
    declared = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]["entry-points"]
    meta = tmp_path / "meta/noria_backend-1.0.dist-info"
    meta.mkdir(parents=True)
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: noria-backend\nVersion: 1.0\n")
    lines = [f"{name} = {value}" for name, value in declared["mlflow.project_backend"].items()]
    (meta / "entry_points.txt").write_text("\n".join(["[mlflow.project_backend]", *lines, ""]))
    monkeypatch.chdir(copied("plain", tmp_path / "p"))
    env = {
        **os.environ,
        "MLFLOW_TRACKING_URI": own_server.url,
        "PYTHONPATH": os.pathsep.join([str(meta.parent), os.environ.get("PYTHONPATH", "")]),
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "mlflow", "run", ".", "--backend", "noria", "--run-name", "named", *words]
        return subprocess.run(argv, env=env, capture_output=True, text=True, timeout=100)

    done = run("--env-manager", "local", "-P", "alpha=0.25", "-c", '{"on": "local", "time": "5m"}')
    assert done.returncode == 0, done.stderr
    (job,) = json.loads(noria("ps", "--all", "--json").stdout)["jobs"]
    noria("wait", job["id"])
    made = client.get_run(job["run_id"])
    assert (made.info.run_name, made.data.tags["mlflow.project.backend"], job["spec"]["time"]) == ("named", "noria", 300)
    assert made.info.status == "FINISHED" and made.data.params["alpha"] == "0.25"
    for words, sentence in (
        (("-P", "alpha=x"), "which is no number"),
        (("-c", '{"gpu": 1}'), "There is no option 'gpu' of a job."),
    ):
        refused = run(*words)
        assert refused.returncode == 1 and sentence in refused.stderr and "Traceback" not in refused.stderr
