"""Jobs that are stopped and go on, everywhere: the same steps with the same losses as if nothing had been."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from noria.jobs.folder import Exit, Folder
from tests.clusters.cluster import Cluster, Emulated

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SCRIPT = str(Path(__file__).parent / "goes_on.py")
real = pytest.mark.parametrize("cluster", ["local", "slurm", "sge"], indirect=True, scope="session")
"""Where jobs really end; the sandboxes show the same, at the price of minutes."""
several_nodes = pytest.mark.parametrize("cluster", ["slurm", "sge"], indirect=True, scope="session")


def losses(steps: int) -> list[float]:
    """What an undisturbed training logs."""
    w, found = 1, []
    for step in range(steps):
        w = (w * 1103515245 + 12345 + step) % 2147483648
        found.append(w / 2147483648)
    return found


def train(cluster: Cluster, steps: int, *options: str, pause: float = 0.05) -> str:
    return cluster.submit("--no-check", *options, "--", sys.executable, SCRIPT, str(steps), str(pause))


def history(cluster: Cluster, run_id: str) -> list[tuple[int, float]]:
    shown = cluster.noria("runs", "show", run_id, "--history", "loss", "--json").stdout
    return [(point["step"], point["value"]) for point in json.loads(shown)["history"]["loss"]]


def as_if_nothing_had_been(cluster: Cluster, job_id: str, steps: int, seconds: float = 150) -> list[Exit]:
    """Its tries, once it has ended well."""
    (job,) = cluster.ended(job_id, seconds=seconds)
    assert (job["state"], job["exit_code"]) == ("COMPLETED", 0), (job, cluster.printed(job_id))
    assert history(cluster, job["run_id"]) == [*enumerate(losses(steps))]
    return Folder(cluster.folder(job_id)).tries()


def saves(cluster: Cluster, job_id: str, attempt: int = 1) -> None:
    """Wait until this try has left a checkpoint."""
    cluster.until(lambda: Folder(cluster.folder(job_id)).saved(attempt), [job_id])


@real
def test_a_preempted_job_goes_on_without_losing_a_step(cluster: Cluster) -> None:
    job = train(cluster, 150)
    cluster.reaches("RUNNING", job)
    saves(cluster, job)
    cluster.noria("drill", job, "preempt")
    first, second = as_if_nothing_had_been(cluster, job, 150)
    assert (first.cause, first.code, first.saved, second.cause) == ("preempted", 75, True, "done")
    said = cluster.logs(job).splitlines()
    left = next(int(line.split()[5].rstrip(";")) for line in said if "told to stop" in line)
    assert f"try 2 goes on from step {left + 1} on " in "\n".join(said)


@real
def test_a_time_limit_is_no_end(cluster: Cluster) -> None:
    job = train(cluster, 240, "--time", "8s")
    tries = as_if_nothing_had_been(cluster, job, 240)
    assert len(tries) >= 2 and {each.cause for each in tries[:-1]} == {"time_limit"}


@real
def test_what_a_program_does_wrong_is_not_done_again(cluster: Cluster) -> None:
    code = "import noria\nnoria.resume()\nnoria.checkpoint({}, step=0, every=0)\n{}['none']"
    job = cluster.submit("--max-restarts", "3", "--", sys.executable, "-c", code)
    (ended,) = cluster.ended(job)
    assert (ended["state"], ended["exit_code"]) == ("FAILED", 1)
    assert [(each.cause, each.attempt) for each in Folder(cluster.folder(job)).tries()] == [("user_error", 1)]


@pytest.mark.parametrize("cluster", ["local"], indirect=True, scope="session")
@pytest.mark.parametrize("who", ["rank", "launcher"])
def test_what_is_killed_goes_on_from_its_checkpoint(cluster: Cluster, who: str) -> None:
    job = train(cluster, 120)
    cluster.reaches("RUNNING", job)
    saves(cluster, job)
    started = Folder(cluster.folder(job)).started()
    assert started is not None
    os.kill(started.pid if who == "launcher" else started.tasks[0].pid, signal.SIGKILL)
    tries = as_if_nothing_had_been(cluster, job, 120)
    assert [each.cause for each in tries] == ["killed", "done"]


@pytest.mark.parametrize("cluster", ["local"], indirect=True, scope="session")
def test_a_torn_checkpoint_costs_what_came_after_the_one_before(cluster: Cluster) -> None:
    job = train(cluster, 120, "--max-restarts", "1")
    cluster.reaches("RUNNING", job)
    folder = Folder(cluster.folder(job))
    cluster.until(lambda: len([*folder.checkpoints.glob("step-*")]) > 1, [job])
    started = folder.started()
    assert started is not None
    os.kill(started.tasks[0].pid, signal.SIGSTOP)
    newest = max(folder.checkpoints.glob("step-*"))
    newest.write_bytes(newest.read_bytes()[:-7])
    os.kill(started.tasks[0].pid, signal.SIGKILL)
    as_if_nothing_had_been(cluster, job, 120)
    assert "is damaged (its content does not match its checksum) and is passed over" in cluster.logs(job)


@pytest.mark.parametrize("cluster", ["local"], indirect=True, scope="session")
def test_a_task_that_stands_still_is_started_again_and_says_where_it_was(cluster: Cluster) -> None:
    job = train(cluster, 100, "--hang", "4s")
    cluster.reaches("RUNNING", job)
    saves(cluster, job)
    folder = Folder(cluster.folder(job))
    started = folder.started()
    assert started is not None
    os.kill(started.tasks[0].pid, signal.SIGSTOP)
    first, _ = as_if_nothing_had_been(cluster, job, 100)
    assert (first.cause, first.rank) == ("hang", 0) and first.reason.startswith("no step for ")
    assert "stopped" in (folder.stacks / "rank0.txt").read_text()


def _dies(cluster: Emulated, job: str, node: str) -> dict[str, Any]:
    """Stop all processes of a node, as if its power was cut. What had been one of ours."""
    cluster.stop(node)
    began = time.monotonic()
    cluster.until(lambda: len(Folder(cluster.folder(job)).tries()) > 0, [job], seconds=180)
    return {"noticed": time.monotonic() - began}


@several_nodes
def test_a_node_that_dies_without_a_word(cluster: Emulated) -> None:
    job = train(cluster, 300)
    cluster.reaches("RUNNING", job)
    saves(cluster, job)
    (node,) = Folder(cluster.folder(job)).nodes()
    try:
        _dies(cluster, job, node.host)
        first, *_, last = as_if_nothing_had_been(cluster, job, 300, seconds=200)
    finally:
        cluster.start(node.host)
    assert (first.cause, first.host) == ("node_failure", node.host)
    assert last.nodes != [node.host]


@pytest.mark.parametrize("cluster", ["slurm"], indirect=True, scope="session")
def test_a_node_that_was_taken_for_dead_writes_no_more(cluster: Emulated) -> None:
    job = train(cluster, 1100)
    cluster.reaches("RUNNING", job)
    saves(cluster, job)
    (node,) = Folder(cluster.folder(job)).nodes()
    cluster.root("pkill", "-KILL", "-f", f"slurmd -N {node.host}")
    try:
        first, *_ = as_if_nothing_had_been(cluster, job, 1100, seconds=200)
        assert (first.cause, first.host) == ("node_failure", node.host)
        assert "has been replaced by another one, and stops" in cluster.printed(job)["scheduler.log"]
    finally:
        cluster.start(node.host)


@pytest.mark.parametrize("cluster", ["slurm"], indirect=True, scope="session")
def test_what_slurm_preempts_goes_on_when_the_other_is_done(cluster: Emulated) -> None:
    job = train(cluster, 200, "--queue", "low")
    cluster.reaches("RUNNING", job)
    saves(cluster, job)
    urgent = cluster.submit(*cluster.full(), "--", "sleep", "3")
    first, *_ = as_if_nothing_had_been(cluster, job, 200, seconds=120)
    assert (first.cause, first.code, first.saved) == ("preempted", 75, True)
    assert cluster.ended(urgent)[0]["state"] == "COMPLETED"
    assert "#SBATCH --no-requeue" in (cluster.folder(job) / "job.sh").read_text()


@several_nodes
@pytest.mark.parametrize("trouble", ["preempt", "timeout", "node-failure"])
def test_two_nodes_go_on_together(cluster: Emulated, trouble: str) -> None:
    job = train(cluster, 200, "--nodes", "2", "--time", "10m")
    cluster.reaches("RUNNING", job)
    saves(cluster, job)
    cluster.noria("drill", job, trouble)
    first, *_ = as_if_nothing_had_been(cluster, job, 200, seconds=150)
    causes = {"preempt": ["preempted"], "timeout": ["time_limit"], "node-failure": ["node_failure", "killed"]}
    assert first.cause in causes[trouble]  # Grid Engine ends a job whose launcher is killed on one node, before that is missed.
    assert len({line.split()[-1] for line in cluster.logs(job).splitlines() if "try 2 goes on" in line}) == 2
