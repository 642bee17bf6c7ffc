"""noria when: from the record and the present state of a queue."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from noria.types import JobSpec
from noria.wire import jobs
from tests.cli.conftest import Ask


def test_what_has_been_waited_before_is_to_be_expected_again(noria: Ask, own_server: Any) -> None:
    first = json.loads(noria("when", "--on", "local", "--json").stdout)["queues"][0]
    assert (first["queue"], first["guess"]["median"], first["guess"]["like"]) == ("local", 0, 0) and first["all"] >= 1
    assert "too few jobs have been here" in noria("when", "--on", "local").stdout
    for number in range(12):
        spec = JobSpec(["true"], agent="nobody", time=2)
        job = own_server.client.call(jobs.SUBMIT, jobs.Submit(spec, "ada")).job
        begin = job.created + 600_000 + number * 1000
        report = jobs.Report(job.id, "COMPLETED", started=begin, ended=begin + 60_000, exit_code=0)
        own_server.client.call(jobs.REPORT, report)
    text = noria("when", "--time", "2s", "--on", "local").stdout
    assert "  in 10m 6s  in 10m 1s – " in text and "in 10m 1s – in 10m 10s" in text and "12 jobs like it" in text


def test_what_no_queue_has_is_said(ask: Ask) -> None:
    assert "No queue here is known to have that many." in ask("when", "--cpus", "100000", "--on", "local").stderr
    assert "'soon' is not a time." in ask("when", "--time", "soon", check=False).stderr
    assert "A job of 0s is over before it starts." in ask("when", "--time", "0s", check=False).stderr


def test_whoever_else_is_on_a_cluster_counts(noria: Ask, tmp_path: Path) -> None:
    """All nodes are taken by a job that Noria does not know, for at most ten minutes; jobs take half of what they ask for."""
    script = tmp_path / "other.sh"
    script.write_text("#!/bin/bash\n#SBATCH -N4 --ntasks-per-node=4\n#SBATCH -t 10\nsleep 60\n")
    said = f"sbatch {script} >&2; until squeue -h -o %T | grep -q RUNNING; do sleep 0.1; done; noria when --on slurm --json --cpus 4 --time 5m"
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    (low, high) = json.loads(noria("sandbox", "slurm", "--", "bash", "-c", said, PATH=path).stdout)["queues"]
    assert (low["queue"], low["free"], low["all"]) == ("low", 0, 16)
    assert all(240 < each["guess"]["planned"] <= 300 for each in (low, high))  # Both have the same nodes.
