"""The unmodified mlflow client against a real server, over loopback HTTP."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from noria.wire import runs
from tests.conftest import Running, require

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
