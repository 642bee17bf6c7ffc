"""`noria why`: what it says of jobs that fail, wait, stand still and are slow, here and on real schedulers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from noria.jobs.dialect import Node, Other, Wait
from noria.jobs.folder import Node as Beat
from noria.jobs.folder import Rank
from noria.jobs.schedulers import pbs, sge, slurm
from noria.jobs.why import pending, slow, stuck
from noria.jobs.why.stuck import Pace
from noria.process import Answer
from noria.types import Job, JobSpec
from tests.clusters.cluster import Cluster
from tests.conftest import until

Noria = Callable[..., subprocess.CompletedProcess[str]]
ALL = str(len(os.sched_getaffinity(0)))


def submit(noria: Noria, *words: str) -> str:
    return str(json.loads(noria("submit", "--json", *words).stdout)["id"])


def why(noria: Noria, job: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(noria("why", job, "--json").stdout)
    return found


def job(**asked: Any) -> Job:
    return Job("1f2e3d4c5b6a", "9c", JobSpec(["python"], **asked), "SUBMITTED", "ada", 0, scheduler_id="5")


# ---- through the front door


def test_a_failed_job_says_which_rank_why_and_what_to_change(noria: Noria) -> None:
    code = "import os, time\nif os.environ['RANK'] == '1': raise MemoryError\ntime.sleep(20)"
    failed = submit(noria, "--tasks-per-node", "2", "--", sys.executable, "-c", code)
    noria("wait", failed, check=False)
    said = why(noria, failed)
    assert (said["kind"], said["cause"], said["rank"]) == ("failed", "out_of_memory", 1)
    assert "rank1.log: MemoryError" in said["evidence"] and "--mem" in said["cure"]
    told = noria("why", failed).stdout
    assert "failed (out of memory)" in told and "Rank 1: " in told and "rank1.log: MemoryError" in told


def test_a_program_that_is_not_there_is_a_missing_file(noria: Noria) -> None:
    absent = submit(noria, "--no-check", "--", "/no/such/python", "train.py")
    noria("wait", absent, check=False)
    said = why(noria, absent)
    assert (said["kind"], said["cause"]) == ("failed", "missing_file") and "/no/such/python" in said["reason"]


def test_a_good_job_and_one_that_was_cancelled(noria: Noria) -> None:
    good = submit(noria, "--", "true")
    noria("wait", good)
    assert why(noria, good)["kind"] == "done"
    ended = submit(noria, "--", "sleep", "60")
    noria("cancel", ended)
    noria("wait", ended, check=False)
    assert why(noria, ended)["kind"] == "cancelled"


def test_what_was_told_of_a_job_stays_true_without_its_folder(noria: Noria) -> None:
    good, bad = (
        submit(noria, "--", "true"),
        submit(noria, "--", sys.executable, "-c", "raise OSError(28, 'No space left on device')"),
    )
    for each in (good, bad):
        noria("wait", each, check=False)
        shutil.rmtree(json.loads(noria("ps", each, "--json").stdout)["jobs"][0]["folder"])
    assert why(noria, good)["kind"] == "done"
    said = why(noria, bad)
    assert (
        (said["kind"], said["cause"]) == ("failed", "disk_full")
        and said["reason"] == "A file system was full."
        and "room" in said["cure"]
    )
    assert "is gone" in said["evidence"][0]


def test_a_job_whose_forerunner_failed_says_so(noria: Noria) -> None:
    first = submit(noria, "--", "sh", "-c", "sleep 3; exit 1")
    second = submit(noria, "--after", first, "--", "true")
    noria("wait", second, check=False)
    said = why(noria, second)
    assert said["kind"] == "cancelled" and first[:8] in said["reason"] and "launcher" not in said["reason"]


def test_a_job_that_waits_says_who_runs_and_what_for(noria: Noria) -> None:
    full = submit(noria, "--name", "large", "--cpus", ALL, "--time", "10m", "--", "sleep", "60")
    until(lambda: why(noria, full)["state"] == "RUNNING")
    first, second, held = (submit(noria, "--", "true") for _ in range(3))
    until(lambda: all(why(noria, each)["state"] == "SUBMITTED" for each in (first, second, held)))
    noria("hold", held)
    one, two = why(noria, first), why(noria, second)
    assert one["kind"] == "waiting" and one["reason"] == "Waits until enough of this machine is free."
    assert [(each["id"], each["name"], each["cpus"]) for each in one["others"]] == [(full, "large", int(ALL))]
    assert 0 < one["others"][0]["left"] <= 600
    assert [each["id"] for each in two["others"]] == [full, first] and "before it in the queue: 1 job" in two["evidence"][-1]
    until(lambda: why(noria, held)["kind"] == "held")
    noria("cancel", full, first, second, held)


STUCK = """
import faulthandler, os, pathlib, time
def all_reduce(): time.sleep(60)
def load(): time.sleep(60)
folder = pathlib.Path(os.environ["NORIA_JOB_FOLDER"]) / "stacks"
folder.mkdir(exist_ok=True)
rank = os.environ["RANK"]
file = open(folder / f"rank{rank}.txt", "w")
faulthandler.dump_traceback_later(0.3, file=file)
(load if rank == "1" else all_reduce)()
"""


def test_a_job_that_stands_still_names_the_rank_that_is_elsewhere(noria: Noria, tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(STUCK)
    still = submit(noria, "--tasks-per-node", "2", "--", sys.executable, str(tmp_path / "stuck.py"))
    until(lambda: len(why(noria, still)["evidence"]) == 2)
    said = why(noria, still)
    assert (said["kind"], said["cause"], said["rank"]) == ("stuck", "hang", 1)
    assert "in load (stuck.py:4), and 1 other waits for it" in said["reason"]
    noria("cancel", still)


def test_a_job_that_is_slow_says_where_the_time_goes(noria: Noria) -> None:
    code = (
        "import noria, time\nfor i in range(3):\n"
        "    noria.log(step=i, **{'time/data': 0.3, 'time/compute': 0.1, 'time/checkpoint': 0.1})\ntime.sleep(60)"
    )
    slow = submit(noria, "--", sys.executable, "-c", code)
    until(lambda: why(noria, slow)["kind"] == "slow")
    said = why(noria, slow)
    assert {what: round(share, 2) for what, share in said["shares"].items()} == {"data": 0.6, "compute": 0.2, "checkpoint": 0.2}
    assert "60% of a step goes to waiting for data" in said["reason"] and "--cpus" in said["cure"]
    noria("cancel", slow)


def test_what_is_logged_seldom_is_found_among_much(noria: Noria) -> None:
    code = (
        "import noria, time\nfor i in range(3000):\n    noria.log(step=i, **{'time/compute': 0.5})\n"
        "    if i % 1000 == 999: noria.log(step=i, **{'time/checkpoint': 10.0})\ntime.sleep(60)"
    )
    fine = submit(noria, "--", sys.executable, "-c", code)
    until(lambda: why(noria, fine)["shares"].get("checkpoint"))
    said = why(noria, fine)
    assert said["kind"] == "running" and "time/checkpoint: 0.01 s of a step, 2%" in said["evidence"]
    noria("cancel", fine)


# ---- what schedulers answer

SHOWN = (
    "JobId=5 JobName=two UserId=ada(1003) Priority=4294901755 Nice=0 Account=research QOS=normal JobState=PENDING "
    "Reason={reason} Dependency=(null) Partition=main NumNodes=1-1 NumCPUs=2 TRES=cpu=2,mem=200M,node=1,billing=2 Socks/Node=* \n"
)
ROWS = """5|PENDING|ada|research|normal|main|4294901755|1|2|N/A|10:00|1795284000|two
6|PENDING|bob|research|normal|main|4294901800|2|8|gres:gpu:1|10:00|N/A|first
4|RUNNING|ada|research|normal|main|4294901756|1|2|N/A|9:56|1795283000|one
7|RUNNING|eve|other|normal|gpu|4294901756|2|2|gres:gpu:a100:2|1-00:00:00|1795283000|far
"""
LIMITS = """Current Association Manager state
Association Records
ClusterName=noria Account=research UserName=ada(1003) Partition= ID=7 GrpJobs=N(1) GrpTRES=cpu=N(2),mem=N(200) MaxJobs=1(1) MaxTRESPJ=
QOS Records
QOS=normal(1) UsageRaw=0.0 GrpJobs=N(1) GrpTRES=cpu=N(2),mem=N(200) User Limits= 1003={MaxJobsPU=N(1) MaxTRESPU=cpu=2(2),mem=N(200)}
"""


def slurms(reason: str) -> Wait:
    answers = (SHOWN.format(reason=reason), ROWS, LIMITS, "")
    return slurm.wait("5", [Answer(0, text, "") for text in answers])


def test_slurm_names_the_limit_and_who_is_counted() -> None:
    qos, account = slurms("QOSMaxCpuPerUserLimit"), slurms("AssocMaxJobsLimit")
    assert "QOS=normal allows cpu 2, and 2 are in use" in qos.words
    assert "Account=research allows MaxJobs 1, and 1 are in use" in account.words
    assert [each.id for each in qos.others] == [each.id for each in account.others] == ["4"]
    assert qos.at == 1795284000_000
    assert slurms("Resources").others == [Other("4", "ada", True, 1, 2, 0, 596, "one", "main")]
    assert [(each.id, each.is_running, each.gpus) for each in slurms("Priority").others] == [("6", False, 2), ("4", True, 0)]
    assert slurms("BadConstraints").is_never
    nothing = slurm.wait("5", [Answer(1, "", "slurm_load_jobs error: Invalid job id specified")] + [Answer(1, "", "")] * 3)
    assert nothing.others == nothing.words == []


QSTAT = """job_number:                 2
scheduling info:            queue instance "all.q@sge1" dropped because it is full
                            queue instance "all.q@sge2" dropped because it is full
                            All queues dropped because of overload or full
"""
LISTED = """<?xml version='1.0'?>
<job_info><queue_info><job_list state="running"><JB_job_number>1</JB_job_number><JB_name>big.noria-e6</JB_name><JB_owner>ada</JB_owner>
<state>r</state><JAT_start_time>2026-11-21T18:19:10</JAT_start_time><slots>16</slots><hard_request name="gpu">0.25</hard_request>
</job_list></queue_info><job_info><job_list state="pending"><JB_job_number>3</JB_job_number><JB_owner>bob</JB_owner><slots>4</slots></job_list>
<job_list state="pending"><JB_job_number>2</JB_job_number><JB_owner>ada</JB_owner><slots>4</slots></job_list></job_info></job_info>
"""


def test_grid_engine_says_what_is_full_and_what_can_never_be() -> None:
    answers = [Answer(0, QSTAT, ""), Answer(0, LISTED, ""), Answer(0, "verification: found possible assignment with 4 slots", "")]
    waits = sge.wait("2", answers)
    assert waits.reason == "Waits for free slots." and "dropped because it is full" in waits.words[0] and not waits.is_never
    assert [(each.id, each.is_running, each.cpus, each.gpus) for each in waits.others] == [("1", True, 16, 4), ("3", False, 4, 0)]
    never = sge.wait("2", [Answer(0, "", ""), Answer(1, "", "down"), Answer(0, "verification: no suitable queues", "")])
    assert never.is_never and never.others == []
    error = "error reason    1:          can't open output file\nscheduling info:            (no information)\n"
    assert "can't open output file" in sge.wait("2", [Answer(0, error, ""), Answer(1, "", ""), Answer(0, "", "")]).reason


PBS = """Job Id: 5.pbs
    Job_Name = two
    Job_Owner = ada@vm
    job_state = Q
    queue = workq
    comment = Not Running: Insufficient amount of resource: ngpus (R: 2 A: 0 T: 4
	)

Job Id: 4.pbs
    Job_Name = one
    Job_Owner = bob@vm
    job_state = R
    queue = workq
    Resource_List.ncpus = 8
    Resource_List.ngpus = 4
    Resource_List.nodect = 2
    Resource_List.walltime = 01:00:00
    resources_used.walltime = 00:50:00

Job Id: 6.pbs
    job_state = Q
    queue = workq
"""


def test_pbs_comments_are_sentences_and_later_jobs_do_not_count() -> None:
    waits = pbs.wait("5.pbs", [Answer(0, PBS, "")])
    assert waits.reason.startswith("Waits until enough is free: ngpus") and not waits.is_never
    assert waits.others == [Other("4.pbs", "bob", True, 2, 8, 4, 600, "one", "workq")]


def test_the_crowd_is_all_that_run_and_those_that_wait_in_their_order() -> None:
    everybody = slurm.crowd(Answer(0, ROWS, ""))
    assert [(each.id, each.is_running, each.gpus, each.left, each.queue) for each in everybody] == [
        ("4", True, 0, 596, "main"), ("7", True, 4, 86_400, "gpu"), ("6", False, 2, 600, "main"), ("5", False, 0, 600, "main")]  # fmt: skip
    assert next((each.id, each.queue) for each in pbs.crowd(Answer(0, PBS, ""))) == ("4.pbs", "workq")
    assert slurm.crowd(Answer(1, "", "not now")) == pbs.crowd(Answer(1, "", "")) == sge.crowd(Answer(1, "", "not now")) == []


# ---- the smallest change


def node(name: str = "n1", *, free_cpus: int = 4, gpus: int = 4, free_gpus: int = 4, state: str = "up") -> Node:
    return Node(name, state, 8, free_cpus, 64 << 30, 32 << 30, gpus, free_gpus)


@pytest.mark.parametrize(
    ("asked", "nodes", "cure"),
    [
        ({"gpus": 4}, [node(free_gpus=2)], "With --gpus 2 it would fit now."),
        ({"gpus": 8}, [node()], "Cancel it and ask for less: no node that is up has 8 GPUs, the largest has 4."),
        ({"nodes": 2}, [node("n1"), node("n2", free_cpus=0)], "With --nodes 1 it would fit now."),
        ({"nodes": 2}, [node("n1"), node("n2", state="drained")], "Cancel it and ask for less: it wants 2 nodes, and 1 are up."),
        ({"mem": 128 << 30}, [node()], "Cancel it and ask for less: no node that is up has 128.0 GiB, the largest has 64.0."),
        ({"cpus": 8}, [node()], "Nothing is wrong with it: it starts when its turn comes."),
    ],
)
def test_the_smallest_change_is_named(asked: dict[str, Any], nodes: list[Node], cure: str) -> None:
    said = pending.explain(job(scheduler="slurm", time=60, **asked), Wait("Next in line."), nodes, start=7)
    assert (said.cure, said.start) == (cure, 7)


def test_no_less_is_named_where_all_fits_and_no_node_that_it_may_not_have() -> None:
    others = [Other("6", "bob", False, 1, 8)]
    said = pending.explain(job(scheduler="slurm", time=60, gpus=4), Wait("Priority.", others=others), [node()])
    assert said.cure == "It would fit now, but others come first: a shorter --time may let it go between them."
    two = [replace(node("n1"), queues=["a"]), replace(node("n2", free_gpus=1), queues=["b"])]
    assert "With --gpus 1 " in pending.explain(job(gpus=4, queue="b"), Wait(""), two).cure
    assert "With --gpus 1 " in pending.explain(job(gpus=4, exclude=["n1"]), Wait(""), two).cure
    assert "With" not in pending.explain(job(scheduler="slurm", gpus=4), Wait(""), two).cure


# ---- standing still, and time


def beat(seen: float, *hosts: str) -> list[Beat]:
    return [Beat(i, host, 1, int(seen * 1000), [Rank(i, 1, 0)]) for i, host in enumerate(hosts)]


def pace(last: int, at: float) -> Pace:
    return Pace([(last - 2, at - 2), (last - 1, at - 1), (last, at)])


def test_who_waits_for_whom() -> None:
    behind = stuck.explain(job(nodes=2), beat(995, "n1", "n2"), {0: pace(10, 900), 1: pace(9, 899)}, {}, 1000)
    assert behind is not None and (behind.rank, behind.host) == (1, "n2") and "is behind, at step 9 of 10" in behind.reason
    quiet = stuck.explain(job(nodes=2), beat(700, "n1") + beat(990, "n0", "n2")[1:], {}, {}, 1000)
    assert quiet is not None and (quiet.cause, quiet.host) == ("node_failure", "n1")
    assert stuck.explain(job(), beat(995, "n1"), {0: pace(10, 990)}, {}, 1000) is None
    alone = stuck.explain(job(nodes=2), beat(995, "n1", "n2"), {0: pace(10, 900)}, {}, 1000)
    assert alone is not None and alone.rank is None and "only one rank logs" in alone.reason
    seldom = Pace([(0, 0.0), (1, 400.0), (2, 800.0)])
    assert stuck.explain(job(), beat(995, "n1"), {0: seldom}, {}, 1000) is None
    left = beat(995, "n1", "n2")
    left[0].ranks[0].ended = 5
    gone = stuck.explain(job(nodes=2), left, {0: pace(10, 800), 1: pace(10, 800)}, {}, 1000)
    assert gone is not None and gone.rank == 0 and "has ended already" in gone.reason


PYSPY = """Process 12: python train.py
Python v3.11.7 (/usr/bin/python)

Thread 12 (idle): "MainThread"
    all_reduce (torch/distributed/distributed_c10d.py:2501)
    step (train.py:40)
    <module> (train.py:60)
Thread 15 (idle): "QueueFeeder"
    wait (threading.py:320)
"""


def test_stacks_of_several_tools_are_read() -> None:
    frame = stuck.stack(PYSPY)
    assert frame is not None and frame.where == "all_reduce (distributed_c10d.py:2501)"
    printed = 'Traceback (most recent call last):\n  File "train.py", line 60, in <module>\n  File "train.py", line 12, in load\n'
    frame = stuck.stack(printed)
    assert frame is not None and frame.where == "load (train.py:12)"
    assert stuck.explain(job(), beat(999, "n1"), {0: pace(3, 999)}, {0: PYSPY}, 1000) is None, "it moved on since"
    hung = stuck.explain(job(), beat(999, "n1"), {}, {0: PYSPY, 1: PYSPY, 2: printed}, 1000)
    assert hung is not None and hung.rank == 2


@pytest.mark.parametrize(
    ("metrics", "kind", "word"),
    [
        ({"time/data": [0.1], "time/compute": [0.9]}, "running", "90% of a step is computing"),
        ({"time/communication": [0.5], "time/compute": [0.5]}, "slow", "communicating"),
        ({"system/cpu_utilization_percentage": [95], "system/gpu_0_utilization_percentage": [20]}, "slow", "prepares data"),
        ({"system/cpu_utilization_percentage": [5], "system/gpu_0_utilization_percentage": [20]}, "slow", "waits for a disk"),
        (
            {"system/node_0/cpu_utilization_percentage": [50], "system/node_0/gpu_1_utilization_percentage": [97]},
            "running",
            "97%",
        ),
        ({"system/cpu_utilization_percentage": [3]}, "slow", "waits for something"),
    ],
)
def test_where_the_time_goes(metrics: dict[str, list[float]], kind: str, word: str) -> None:
    said = slow.explain(job(), {key: [*enumerate(values)] for key, values in metrics.items()})
    assert said is not None and said.kind == kind and word in said.reason


def test_a_save_alone_does_not_say_what_a_step_takes() -> None:
    saves: dict[str, list[tuple[int, float]]] = {"time/checkpoint": [(20, 0.01), (40, 0.01)]}
    assert slow.explain(job(), saves) is None
    said = slow.explain(job(), {**saves, "system/cpu_utilization_percentage": [(0, 95.0)]})
    assert said is not None and said.kind == "running" and "computing" in said.reason


def test_a_save_is_shared_by_the_steps_since_the_one_before() -> None:
    steps = {"time/compute": [(step, 0.5) for step in range(2981, 3001)]}
    seldom = slow.explain(job(), {**steps, "time/checkpoint": [(1000, 10.0), (2000, 10.0), (3000, 10.0)]})
    assert seldom is not None and seldom.kind == "running" and round(seldom.shares["checkpoint"], 3) == 0.02
    once = slow.explain(job(), {**steps, "time/checkpoint": [(1000, 10.0)]}, began=980)
    assert once is not None and once.kind == "slow" and round(once.shares["checkpoint"], 3) == 0.5


# ---- real schedulers


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("cluster", ["slurm", "sge"], indirect=True, scope="session")
def test_a_real_scheduler_says_why_a_job_waits(cluster: Cluster) -> None:
    full = cluster.submit("--name", "large", *cluster.full(), "--time", "10m", "--", "sleep", "60")
    cluster.reaches("RUNNING", full)
    waits = cluster.submit("--time", "5m", "--", "true")
    cluster.reaches("SUBMITTED", waits)

    def said() -> Any:
        found = json.loads(cluster.noria("why", waits, "--json").stdout)
        return found if found["others"] and found["evidence"] else None

    found = cluster.until(said, [waits])
    assert found["kind"] == "waiting"
    assert any(each["is_running"] and each["user"] == "ada" and 0 < each["left"] <= 600 for each in found["others"]), found
    assert any(f"it asks for 1 CPU on one node: 0 of {cluster.nodes} nodes" in line for line in found["evidence"]), found
    cluster.noria("cancel", full, waits)
    cluster.ended(full, waits)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("cluster", ["slurm"], indirect=True, scope="session")
def test_a_real_limit_is_named(cluster: Any) -> None:
    cluster.root("sacctmgr", "-i", "modify", "user", "ada", "set", "MaxJobs=1")
    try:
        one = cluster.submit("--", "sleep", "60")
        cluster.reaches("RUNNING", one)
        two = cluster.submit("--", "true")

        def said() -> Any:
            return next(
                (line for line in json.loads(cluster.noria("why", two, "--json").stdout)["evidence"] if "allows MaxJobs" in line),
                "",
            )

        assert cluster.until(said, [two]) == "Account=research allows MaxJobs 1, and 1 are in use"
        cluster.noria("cancel", one, two)
        cluster.ended(one, two)
    finally:
        cluster.root("sacctmgr", "-i", "modify", "user", "ada", "set", "MaxJobs=-1")
