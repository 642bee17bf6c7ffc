"""What our dialects ask of a scheduler, a sandbox answers: its queues and nodes, while a job is on them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from noria import process, sandbox
from noria.jobs.dialect import SCHEDULERS
from tests.conftest import until

TWO = {
    "slurm": ["sbatch", "-N2", "-c3", "--gres=gpu:1", "job.sh"],
    "pbs": ["qsub", "-l", "select=2:ncpus=3:ngpus=1", "--", "/bin/sleep", "60"],
    "sge": ["qsub", "-pe", "ppn2", "4", "-l", "gpu=0.5", "job.sh"],
}


WITHOUT = {
    "slurm": ["sbatch", "--exclude=127.0.0.[1-2]", "job.sh"],
    "sge": ["qsub", "-l", "hostname=!(127.0.0.1|127.0.0.2)", "job.sh"],
}


@pytest.mark.parametrize("kind", WITHOUT)
def test_nodes_left_out_stay_free(kind: str, tmp_path: Path) -> None:
    env = os.environ | sandbox.open_(tmp_path / "box", kind)
    dialect: Any = SCHEDULERS.get(kind)
    (tmp_path / "job.sh").write_text("#!/bin/bash\nsleep 60\n")
    try:
        assert process.run(WITHOUT[kind], env=env, cwd=str(tmp_path)).code == 0
        free = [node.free_cpus for node in dialect.nodes(process.run(dialect.NODES, env=env))]
        assert free == [4, 4, 3, 4]
    finally:
        sandbox.end(tmp_path / "box")


@pytest.mark.parametrize("kind", sandbox.KINDS)
def test_queues_and_nodes(kind: str, tmp_path: Path) -> None:
    env = os.environ | sandbox.open_(tmp_path / "box", kind)
    dialect: Any = SCHEDULERS.get(kind)
    (tmp_path / "job.sh").write_text("#!/bin/bash\nsleep 60\n")

    def run(argv: Sequence[str]) -> process.Answer:
        return process.run(argv, env=env, cwd=str(tmp_path))

    try:
        assert run(dialect.PROBE).code == 0 and isinstance(dialect.learn(run), dict)
        assert run(TWO[kind]).code == 0
        each = 2 if kind == "sge" else 3
        nodes = until(lambda: (found := dialect.nodes(run(dialect.NODES))) and found[0].free_cpus < 4 and found)
        assert [(node.name, node.cpus, node.free_cpus) for node in nodes] == [
            (f"127.0.0.{number}", 4, 4 - each if number < 3 else 4) for number in range(1, 5)
        ]
        assert [node.free_gpus for node in nodes] == [1, 1, 2, 2]
        first = dialect.queues(run(dialect.QUEUES))[0]
        assert first.state == "up" and (first.running == 1 if kind == "pbs" else first.free_cpus == 16 - 2 * each)
    finally:
        sandbox.end(tmp_path / "box")
