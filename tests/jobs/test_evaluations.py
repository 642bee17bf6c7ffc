"""Candidates are evaluated side by side: on this machine, and on the nodes of a real Slurm."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.automation import tiny
from tests.clusters.cluster import Cluster

CANDIDATES = Path(__file__).parent / "candidates.py"


@pytest.mark.slow
@pytest.mark.parametrize("cluster", ["local", "slurm"], indirect=True)
def test_candidates_are_evaluated_at_the_same_time(cluster: Cluster) -> None:
    env = {"PYTHONPATH": tiny.path(), "OMP_NUM_THREADS": "1"}
    versions = cluster.run(sys.executable, str(CANDIDATES), "4", "4", **env).stdout.split()
    done = cluster.noria(
        "models", "evaluate", "candidates", *versions, "--held-out", "held_out.npz", "--on", cluster.on, "--json", **env
    )
    found = json.loads(done.stdout)["evaluations"]
    assert [each["metrics"]["accuracy"] for each in found] == [1.0, 1.0]
    first, second = (next(job for job in cluster.jobs().values() if job["run_id"] == each["run_id"]) for each in found)
    assert {first["spec"]["scheduler"], second["spec"]["scheduler"]} == {cluster.on}
    if cluster.ranks(1, 2) > 1:
        assert max(first["started"], second["started"]) < min(first["ended"], second["ended"])
    verified = cluster.noria("models", "verify", f"candidates/{versions[0]}", "--on", cluster.on, **env)
    assert "equal" in verified.stderr.splitlines()[-1]
