"""The same jobs everywhere: on this machine, on a real Slurm, on a real Grid Engine and in the sandboxes, through the command line.

What is short is submitted at once and looked at by one test each; what disturbs others comes after it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import noria
from noria.jobs import avoid
from noria.jobs.folder import Folder
from tests.clusters.cluster import PLACES, Cluster
from tests.conftest import require, which

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

BARE = os.path.realpath(sys.executable)
"""A Python without Noria."""
SHORT = {
    "0": (sys.executable, "-c", "print('hello')"),
    "1": (sys.executable, "-c", "raise ValueError('too bad')"),
    "9": ("sh", "-c", "exit 9"),
    "signal": ("sh", "-c", "kill -SEGV $$"),
    "shell": ("sh", "-c", 'echo "$((6 * 7))" "$NORIA_JOB_ID" "$(pwd)"'),
    "missing": ("/no/such/python", "train.py"),
    "logs": (BARE, "-c", "import noria\nfor i in range(5): noria.log(x=i / 2, step=i)\nprint(noria.__file__)"),
    "limit": (sys.executable, "-c", "import time; print('on', flush=True); time.sleep(100)"),
}
OPTIONS = {"limit": ("--time", "4s")}


several_nodes = pytest.mark.parametrize("cluster", ["slurm", "sge"], indirect=True, scope="session")
"""What needs nodes that are more than this machine."""
schedulers = pytest.mark.parametrize("cluster", [name for name in PLACES if name != "local"], indirect=True, scope="session")
"""What a scheduler does besides."""


@pytest.fixture(scope="module")
def short(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """All short jobs, once they have ended, by name."""
    ids = {name: cluster.submit("--name", name, *OPTIONS.get(name, ()), "--", *argv) for name, argv in SHORT.items()}
    yield dict(zip(ids, cluster.ended(*ids.values(), seconds=100), strict=True))


@pytest.mark.parametrize(("name", "code"), [("0", 0), ("1", 1), ("9", 9), ("signal", 139)])
def test_the_exit_code_comes_back(cluster: Cluster, short: dict[str, Any], name: str, code: int) -> None:
    job = short[name]
    assert (job["exit_code"], job["state"]) == (code, "FAILED" if code else "COMPLETED")
    assert cluster.noria("wait", job["id"], check=False).returncode == code


def test_what_a_failed_task_said_last_is_the_reason(cluster: Cluster, short: dict[str, Any]) -> None:
    said = "rank 0 ended with exit code 1, after saying: ValueError: too bad"
    assert short["1"]["reason"] == said and said in cluster.noria("wait", short["1"]["id"], check=False).stderr


def test_a_plain_shell_script(cluster: Cluster, short: dict[str, Any]) -> None:
    assert cluster.logs(short["shell"]["id"]).split()[:2] == ["42", short["shell"]["id"]]


def test_an_interpreter_that_is_missing(short: dict[str, Any]) -> None:
    assert short["missing"]["exit_code"] == 127
    assert short["missing"]["reason"] == "cannot start /no/such/python: No such file or directory"


def test_a_python_without_noria_logs(cluster: Cluster, short: dict[str, Any]) -> None:
    assert "/.lib/noria/noria/__init__.py" in cluster.logs(short["logs"]["id"])
    assert cluster.history(short["logs"]["run_id"], "x") == [0, 0.5, 1, 1.5, 2]


def test_the_time_limit_ends_a_job_and_is_named(short: dict[str, Any]) -> None:
    job = short["limit"]
    assert (job["state"], job["exit_code"], job["reason"]) == ("FAILED", 143, "time limit of 4 s reached")
    assert 3.5 <= (job["ended"] - job["started"]) / 1000 < 15


def test_what_each_task_was_is_kept(cluster: Cluster, short: dict[str, Any]) -> None:
    (node,) = Folder(cluster.folder(short["1"]["id"])).nodes()
    (rank,) = node.ranks
    assert (rank.rank, rank.code, rank.last[-1]) == (0, 1, "ValueError: too bad")
    assert rank.ended is not None and rank.started <= rank.ended <= node.seen
    assert rank.peak is not None and 5 << 20 < rank.peak < 1 << 30


def test_cancel_what_runs_and_what_waits(cluster: Cluster) -> None:
    whole = cluster.full()
    running = cluster.submit(*whole, "--", "sleep", "100")
    cluster.reaches("RUNNING", running)
    waiting = cluster.submit(*whole, "--", "echo", "never")
    cluster.reaches("SUBMITTED", waiting)
    cluster.noria("cancel", waiting, running)
    jobs = cluster.ended(running, waiting)
    assert [job["state"] for job in jobs] == ["CANCELLED", "CANCELLED"]
    assert "never" not in cluster.logs(waiting)


def test_the_log_is_followed(cluster: Cluster) -> None:
    code = "import time\nfor i in range(8): print(i, time.time(), flush=True); time.sleep(0.5)"
    job = cluster.python(code)
    told = cluster.run(sys.executable, "-c", FOLLOW, job).stdout.splitlines()
    printed = [line.split() for line in told]
    assert [number for number, _, _ in printed] == [str(number) for number in range(8)]
    assert all(float(seen) - float(said) < 2 for _, said, seen in printed[1:]), "lines come while the job runs"


FOLLOW = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-m", "noria.cli.main", "logs", "-f", sys.argv[1]], stdout=subprocess.PIPE, text=True)
for line in child.stdout: print(line.strip(), time.time())
sys.exit(child.wait())
"""


@several_nodes
def test_a_script_of_its_own_is_run_as_it_is(cluster: Cluster) -> None:
    (cluster.home / "train.sh").write_text(cluster.script_of_its_own)
    job = json.loads(cluster.noria("submit", "--json", "./train.sh").stdout)["id"]
    (ended,) = cluster.ended(job)
    assert ended["state"] == "COMPLETED", cluster.printed(job)
    lines = cluster.logs(job).split()
    assert len(lines) == 4 and sorted(lines.count(line) for line in set(lines)) == [2, 2]


@schedulers
def test_on_a_login_node_nothing_needs_to_be_said(cluster: Cluster) -> None:
    job = json.loads(cluster.noria("submit", "--json", "--nodes", "2", "--", "hostname", NORIA_ON="").stdout)
    (ended,) = cluster.ended(job["id"])
    assert (job["spec"]["scheduler"], ended["state"]) == (cluster.on, "COMPLETED")
    assert len({node.host for node in Folder(cluster.folder(job["id"])).nodes()}) == 2


@pytest.mark.parametrize("cluster", ["slurm", "sge", "slurm-sandbox", "sge-sandbox"], indirect=True, scope="session")
def test_a_node_that_is_left_out_gets_nothing(cluster: Cluster) -> None:
    *others, last = [node["name"] for node in json.loads(cluster.noria("nodes", "--on", cluster.on, "--json").stdout)["nodes"]]
    job = cluster.submit("--exclude", ",".join(others), "--", "true")
    (ended,) = cluster.ended(job)
    assert ended["state"] == "COMPLETED", f"{ended['reason']}\n{cluster.printed(job)}"
    assert [node.host for node in Folder(cluster.folder(job)).nodes()] == [last]


@pytest.mark.parametrize("cluster", ["slurm", "slurm-sandbox", "sge-sandbox"], indirect=True, scope="session")
def test_a_job_is_kept_from_a_node_that_jobs_of_others_failed_on(cluster: Cluster) -> None:
    first = json.loads(cluster.noria("nodes", "--on", cluster.on, "--json").stdout)["nodes"][0]["name"]
    cluster.run(sys.executable, "-c", BLAME, cluster.on, first)
    time.sleep(avoid._FRESH)  # An agent that has just asked does not ask again.
    try:
        job = cluster.submit("--", "true")
        cluster.ended(job)
        (node,) = Folder(cluster.folder(job)).nodes()
        assert node.host != first
        assert f"{first}*" in cluster.noria("cluster", "suspects").stdout
    finally:
        cluster.noria("cluster", "forgive", first)


BLAME = """
import sys, time
from noria.cli.local import connect
from noria.errors import BadNode
from noria.types import JobSpec, Try
from noria.wire import jobs
server, now, node = connect(), int(time.time() * 1000), sys.argv[2]
job = server.call(jobs.SUBMIT, jobs.Submit(JobSpec(["true"], scheduler=sys.argv[1]), "bob")).job
tried = [Try(1, "bad_node", now, nodes=[node], host=node, reason=f"{node} {BadNode.SAYS}: its memory lies.")]
server.call(jobs.REPORT, jobs.Report(job.id, "FAILED", ended=now, tried=tried))
"""


@schedulers
def test_a_submission_that_is_refused_says_why(cluster: Cluster) -> None:
    options, words = cluster.refused
    job = cluster.submit(*options, "--", "true")
    (ended,) = cluster.ended(job)
    assert ended["state"] == "FAILED" and words in ended["reason"] and "\n" not in ended["reason"]
    assert ended["reason"][:40] in cluster.noria("ps").stdout


def settings(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("--set", pair)]


def test_two_nodes_with_four_ranks_train_one_model(cluster: Cluster) -> None:
    training = (sys.executable, "-m", "noria", "train", "digits", *settings("epochs=2", "max_examples=1024", "width=8"))
    job = cluster.submit(*cluster.over(2, 2), "--", *training)
    (ended,) = cluster.ended(job, seconds=120)
    assert ended["state"] == "COMPLETED", cluster.printed(job)
    losses = cluster.history(ended["run_id"], "loss")
    assert len(losses) > 10 and losses[-1] < losses[0]
    nodes = Folder(cluster.folder(job)).nodes()
    assert [rank.rank for node in nodes for rank in node.ranks] == list(range(cluster.ranks(2, 2)))
    assert len({node.host for node in nodes}) == min(2, cluster.nodes)


def test_a_task_starts_when_every_node_has_its_copy(cluster: Cluster) -> None:
    staged = f"{Path(noria.__file__).parent / 'wire'}:data"
    code = "import os; print(*sorted(os.listdir(os.environ['NORIA_STAGE_DATA']))[:1], os.path.isdir(os.environ['NORIA_SCRATCH']))"
    job = cluster.submit(*cluster.over(2, 1), "--stage", staged, "--", sys.executable, "-c", code)
    (ended,) = cluster.ended(job)
    assert ended["exit_code"] == 0 and sorted(cluster.logs(job).splitlines()) == [f"[{rank}] __init__.py True" for rank in (0, 1)]
    ready = sorted(path.name for path in cluster.folder(job).glob("ready-*"))
    assert ready == ([] if ended["spec"]["nodes"] == 1 else ["ready-0", "ready-1"])


@pytest.mark.parametrize("cluster", ["slurm-sandbox"], indirect=True, scope="session")
def test_no_task_starts_when_one_node_has_no_room_for_its_copy(cluster: Cluster) -> None:
    (cluster.home / "disks/0").mkdir(parents=True)
    settings = cluster.home / "noria.toml"
    settings.write_text(f"[profiles.slurm.site]\nscratch = '{cluster.home}/disks/$SLURM_NODEID'\n")
    job = cluster.submit("--nodes", "2", "--stage", f"{Path(noria.__file__).parent / 'wire'}:data", "--", "touch", "started")
    settings.unlink()
    (ended,) = cluster.ended(job)
    assert ended["exit_code"] == 127 and ended["reason"].startswith("the job cannot start: ")
    assert f"has no {cluster.home}/disks/1 that can be written to" in ended["reason"]
    assert not (cluster.home / "started").exists()


def test_sound_nodes_are_checked_and_the_tasks_start(cluster: Cluster) -> None:
    job = cluster.submit(*cluster.over(2, 1), "--check-nodes", "--", "echo", "started")
    (ended,) = cluster.ended(job)
    assert ended["state"] == "COMPLETED", f"{ended['reason']}\n{cluster.printed(job)}"
    assert "started" in cluster.logs(job) and len([*cluster.folder(job).glob("check-*.json")]) == ended["spec"]["nodes"]
    assert "this node is sound" in (cluster.folder(job) / "logs" / "scheduler.log").read_text()


@pytest.mark.parametrize("cluster", ["slurm", "slurm-sandbox"], indirect=True, scope="session")
def test_a_node_that_computes_wrongly_is_left_and_remembered(cluster: Cluster) -> None:
    lies = cluster.home / "lies"
    lies.mkdir()
    (lies / "sitecustomize.py").write_text(LIES)
    second = json.loads(cluster.noria("nodes", "--on", cluster.on, "--json").stdout)["nodes"][1]["name"]
    (lies / "node").write_text(second)
    lies.chmod(0o755)
    where = "/home/ada/lies" if cluster.on == "slurm" and type(cluster).__name__ == "Slurm" else str(lies)
    nodes = ("--nodes", "2", "--check-nodes", "--env", f"PYTHONPATH={where}")
    job = cluster.submit(*nodes, "--", sys.executable, "-c", "import os; print('on', os.environ['SLURMD_NODENAME'])")
    (ended,) = cluster.ended(job, seconds=100)
    assert (ended["state"], ended["tries"]) == ("COMPLETED", 2), f"{ended['reason']}\n{cluster.printed(job)}"
    assert "on " in cluster.logs(job) and f"on {second}\n" not in cluster.logs(job)
    shown = json.loads(cluster.noria("cluster", "suspects", "--json").stdout)["nodes"]
    cluster.noria("cluster", "forgive", second)
    assert [(each["node"], each["evidence"][0]["cause"], each["avoided"]) for each in shown] == [(second, "bad_node", True)]
    assert f"node {second} is not sound: CPU " in shown[0]["evidence"][0]["reason"]


LIES = """
import hashlib, os
from pathlib import Path
if os.environ.get("SLURMD_NODENAME") == (Path(__file__).parent / "node").read_text():
    hashlib.sha256 = hashlib.sha1
"""


def test_the_rank_that_failed_first_is_named(cluster: Cluster) -> None:
    code = """
import os, sys, time
if os.environ["RANK"] != os.environ["LAST"]: time.sleep(100)
time.sleep(1)
sys.exit("I am the one")
"""
    last = cluster.ranks(2, 2) - 1
    job = cluster.python(code, *cluster.over(2, 2), "--env", f"LAST={last}")
    (ended,) = cluster.ended(job)
    where = f" on {Folder(cluster.folder(job)).nodes()[-1].host}" if cluster.nodes > 1 else ""
    assert ended["reason"] == f"rank {last}{where} ended with exit code 1, after saying: I am the one"
    assert f"rank {last} failed first" in cluster.noria("logs", job).stderr
    assert cluster.logs(f"{job}:{last}") == "I am the one\n"


@pytest.mark.timeout(420)
def test_an_array_of_two_hundred(cluster: Cluster) -> None:
    first = cluster.submit("--array", "1-200", "--", "sh", "-c", "exit $((NORIA_TASK_ID == 42))")
    members = {name for name in cluster.jobs() if name.startswith(first.partition("_")[0])}
    assert len(members) == 200
    ended = {job["id"]: job["state"] for job in cluster.ended(*members, seconds=400)}
    assert [name.partition("_")[2] for name, state in ended.items() if state != "COMPLETED"] == ["42"]


def test_what_waits_is_held_and_released(cluster: Cluster) -> None:
    first = cluster.submit(*cluster.full(), "--", "sleep", "100")
    cluster.reaches("RUNNING", first)
    held = cluster.submit(*cluster.full(), "--", "true")
    cluster.reaches("SUBMITTED", held)
    cluster.noria("hold", held)
    cluster.until(lambda: "held" in cluster.jobs()[held]["reason"].lower(), [held])
    cluster.noria("cancel", first)
    cluster.ended(first)
    assert cluster.jobs()[held]["state"] not in ("RUNNING", "COMPLETED")
    cluster.noria("release", held)
    (job,) = cluster.ended(held)
    assert job["state"] == "COMPLETED"


def test_one_job_after_the_other_and_none_after_a_failure(cluster: Cluster) -> None:
    first = cluster.submit("--", "sleep", "5")  # It still runs when the last of them is submitted.
    second = cluster.submit("--after", first, "--", "false")
    third = cluster.submit("--after", second, "--", "true")
    one, two, three = cluster.ended(first, second, third)
    assert (one["state"], two["state"]) == ("COMPLETED", "FAILED") and one["ended"] <= two["started"]
    assert three["state"] in ("FAILED", "CANCELLED") and three["started"] is None


def test_a_job_is_requeued(cluster: Cluster) -> None:
    code = "import noria, time\nprint('up', flush=True)\ntime.sleep(0 if (noria.job_folder() / 'again').exists() else 100)"
    job = cluster.python(code)
    cluster.reaches("RUNNING", job)
    (cluster.folder(job) / "again").touch()
    cluster.noria("requeue", job)
    (ended,) = cluster.ended(job, seconds=100)
    assert ended["state"] == "COMPLETED" and cluster.logs(job).count("up") == 2


def test_fifty_jobs_at_once(cluster: Cluster) -> None:
    ids = json.loads(cluster.run(sys.executable, "-c", FIFTY, cluster.on).stdout)
    ended = cluster.ended(*ids, seconds=100)
    assert [job["state"] for job in ended] == ["COMPLETED"] * 50
    assert len({job["scheduler_id"] for job in ended}) == 50


FIFTY = """
import json, sys
from noria.cli.local import connect
from noria.process import whoami
from noria.types import JobSpec
from noria.wire import jobs
server, spec = connect(), JobSpec(["true"], scheduler=sys.argv[1])
print(json.dumps([server.call(jobs.SUBMIT, jobs.Submit(spec, whoami())).job.id for _ in range(50)]))
"""


PROGRAMS = Path(__file__).parent.parent / "clusters" / "programs"
FRAMEWORKS = {
    "mpi4py": (2, "ring.py", ("--launcher", "mpi")),
    "tensorflow": (1, "mirrored.py", ()),
    "jax": (1, "psum.py", ()),
}
"""Tasks on each of two nodes, the script, and options."""


@pytest.fixture(scope="module")
def frameworks(cluster: Cluster) -> Iterator[dict[str, Any]]:
    """A job on two nodes with each framework that is installed here, once all have ended, by name."""
    there = [name for name in FRAMEWORKS if find_spec(name)]
    ids = {}
    for name in there:
        tasks, script, options = FRAMEWORKS[name]
        ids[name] = cluster.submit(*cluster.over(2, tasks), *options, "--", sys.executable, str(PROGRAMS / script))
    yield dict(zip(ids, cluster.ended(*ids.values(), seconds=150), strict=True)) if ids else {}


def finished(cluster: Cluster, frameworks: dict[str, Any], name: str) -> Any:
    require(name, name in frameworks, "pip install 'noria[frameworks]'")
    job = frameworks[name]
    assert job["state"] == "COMPLETED", f"{job['reason']}\n{cluster.printed(job['id'])}"
    return job


@several_nodes
def test_nodes_meet_by_the_network_that_leads_to_each_other(cluster: Cluster) -> None:
    job = cluster.submit(*cluster.over(2, 1), "--", "sh", "-c", 'echo "$GLOO_SOCKET_IFNAME" "$NCCL_SOCKET_IFNAME"')
    cluster.ended(job)
    assert cluster.logs(job) == "[0] eth0 =eth0\n[1] eth0 =eth0\n"


@several_nodes
def test_an_mpi4py_program(cluster: Cluster, frameworks: dict[str, Any]) -> None:
    require("openmpi", which("mpirun"), "install the package openmpi-bin")
    job = finished(cluster, frameworks, "mpi4py")
    lines = sorted(line for line in cluster.logs(f"{job['id']}:0").splitlines() if "rank" in line)
    assert [line.split(" on ")[0] for line in lines] == [f"rank {rank} of 4" for rank in range(4)], lines
    assert len({line.split(" on ")[1] for line in lines}) == 2
    assert cluster.history(job["run_id"], "total") == [10]


@several_nodes
def test_tensorflow_trains_on_two_workers(cluster: Cluster, frameworks: dict[str, Any]) -> None:
    job = finished(cluster, frameworks, "tensorflow")
    lines = [line for line in cluster.logs(job["id"]).splitlines() if "] worker" in line]
    assert lines == ["[0] worker 0 of 2: [3.0, 1.0]", "[1] worker 1 of 2: [3.0, 1.0]"]
    losses = cluster.history(job["run_id"], "loss")
    assert len(losses) == 40 and losses[-1] < losses[0] / 100


@several_nodes
def test_jax_finds_its_coordinator(cluster: Cluster, frameworks: dict[str, Any]) -> None:
    job = finished(cluster, frameworks, "jax")
    lines = [line for line in cluster.logs(job["id"]).splitlines() if "process" in line]
    assert lines == ["[0] process 0 of 2: 3", "[1] process 1 of 2: 3"]


def test_an_openmp_program_has_the_threads_that_it_asked_for(cluster: Cluster) -> None:
    require("gcc", which("gcc"), "install the package gcc")
    (cluster.home / "threads.c").write_text((PROGRAMS / "threads.c").read_text())
    cluster.run("gcc", "-O2", "-fopenmp", "threads.c", "-o", "threads")
    job = cluster.submit(*cluster.over(2, 1), "--cpus", "1", "--env", "OMP_NUM_THREADS=2", "--", "./threads")
    (ended,) = cluster.ended(job)
    assert ended["state"] == "COMPLETED", cluster.printed(job)
    lines = cluster.logs(job).splitlines()
    assert len(lines) == 2 and all("2 threads on" in line and line.endswith(": 500000500000") for line in lines)
