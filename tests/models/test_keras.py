from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.conftest import require

SCRIPT = Path(__file__).with_name("keras_script.py")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "torch", "jax"])
def test_keras_models_go_between_noria_and_mlflow(backend: str, tmp_path: Path) -> None:
    with_mlflow = ["mlflow"] if backend == "tensorflow" else []
    for module in ("keras", backend, *with_mlflow):
        require(module, find_spec(module) is not None, f"pip install {module}")
    env = {**os.environ, "KERAS_BACKEND": backend, "PYTHONWARNINGS": "ignore", "TF_CPP_MIN_LOG_LEVEL": "3"}
    argv = [sys.executable, str(SCRIPT), str(tmp_path / "models"), *with_mlflow]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=110, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
