"""`mlflow.autolog()` of the libraries that people use, unmodified, against a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from noria.wire import logged_models, runs
from tests.conftest import Running, require

SCRIPT = Path(__file__).parent.parent / "autolog_script.py"
LIBRARIES = {
    "sklearn": (["sklearn"], "scikit-learn", "training_accuracy_score", "C"),
    "keras": (["keras", "tensorflow"], "tensorflow-cpu", "accuracy", "epochs"),
    "lightning": (["pytorch_lightning"], "pytorch-lightning", "loss", "epochs"),
    "transformers": (["transformers", "accelerate"], "transformers accelerate", "loss", "learning_rate"),
}


@pytest.mark.mlflow
@pytest.mark.slow
@pytest.mark.parametrize("kind", LIBRARIES)
def test_autolog(server: Running, tmp_path: Path, kind: str) -> None:
    modules, packages, metric, param = LIBRARIES[kind]
    require(kind, all(find_spec(name) is not None for name in ["mlflow", *modules]), f"pip install mlflow {packages}")
    env = {**os.environ, "MLFLOW_TRACKING_URI": server.url, "MLFLOW_TRACKING_TOKEN": server.token, "PYTHONWARNINGS": "ignore"}
    argv = [sys.executable, str(SCRIPT), kind]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, cwd=tmp_path, timeout=115)
    assert done.returncode == 0, done.stderr
    run = server.client.call(runs.GET, runs.Get(json.loads(done.stdout.splitlines()[-1])["run_id"])).run
    assert run.info.status == "FINISHED"
    assert metric in {each.key for each in run.data.metrics} and param in {each.key for each in run.data.params}
    if kind in ("sklearn", "keras"):
        (output,) = run.outputs.model_outputs
        model = server.client.call(logged_models.GET, logged_models.Key(output.model_id)).model
        assert model.info.status == "LOGGED_MODEL_READY" and model.info.source_run_id == run.info.run_id
        root = model.info.artifact_uri
        assert "MLmodel" in set(server.client.tree(root)) and run.inputs.dataset_inputs
