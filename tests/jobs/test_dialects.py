"""Every scheduler's dialect: what all have in common, the golden scripts, and answers as real schedulers gave them."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from noria.errors import Invalid, NoriaError, Unavailable
from noria.jobs.dialect import Dialect, Node, Placement, Queue, Seen
from noria.jobs.idioms import HELD, clock, megabytes, plain
from noria.jobs.schedulers import pbs, sge, slurm
from noria.plugins import Kind
from noria.process import Answer
from noria.types import Job, JobSpec

SCHEDULERS: Kind[Dialect] = Kind("noria.jobs.schedulers")
MEMBERS = [
    "CROWD",
    "NODES",
    "PROBE",
    "QUEUES",
    "STOPS",
    "cancel",
    "check",
    "crowd",
    "final",
    "finals",
    "hold",
    "inquiry",
    "learn",
    "nodes",
    "placement",
    "queues",
    "release",
    "query",
    "script",
    "states",
    "submit",
    "submitted",
    "wait",
]
GOLDEN = Path(__file__).parent.parent / "golden"
FOLDER, PYTHON = "/home/ada/.noria/jobs/1f2e", "/opt/noria/bin/python"
CLUSTERS = ["slurm", "pbs", "sge"]


def job(**asked: object) -> Job:
    spec = JobSpec(**{"command": ["python", "train.py"], **asked})  # type: ignore[arg-type]
    return Job(id="1f2e", run_id="9c", spec=spec, state="QUEUED", user="ada", created=0)


CASES = {
    "one_task": (job(name="digits"), FOLDER),
    "two_nodes_gpus": (job(name="resnet", nodes=2, tasks_per_node=2, gpus=2, cpus=4, mem=10 * 2**30 + 1, time=90_061), FOLDER),
    "name_with_spaces": (job(name='7 "big" jobs, 100% mine', cpus=2, time=60), "/home/ada l/my jobs/1f2e"),
    "raw_options": (job(env={"SECRET": "hunter2"}, raw=["-q", "long queue"], gpus=1, cpus=4, mem=2**30), FOLDER),
    "asks": (job(gpus=2, gpu_type="a100", queue="gpu", account="vision", constraint="cpu_type=milan", exclusive=True, cpus=2,
                 nice=100, begin=1_764_600_000_000), FOLDER),
    "script_as_is": (job(name="old", command=["old.sh"], script="#!/bin/bash\n", as_is=True, raw=["-l", "x y"]), FOLDER),
    "script_translated": (job(name="old", command=["old.sh"], script="#!/bin/bash\n", nodes=2, tasks_per_node=4, time=60), FOLDER),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def no_read(path: str) -> str:
    raise AssertionError(f"read {path}")


def no_run(argv: Sequence[str]) -> Answer:
    raise AssertionError(f"ran {argv}")


# ---- every dialect


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_has_all_members_and_a_probe_in_words(name: str) -> None:
    dialect = SCHEDULERS.module(name)
    assert [member for member in MEMBERS if not hasattr(dialect, member)] == []
    assert all(isinstance(word, str) for word in dialect.PROBE) and dialect.PROBE


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_script_starts_the_launcher_and_tells_no_secret(name: str) -> None:
    text = SCHEDULERS.get(name).script(job(env={"SECRET": "hunter2"}), FOLDER, PYTHON)
    assert text.startswith("#!/bin/") and text.endswith("\n")
    assert text.count(f"{PYTHON} -m noria.jobs.launch {FOLDER} 1") == 1
    assert "hunter2" not in text


@pytest.mark.parametrize("name", SCHEDULERS.names())
@pytest.mark.parametrize("case", CASES)
def test_script_is_a_shell_script(name: str, case: str) -> None:
    asked, folder = CASES[case]
    text = SCHEDULERS.get(name).script(asked, folder, "/opt/it's here/python")
    done = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), text


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_commands_are_words_without_a_shell(name: str) -> None:
    dialect, script = SCHEDULERS.get(name), f"{FOLDER}/job.sh"
    submit = dialect.submit(script, replace(job(), folder=FOLDER))
    assert "-c" not in submit and "sh" not in submit
    verbs = [verb(["7", "8"]) for verb in (dialect.cancel, dialect.hold, dialect.release)]
    for argv in (submit, dialect.query("ada"), dialect.final(["7"]) or ["none"], dialect.QUEUES, dialect.NODES, *verbs):
        assert argv and all(isinstance(word, str) and word for word in argv)
    for argv in verbs:
        assert {"7", "8"} <= {part for word in argv for part in word.split(",")}


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_a_failed_query_is_never_an_empty_queue(name: str) -> None:
    with pytest.raises(Unavailable, match="no route"):
        SCHEDULERS.get(name).states(Answer(1, "", "no route to host"))


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_failed_lists_of_queues_and_nodes_are_no_empty_ones(name: str) -> None:
    for read in (SCHEDULERS.get(name).queues, SCHEDULERS.get(name).nodes):
        with pytest.raises(Unavailable, match="no route"):
            read(Answer(1, "", "no route to host"))


@pytest.mark.parametrize("name", SCHEDULERS.names())
def test_a_failed_accounting_query_knows_nothing(name: str) -> None:
    assert SCHEDULERS.get(name).finals(Answer(1, "", "no route to host")) == {}


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.parametrize("asked", [{"nodes": 0}, {"cpus": 0}, {"gpus": -1}, {"tasks_per_node": 0}, {"mem": -1}, {"time": -1}])
def test_check_names_the_flag(name: str, asked: dict[str, int]) -> None:
    (field,) = asked
    with pytest.raises(Invalid, match=f"--{field.replace('_', '-')} "):
        SCHEDULERS.get(name).check(job(**asked).spec)


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_folder_that_no_directive_can_hold_is_refused(name: str) -> None:
    for folder in ("/a\nb", {"slurm": "/a\\b", "pbs": "/a:b", "sge": "/a,b"}[name]):
        with pytest.raises(Invalid, match="Choose another folder"):
            SCHEDULERS.get(name).script(job(), folder, PYTHON)


# ---- golden files: the script, and the submit command as its last line


@pytest.mark.parametrize("name", CLUSTERS)
@pytest.mark.parametrize("case", CASES)
def test_golden(name: str, case: str) -> None:
    asked, folder = CASES[case]
    dialect, golden = SCHEDULERS.get(name), GOLDEN / name / f"{case}.sh"
    text = dialect.script(asked, folder, PYTHON) + f"# {shlex.join(dialect.submit(f'{folder}/job.sh', asked))}\n"
    if not golden.exists():
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
        pytest.fail(f"{golden} was missing and has been written: read it, and keep it if it is right")
    said = f"delete tests/golden/{name}/{case}.sh and run again if this change is meant"
    assert text == golden.read_text(), said


# ---- what dialects share


def test_nodes_left_out_stand_in_the_script_that_people_wrote_too() -> None:
    for as_is in (False, True):
        asked = job(exclude=["n1", "gpu-07.site"], script="#!/bin/bash\n", as_is=as_is)
        assert "#SBATCH --exclude=n1,gpu-07.site\n" in slurm.script(asked, FOLDER, PYTHON)
        assert "#$ -l hostname=!(n1|gpu-07.site)\n" in sge.script(asked, FOLDER, PYTHON)


def test_units_are_rounded_up() -> None:
    assert [megabytes(size) for size in (1, 2**20, 2**20 + 1)] == [1, 1, 2]
    assert [clock(seconds) for seconds in (59, 3600, 90_061)] == ["00:00:59", "01:00:00", "25:01:01"]


def test_plain_names() -> None:
    assert [plain(name) for name in ("a b", "7 up", "../x", "é", "ok-1.2_")] == ["a_b", "up", "x", "", "ok-1.2"]


# ---- Slurm


def test_slurm_submitted() -> None:
    assert slurm.submitted(Answer(0, "123\n", "")) == "123"
    assert slurm.submitted(Answer(0, "sbatch: note: 4 GPUs\n123;noria\n", "")) == "123"


@pytest.mark.parametrize(
    ("name", "answer", "error"),
    [
        ("slurm", "sbatch: error: Unable to contact slurm controller (connect failure)", Unavailable),
        ("slurm", "sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", Unavailable),
        ("slurm", "sbatch: error: QOSMaxSubmitJobPerUserLimit", Unavailable),
        ("slurm", "sbatch: error: invalid partition specified: gpus", Invalid),
        ("slurm", "sbatch: error: Batch job submission failed: Requested node configuration is not available", Invalid),
        ("sge", "error: commlib error: got select error (Connection refused)", Unavailable),
        ("sge", "Unable to run job: unknown queue \"gpus\".\nExiting.", Invalid),
        ("pbs", "qsub: cannot connect to server pbsserver (errno=15010)", Unavailable),
        ("pbs", "qsub: Unknown queue", Invalid),
    ],
)  # fmt: skip
def test_a_refusal_carries_the_words(name: str, answer: str, error: type[NoriaError]) -> None:
    with pytest.raises(error) as raised:
        SCHEDULERS.get(name).submitted(Answer(1, "", answer))
    assert answer.split("\n")[0] in str(raised.value)


@pytest.mark.parametrize("name", CLUSTERS)
def test_no_answer_and_no_id_may_be_tried_again_but_no_command_may_not(name: str) -> None:
    for answer in (Answer(124, "", "no answer within 60 s"), Answer(0, "", "")):
        with pytest.raises(Unavailable):
            SCHEDULERS.get(name).submitted(answer)
    with pytest.raises(Invalid, match="in PATH"):
        SCHEDULERS.get(name).submitted(Answer(127, "", "no such file"))


def test_slurm_states() -> None:
    text = (
        "12_[4-9%4]|PENDING|JobArrayTaskLimit|mine\n3|RUNNING|None|noria-1f2e\n4|COMPLETING|None|noria-2\n"
        "5|PENDING|ReqNodeNotAvail, UnavailableNodes:n[1-2]|noria-3\n6|PENDING|QOSMaxGRESPerUser|a|b\nc\n"
        "7|PENDING|Whatever|(null)\n8|OUT_OF_MEMORY|OutOfMemory|noria-4\n"
    )
    seen = slurm.states(Answer(0, text, ""))
    assert list(seen) == ["12_[4-9%4]", "3", "4", "5", "6", "7", "8"]
    assert seen["3"] == Seen("RUNNING", None, "", "noria-1f2e")
    assert seen["4"].state == "RUNNING"
    assert seen["5"] == Seen("SUBMITTED", None, slurm.PENDING["ReqNodeNotAvail"], "noria-3")
    assert "GPUs" in seen["6"].reason and seen["6"].tag == ""
    assert seen["7"].reason == "Slurm says: Whatever."
    assert (seen["8"].state, seen["8"].exit_code) == ("FAILED", None)
    assert slurm.states(Answer(0, "", "")) == {}
    with pytest.raises(Unavailable):
        slurm.states(Answer(0, "slurm_load_jobs error\n", ""))


@pytest.mark.parametrize(
    ("row", "state", "code"),
    [
        ("COMPLETED|0:0", "COMPLETED", 0),
        ("FAILED|7:0", "FAILED", 7),
        ("FAILED|0:9", "FAILED", 137),
        ("FAILED|0:53", "FAILED", None),
        ("TIMEOUT|0:0", "FAILED", None),
        ("OUT_OF_MEMORY|0:125", "FAILED", 137),
        ("CANCELLED by 1001|0:0", "CANCELLED", None),
        ("NODE_FAIL|0:0", "FAILED", None),
        ("PREEMPTED|0:0", "FAILED", None),
    ],
)
def test_slurm_finals(row: str, state: str, code: int | None) -> None:
    seen = slurm.finals(Answer(0, f"9|{row}\n10|RUNNING|0:0\n10_[0-3%1]|PENDING|0:0\n", ""))
    assert list(seen) == ["9"]
    assert (seen["9"].state, seen["9"].exit_code) == (state, code)
    assert seen["9"].reason or code == 0


def test_slurm_placement() -> None:
    env = {"SLURM_JOB_NODELIST": "n[1-2]", "SLURM_NODEID": "1", "CUDA_VISIBLE_DEVICES": "0,1"}
    named = slurm.placement(env, no_read, lambda argv: Answer(0, f"n1\nn2\n{'' if argv[-1] == 'n[1-2]' else 'wrong'}", ""))
    assert named == Placement(["n1", "n2"], 1, ["0", "1"])
    assert slurm.placement({"SLURM_JOB_NODELIST": "n4"}, no_read, no_run) == Placement(["n4"], 0, None)
    with pytest.raises(Unavailable):
        slurm.placement(env, no_read, lambda argv: Answer(127, "", "no scontrol"))


SINFO = "low*|up|1-00:00:00|1/2/1/4|4/8/4/16\nhigh|up|1:00:00|0/4/0/4|0/16/0/16\nbig|inact|infinite|0/0/2.5K/2.5K|0/0/160K/160K\n"

SHOW_NODE = (
    "NodeName=n1 Arch=x86_64 CoresPerSocket=1  CPUAlloc=3 CPUTot=4 CPULoad=1.20 AvailableFeatures=odd,fake ActiveFeatures=odd,fake "
    "Gres=gpu:a100:2(S:0-1),gpu:l4:1 GresDrain=N/A GresUsed=gpu:a100:1(IDX:0),gpu:l4:0(IDX:N/A) NodeAddr=127.0.0.1 NodeHostName=vm Port=17001 "
    "Version=22.05.8 OS=Linux 6.1.0 #1 SMP PREEMPT_DYNAMIC Debian  RealMemory=4000 AllocMem=400 FreeMem=17000 Sockets=4 Boards=1 State=MIXED "
    "ThreadsPerCore=1 TmpDisk=0 Weight=1 Owner=N/A MCSLabel=N/A Partitions=low,high  BootTime=2026-11-21T04:02:10 CurrentWatts=0 \n"
    "NodeName=n2 Arch=x86_64 CoresPerSocket=1 CPUAlloc=0 CPUEfctv=4 CPUTot=4 CPULoad=0.00 Gres=(null) GresUsed=gpu:0 RealMemory=4000 AllocMem=0 "
    "State=IDLE+DRAIN Partitions=low Reason=broken fan, see ticket [root@2026-11-21T05:00:00]\n"
)


def test_slurm_queues_and_nodes() -> None:
    assert slurm.queues(Answer(0, SINFO, "")) == [
        Queue("low", "up", True, 86_400, 4, 2, 16, 8), Queue("high", "up", False, 3600, 4, 4, 16, 16),
        Queue("big", "inact", False, None, 2560, 0, 160 * 1024, 0)]  # fmt: skip
    assert slurm.nodes(Answer(0, SHOW_NODE, "")) == [
        Node("n1", "mixed", 4, 1, 4000 * 2**20, 3600 * 2**20, 3, 2, ["a100", "l4"], ["low", "high"]),
        Node("n2", "idle+drain", 4, 4, 4000 * 2**20, 4000 * 2**20, 0, 0, [], ["low"], "broken fan, see ticket"),
    ]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 5400), ("1:30", 90), ("2:00:00", 7200), ("1-12", 129_600), ("1-2:30", 95_400), ("2-00:00:01", 172_801), ("infinite", None)],
)  # fmt: skip
def test_slurm_times(text: str, seconds: int | None) -> None:
    assert slurm.seconds(text) == seconds


# ---- PBS

QSTAT = """\
Job Id: 0.pbsserver
    Job_Name = digits
    Job_Owner = ada@login
    job_state = R
    substate = 42
    comment = Job run at Sat Nov 21 at 05:00 on (pbs1:ncpus=2:ngpus=1:mem=204800kb)
\t+(pbs2:ncpus=2)
    Variable_List = PBS_O_HOME=/home/ada,PBS_O_LANG=C,PBS_O_LOGNAME=ada,NORIA_TA
\tG=noria-1f2e,PBS_O_QUEUE=workq,X=two
lines
    Submit_arguments = -f

Job Id: 1.pbsserver
    job_state = Q
    comment = Can Never Run: Insufficient amount of resource: ncpus (R: 99 A: 4 T:
\t 4)

Job Id: 2.pbsserver
    job_state = Q
    comment = Not Running: Insufficient amount of resource: ngpus

Job Id: 3[].pbsserver
    job_state = B

Job Id: 4.pbsserver
    job_state = H

"""


def test_pbs_states() -> None:
    seen = pbs.states(Answer(0, QSTAT, ""))
    assert list(seen) == ["0.pbsserver", "1.pbsserver", "2.pbsserver", "3[].pbsserver", "4.pbsserver"]
    assert seen["0.pbsserver"] == Seen("RUNNING", None, "", "noria-1f2e")
    assert "never start: Insufficient amount of resource: ncpus (R: 99 A: 4 T: 4)." in seen["1.pbsserver"].reason
    assert seen["2.pbsserver"] == Seen("SUBMITTED", None, "Waits until enough is free: ngpus.")
    assert (seen["3[].pbsserver"].state, seen["4.pbsserver"].reason) == ("RUNNING", HELD)
    assert pbs.states(Answer(0, "", "")) == {}


@pytest.mark.parametrize(
    ("lines", "state", "code"),
    [
        ("Exit_status = 0", "COMPLETED", 0),
        ("Exit_status = 3", "FAILED", 3),
        ("Exit_status = 265", "FAILED", 137),
        ("Exit_status = -29", "FAILED", None),
        ("Exit_status = -20", "FAILED", None),
        ("Exit_status = -77", "FAILED", None),
        ("Exit_status = 271\n    substate = 91", "CANCELLED", 143),
        ("substate = 92", "FAILED", None),
    ],
)
def test_pbs_finals(lines: str, state: str, code: int | None) -> None:
    text = f"Job Id: 5.s\n    job_state = F\n    {lines}\n\nJob Id: 6.s\n    job_state = R\n\n"
    seen = pbs.finals(Answer(153, text, "qstat: Unknown Job Id 7.s"))
    assert list(seen) == ["5.s"]
    assert (seen["5.s"].state, seen["5.s"].exit_code) == (state, code)
    assert seen["5.s"].reason or code == 0


def test_pbs_placement() -> None:
    alone = pbs.placement({"PBS_NODEFILE": "/n"}, lambda path: "pbs1\npbs1\n" if path == "/n" else "", no_run)
    assert alone == Placement(["pbs1"], 0, None)
    env = {"NORIA_NODES": "pbs1,pbs2", "NORIA_NODE_RANK": "1", "CUDA_VISIBLE_DEVICES": "GPU-1"}
    assert pbs.placement(env, no_read, no_run) == Placement(["pbs1", "pbs2"], 1, ["GPU-1"])


def test_pbs_submitted() -> None:
    assert pbs.submitted(Answer(0, "123.pbsserver\n", "")) == "123.pbsserver"


PBS_QUEUES = """\
Queue: workq
    queue_type = Execution
    total_jobs = 3
    state_count = Transit:0 Queued:1 Held:1 Waiting:0 Running:1 Exiting:0 Begun
\t:0
    resources_max.walltime = 24:00:00
    enabled = True
    started = True

Queue: night
    queue_type = Execution
    total_jobs = 0
    state_count = Transit:0 Queued:0 Held:0 Waiting:0 Running:0 Exiting:0 Begun:0
    enabled = True
    started = False

"""

PBSNODES = """\
pbs1
     Mom = pbs1
     ntype = PBS
     state = free
     pcpus = 4
     jobs = 1.pbsserver/0, 1.pbsserver/1
     resources_available.host = pbs1
     resources_available.mem = 4gb
     resources_available.ncpus = 4
     resources_available.ngpus = 2
     resources_assigned.mem = 204800kb
     resources_assigned.ncpus = 2
     resources_assigned.ngpus = 1
     resv_enable = True

pbs2
     Mom = pbs2
     state = down,offline
     resources_available.gpu_type = a100
     resources_available.mem = 8388608kb
     resources_available.ncpus = 8
     resources_assigned.ncpus = 0
     comment = broken fan
"""


def test_pbs_gets_all_variables_in_one_option() -> None:
    argv = pbs.submit(f"{FOLDER}/job.sh", job(raw=["-v", "A=1", "-m", "e"]))
    assert argv[argv.index("-v") + 1] == "NORIA_TAG=noria-1f2e,A=1" and argv.count("-v") == 1 and argv[-5:-3] == ["-m", "e"]


def test_pbs_queues_and_nodes() -> None:
    assert pbs.queues(Answer(0, PBS_QUEUES, "")) == [
        Queue("workq", "up", limit=86_400, running=1, waiting=2), Queue("night", "stopped", running=0, waiting=0)]  # fmt: skip
    assert pbs.nodes(Answer(0, PBSNODES, "")) == [
        Node("pbs1", "free", 4, 2, 4 * 2**30, 4 * 2**30 - 200 * 2**20, 2, 1),
        Node("pbs2", "down,offline", 8, 8, 8 * 2**30, 8 * 2**30, 0, 0, ["a100"], [], "broken fan"),
    ]


# ---- Grid Engine

QSTAT_XML = """\
<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd">
  <queue_info>
    <job_list state="running">
      <JB_job_number>1</JB_job_number>
      <JB_name>digits.noria-1f2e</JB_name>
      <JB_owner>ada</JB_owner>
      <state>r</state>
      <JAT_start_time>2026-11-21T05:24:36</JAT_start_time>
      <queue_name>all.q@sge1</queue_name>
      <slots>4</slots>
    </job_list>
  </queue_info>
  <job_info>
    <job_list state="pending">
      <JB_job_number>2</JB_job_number>
      <JB_name>noria-2</JB_name>
      <state>Eqw</state>
    </job_list>
    <job_list state="pending">
      <JB_job_number>3</JB_job_number>
      <JB_name>other</JB_name>
      <state>hqw</state>
    </job_list>
  </job_info>
</job_info>
"""

QSTAT_G_C = """\
<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd">
  <cluster_queue_summary>
    <name>all.q</name>
    <load>2.11450</load>
    <used>4</used>
    <resv>0</resv>
    <available>12</available>
    <total>16</total>
    <temp_disabled>0</temp_disabled>
    <manual_intervention>0</manual_intervention>
  </cluster_queue_summary>
  <cluster_queue_summary>
    <name>old.q</name>
    <used>0</used>
    <available>0</available>
    <total>8</total>
    <temp_disabled>0</temp_disabled>
    <manual_intervention>8</manual_intervention>
  </cluster_queue_summary>
</job_info>
"""

QHOST = """\
<?xml version='1.0'?>
<qhost xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qhost/qhost.xsd">
 <host name='global'>
   <hostvalue name='arch_string'>-</hostvalue>
   <hostvalue name='num_proc'>-</hostvalue>
   <hostvalue name='mem_total'>-</hostvalue>
 </host>
 <host name='sge1'>
   <hostvalue name='num_proc'>2</hostvalue>
   <hostvalue name='load_avg'>4.23</hostvalue>
   <hostvalue name='mem_total'>23.5G</hostvalue>
   <hostvalue name='mem_used'>2.5G</hostvalue>
   <resourcevalue name='virtual_free' dominance='hc'>4.000G</resourcevalue>
   <resourcevalue name='slots' dominance='hc'>5.000000</resourcevalue>
   <resourcevalue name='gpu' dominance='hc'>1.000000</resourcevalue>
   <resourcevalue name='gpu_type' dominance='hf'>a100</resourcevalue>
 <queue name='all.q'>
   <queuevalue qname='all.q' name='qtype_string'>BIP</queuevalue>
   <queuevalue qname='all.q' name='slots_used'>3</queuevalue>
   <queuevalue qname='all.q' name='slots'>8</queuevalue>
   <queuevalue qname='all.q' name='state_string'></queuevalue>
 </queue>
 </host>
 <host name='sge2'>
   <hostvalue name='num_proc'>2</hostvalue>
   <hostvalue name='load_avg'>-</hostvalue>
   <hostvalue name='mem_total'>512.0M</hostvalue>
   <hostvalue name='mem_used'>-</hostvalue>
 <queue name='all.q'>
   <queuevalue qname='all.q' name='slots_used'>0</queuevalue>
   <queuevalue qname='all.q' name='slots'>8</queuevalue>
   <queuevalue qname='all.q' name='state_string'>au</queuevalue>
 </queue>
 </host>
</qhost>
"""


def test_sge_queues_and_nodes() -> None:
    assert sge.queues(Answer(0, QSTAT_G_C, "")) == [
        Queue("all.q", "up", cpus=16, free_cpus=12),
        Queue("old.q", "down", cpus=8, free_cpus=0),
    ]
    assert sge.nodes(Answer(0, QHOST, "")) == [
        Node("sge1", "up", 8, 5, int(23.5 * 2**30), 21 * 2**30, None, 1, ["a100"], ["all.q"]),
        Node("sge2", "down", 8, 8, 2**29, 2**29, 0, 0, [], ["all.q"]),
    ]
    for read in (sge.queues, sge.nodes):
        with pytest.raises(Unavailable, match="cannot be read"):
            read(Answer(0, QHOST[:99], ""))


QACCT = """\
==============================================================
qname        all.q
hostname     sge1
jobname      digits.noria-1f2e
jobnumber    1
failed       {failed}
exit_status  {status}
ru_wallclock 2s
"""


def test_sge_states() -> None:
    seen = sge.states(Answer(0, QSTAT_XML, ""))
    assert seen["1"] == Seen("RUNNING", None, "", "noria-1f2e")
    assert (seen["2"].state, seen["2"].tag) == ("SUBMITTED", "noria-2") and "in error" in seen["2"].reason
    assert seen["3"] == Seen("SUBMITTED", None, HELD)
    with pytest.raises(Unavailable):
        sge.states(Answer(0, QSTAT_XML[:200], ""))


@pytest.mark.parametrize(
    ("failed", "status", "state", "code"),
    [
        ("0    ", "0", "COMPLETED", 0),
        ("0    ", "7", "FAILED", 7),
        ("100 : assumedly after job", "137                  (Killed)", "FAILED", 137),
        ("37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "137", "FAILED", 137),
        ("26  : opening input/output file", "0", "FAILED", None),
    ],
)
def test_sge_finals(failed: str, status: str, state: str, code: int | None) -> None:
    seen = sge.finals(Answer(0, QACCT.format(failed=failed, status=status), ""))
    assert (seen["1"].state, seen["1"].exit_code) == (state, code)
    assert seen["1"].reason or code == 0


def test_sge_finals_of_a_rescheduled_job_are_the_last() -> None:
    again = QACCT.format(failed="25  : rescheduling", status="99")
    assert sge.finals(Answer(0, again, "")) == {}
    assert sge.finals(Answer(0, again + QACCT.format(failed="0", status="0"), ""))["1"].state == "COMPLETED"


def test_sge_gpus_must_divide() -> None:
    for gpus, cpus in ((1, 1), (1, 4), (3, 8), (2, 10), (6, 3)):
        sge.check(job(gpus=gpus, cpus=cpus).spec)
    with pytest.raises(Invalid, match="--gpus 1 does not divide among 3 slots"):
        sge.check(job(gpus=1, cpus=3).spec)


def test_sge_site_names_come_from_the_site() -> None:
    site = {"pe": "ppn2", "gpu": "ngpus", "mem": "mem_free"}
    text = sge.script(job(nodes=2, tasks_per_node=2, gpus=1, mem=3 * 2**20, site=site), FOLDER, PYTHON)
    assert "#$ -pe ppn2 4\n" in text and "#$ -l ngpus=0.5\n" in text and "#$ -l mem_free=2M\n" in text


SC = """\
#name               shortcut   type        relop requestable consumable default  urgency
#----------------------------------------------------------------------------------------
arch                a          RESTRING    ==    YES         NO         NONE     0
exclusive           excl       BOOL        EXCL  YES         YES        0        1000
gpu                 gpu        INT         <=    YES         {gpu}        0        0
h_vmem              h_vmem     MEMORY      <=    YES         NO         0        0
mem_free            mf         MEMORY      <=    YES         NO         0        0
virtual_free        vf         MEMORY      <=    YES         YES        0        0
# >#< starts a comment but comments are not saved across edits --------
"""


def asked_of_qconf(gpu: str = "YES") -> Callable[[Sequence[str]], Answer]:
    rules = {"mpi": "$fill_up", "ppn2": "2", "smp": "$pe_slots"}
    texts = {
        f"qconf -sp {name}": f"pe_name            {name}\nslots              9999\nallocation_rule    {rule}\n"
        for name, rule in rules.items()
    }
    texts |= {"qconf -spl": "mpi\nppn2\nsmp\n", "qconf -sc": SC.format(gpu=gpu)}
    return lambda argv: Answer(0, texts[" ".join(argv)], "")


def test_sge_learns_what_its_site_calls_things() -> None:
    site = sge.learn(asked_of_qconf())
    assert site == {"pe.mpi": "$fill_up", "pe.ppn2": "2", "pe.smp": "$pe_slots", "gpu": "gpu", "mem": "virtual_free",
                    "gpu_type": "", "exclusive": "exclusive"}  # fmt: skip
    assert "#$ -pe smp 8\n" in sge.script(job(cpus=8, site=site), FOLDER, PYTHON)
    assert "#$ -pe ppn2 4\n" in sge.script(job(nodes=2, tasks_per_node=2, site=site), FOLDER, PYTHON)
    with pytest.raises(Invalid, match=r"--nodes 2 with 4 CPUs each.*allocation_rule is 4"):
        sge.script(job(nodes=2, tasks_per_node=4, site=site), FOLDER, PYTHON)
    with pytest.raises(Invalid, match="--gpus: no complex of this site says which GPUs"):
        sge.check(job(gpus=1, gpu_type="a100", site=site).spec)
    assert sge.learn(lambda argv: Answer(127, "", "qconf: no such file")) == {}


def test_sge_gpus_that_count_per_job() -> None:
    site = sge.learn(asked_of_qconf("JOB"))
    assert "#$ -l gpu=1\n" in sge.script(job(cpus=3, gpus=1, site=site), FOLDER, PYTHON)
    with pytest.raises(Invalid, match="--gpus 1: this site counts GPUs per job"):
        sge.check(job(nodes=2, gpus=1, site=site).spec)


def test_sge_placement() -> None:
    assert sge.placement({"HOSTNAME": "sge1"}, no_read, no_run) == Placement(["sge1"], 0, None)
    file = "sge1 2 all.q@sge1 UNDEFINED\n\n"
    assert sge.placement({"PE_HOSTFILE": "/pe"}, lambda path: file, no_run) == Placement(["sge1"], 0, None)
    env = {"PE_HOSTFILE": "/gone", "NORIA_NODES": "sge1,sge2", "NORIA_NODE_RANK": "1"}
    assert sge.placement(env, no_read, no_run) == Placement(["sge1", "sge2"], 1, None)


# ---- the shell of fan_out, run with a stand-in for the remote starter


def test_fan_out_starts_one_launcher_per_host_and_returns_the_worst_code(tmp_path: Path) -> None:
    folder, bin_ = tmp_path / "my jobs", tmp_path / "bin"
    folder.mkdir()
    bin_.mkdir()
    python, starter, hosts = bin_ / "python", bin_ / "pbs_tmrsh", tmp_path / "nodes"
    python.write_text('#!/bin/bash\necho "$NORIA_NODE_RANK $NORIA_NODES $HOST $*" >>"$3/said"; exit "$((NORIA_NODE_RANK * 3))"\n')
    starter.write_text('#!/bin/bash\nexport HOST=$1; shift; exec "$@"\n')
    hosts.write_text("a\na\nb\nb\nc\nc\n")
    for file in (python, starter):
        file.chmod(0o755)
    text = pbs.script(job(nodes=3, tasks_per_node=2), str(folder), str(python))
    env = {"PATH": f"{bin_}:/usr/bin:/bin", "PBS_NODEFILE": str(hosts)}
    done = subprocess.run(["bash"], input=text, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (6, "")
    said = sorted((folder / "said").read_text().splitlines())
    tail = f"-m noria.jobs.launch {folder} 1"
    assert said == [f"0 a,b,c  {tail}", f"1 a,b,c b {tail}", f"2 a,b,c c {tail}"]
    hosts.write_text("a\na\n")
    done = subprocess.run(["bash"], input=text, env=env, capture_output=True, text=True)
    assert done.returncode == 78 and "asked for 3 nodes, got: a." in done.stderr


def test_golden_scripts_hold_nothing_of_the_environment() -> None:
    texts = {str(path): path.read_text() for path in GOLDEN.glob("*/*.sh")}
    assert [path for path, text in texts.items() if "hunter2" in text or json.dumps("SECRET") in text] == []
