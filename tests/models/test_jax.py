"""Functions of JAX, in a process of their own: JAX starts threads, and what forks later beside these might never return."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from tests.conftest import require

CASES = Path(__file__).with_name("jax_cases.py")


def test_functions_of_jax() -> None:
    for library in ("jax", "safetensors"):
        require(library, find_spec(library) is not None, "pip install 'noria[jax]'")
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    argv = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(argv, env=env, cwd=CASES.parents[2], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
    assert " passed in " in done.stdout and "skipped" not in done.stdout, done.stdout
