"""The callback for Keras, on each of its backends: what it logs, and that a fit that was stopped ends as one that was not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from noria.types import SAVED
from tests.conftest import require

SCRIPT = Path(__file__).with_name("keras_script.py")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def run(backend: str, *fits: str) -> tuple[int, list[Any], str]:
    """Exit code, what each fit that ended printed, and what was said."""
    env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    argv = [sys.executable, str(SCRIPT), *fits]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=110)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr


@pytest.mark.parametrize("backend", ["tensorflow", "torch", "jax"])
def test_a_fit_that_was_stopped_ends_as_one_that_was_not(backend: str) -> None:
    for module in ("keras", backend):
        require(module, find_spec(module) is not None, f"pip install {module}")
    whole, stopped, between = "a" * 32, "b" * 32, "c" * 32
    code, (one,), said = run(backend, whole, f"{stopped}+6")  # An epoch has six steps.
    assert code == SAVED and "step 6 is saved" in said, said
    code, (other,), said = run(backend, stopped, f"{between}+10")
    assert code == SAVED and "step 10 is saved" in said, said
    assert one["epochs"] == [[0, 1], [0, 1, 2]] and other["epochs"] == [[1], [0, 1, 2]]
    assert one["updates"] == other["updates"] == 30
    assert other["weights"] == pytest.approx(one["weights"], rel=1e-5)
    if backend == "jax":
        code, (again,), said = run(backend, between)  # The second epoch begins again, after four steps of it.
        assert code == 0 and (again["epochs"], again["updates"]) == ([[1], [0, 1, 2]], 34), said
