"""The unmodified mlflow client against a real server, over loopback HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from noria.process import whoami
from noria.types import ENDED, JobSpec
from noria.wire import experiments, jobs, runs
from tests.conftest import Running, require, until

SCRIPT = Path(__file__).parent.parent / "mlflow_script.py"


@pytest.mark.mlflow
def test_an_unmodified_mlflow_script(server: Running, tmp_path: Path) -> None:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    env = {**os.environ, "MLFLOW_TRACKING_URI": server.url, "MLFLOW_TRACKING_TOKEN": server.token, "PYTHONWARNINGS": "ignore"}
    done = subprocess.run([sys.executable, str(SCRIPT)], env=env, capture_output=True, text=True, cwd=tmp_path, timeout=100)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())  # Nothing went to a folder of mlflow's own.
    run = server.client.call(runs.GET, runs.Get(json.loads(done.stdout.splitlines()[-1])["run_id"])).run
    assert run.info.run_name == "first" and {metric.key for metric in run.data.metrics} == {"loss", "nan", "accuracy"}


@pytest.mark.mlflow
def test_an_mlflow_script_in_a_job_logs_to_the_jobs_run_even_if_it_sets_its_experiment(
    own_server: Running, tmp_path: Path
) -> None:
    require("mlflow", find_spec("mlflow") is not None, "pip install mlflow")
    script = tmp_path / "train.py"
    script.write_text(
        "import mlflow\nmlflow.set_experiment('chosen')\nwith mlflow.start_run(run_name='renamed'): mlflow.log_metric('x', 1.5, step=3)\n"
        "with mlflow.start_run(): mlflow.log_metric('y', 2)\n"
    )
    spec = JobSpec([sys.executable, str(script)], cwd=str(tmp_path), env={"PATH": os.environ["PATH"], "PYTHONWARNINGS": "ignore"})
    job = own_server.client.call(jobs.SUBMIT, jobs.Submit(spec, whoami())).job
    until(lambda: own_server.client.call(jobs.GET, jobs.Key(job.id)).job.state in ENDED, 60)
    run = own_server.client.call(runs.GET, runs.Get(job.run_id)).run
    assert (run.info.status, run.info.run_name, [metric.key for metric in run.data.metrics]) == ("FINISHED", "renamed", ["x"])
    chosen = own_server.client.call(experiments.GET_BY_NAME, experiments.GetByName("chosen")).experiment
    assert run.info.experiment_id == chosen.experiment_id
    assert len(own_server.client.call(runs.SEARCH, runs.Search([chosen.experiment_id])).runs) == 2
