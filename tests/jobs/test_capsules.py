"""A job is done again where jobs run: on real clusters, whose nodes reach no server."""

from __future__ import annotations

import json
import sys

import pytest

from tests.clusters.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

CODE = """\
import random, noria
random.seed(1)
for step in range(30):
    noria.log(loss=random.random(), step=step)
"""


@pytest.mark.parametrize("cluster", ["local", "slurm", "sge"], indirect=True, scope="session")
def test_a_job_again_is_the_same(cluster: Cluster) -> None:
    on = {"NORIA_CAPSULES": "true"}
    cluster.run("sh", "-c", f"mkdir -p again && cat > again/train.py <<'END'\n{CODE}END")
    words = (
        "submit",
        "--json",
        "--on",
        cluster.on,
        "--name",
        "again",
        "--",
        "sh",
        "-c",
        f"cd again && {sys.executable} train.py",
    )
    job = json.loads(cluster.noria(*words, **on).stdout)
    cluster.noria("wait", job["id"])
    capsule = json.loads(cluster.noria("runs", "capsule", job["run_id"], "--json").stdout)
    assert capsule["spec"]["scheduler"] == cluster.on and capsule["software"]["python"] == sys.executable
    found = json.loads(cluster.noria("rerun", job["run_id"], "--compare", "--json", **on).stdout)
    assert found["same"] and found["metrics"][0]["points"] == 30 and found["job"]["spec"]["scheduler"] == cluster.on
