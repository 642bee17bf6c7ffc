"""Twenty of the faults of bench/faults.py, on this machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.clusters.cluster import REPOSITORY

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_whatever_stops_a_training_it_ends_as_if_nothing_had_been() -> None:
    pytest.importorskip("torch")
    bench = [
        sys.executable,
        str(REPOSITORY / "bench" / "faults.py"),
        "--faults",
        "20",
        "--seed",
        "7",
        "--on",
        "local",
        "--at-once",
        "3",
    ]
    done = subprocess.run(bench, capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stdout + done.stderr
