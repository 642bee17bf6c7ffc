"""The commands of a sandbox, as scripts and people call them: what they take, what they print, and how jobs end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from noria import sandbox
from noria.cli.main import noria
from tests.conftest import until


class Cluster:
    """A sandbox in a folder of its own; `cluster("squeue", "-h")` is what that prints."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind
        self.env = os.environ | sandbox.open_(folder / "box", kind)

    def __call__(self, *argv: str, code: int = 0, stdin: str = "") -> str:
        done = subprocess.run(argv, env=self.env, cwd=self.folder, capture_output=True, text=True, input=stdin, timeout=30)
        assert done.returncode == code, (argv, done.returncode, done.stdout, done.stderr)
        return (done.stdout if code == 0 else done.stdout + done.stderr).strip()

    def script(self, text: str, *directives: str) -> str:
        mark = {"slurm": "#SBATCH", "pbs": "#PBS", "sge": "#$"}[self.kind]
        path = self.folder / "job.sh"
        path.write_text("\n".join(["#!/bin/bash", *(f"{mark} {each}" for each in directives), text, ""]))
        return str(path)


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], Cluster]]:
    made: list[Cluster] = []

    def one(kind: str) -> Cluster:
        made.append(Cluster(tmp_path, kind))
        return made[-1]

    yield one
    for cluster in made:
        sandbox.end(cluster.folder / "box")


@pytest.fixture
def slurm(make: Callable[[str], Cluster]) -> Cluster:
    return make("slurm")


@pytest.fixture
def pbs(make: Callable[[str], Cluster]) -> Cluster:
    return make("pbs")


@pytest.fixture
def sge(make: Callable[[str], Cluster]) -> Cluster:
    return make("sge")


def _ended(cluster: Cluster, number: str) -> str:
    """State and exit code, once sacct has them."""
    asked = ("sacct", "-nPX", "-o", "State,ExitCode", "-j", number)
    return str(until(lambda: re.search(r"^(?!PENDING|RUNNING).*", cluster(*asked)))[0])


def test_slurm_runs_tasks_on_two_nodes_with_gpus_of_their_own(slurm: Cluster) -> None:
    text = (
        "srun sh -c 'echo \"$SLURM_PROCID of $SLURM_NTASKS on $SLURMD_NODENAME as $SLURM_LOCALID, gpus $CUDA_VISIBLE_DEVICES\"'"
    )
    number = slurm(
        "sbatch", "--parsable", slurm.script(text, "-N 2", "--ntasks-per-node=2 --gres=gpu:2", "--output=%j.%x.log # where")
    )
    assert _ended(slurm, number) == "COMPLETED|0:0"
    said = sorted((slurm.folder / f"{number}.job.sh.log").read_text().splitlines())
    assert said == [f"{rank} of 4 on 127.0.0.{rank // 2 + 1} as {rank % 2}, gpus 0,1" for rank in range(4)]


@pytest.mark.parametrize(("text", "said"), [("exit 9", "FAILED|9:0"), ("kill -9 $$", "FAILED|0:9"), ("true", "COMPLETED|0:0")])
def test_slurm_says_how_a_job_ended(slurm: Cluster, text: str, said: str) -> None:
    assert _ended(slurm, slurm("sbatch", "--parsable", slurm.script(text))) == said


def test_slurm_tells_a_job_of_its_time_limit_and_then_kills_it(slurm: Cluster) -> None:
    number = slurm("sbatch", "--parsable", "-t", "0:01", slurm.script("trap 'echo told' TERM; while :; do sleep 0.1; done"))
    assert _ended(slurm, number) == "TIMEOUT|0:0"
    assert "told" in (slurm.folder / f"slurm-{number}.out").read_text()


def test_slurm_waits_for_room_and_says_so(slurm: Cluster) -> None:
    first = slurm("sbatch", "--parsable", "-N4", "-c4", slurm.script("sleep 60"))
    second = slurm("sbatch", "--parsable", "--comment=mine", slurm.script("true"))
    third = slurm("sbatch", "--parsable", slurm.script("true"))
    assert slurm("squeue", "-h", "-o", "%i|%T|%r|%k").splitlines() == [
        f"{first}|RUNNING|None|(null)", f"{second}|PENDING|Resources|mine", f"{third}|PENDING|Priority|(null)",
    ]  # fmt: skip
    slurm("scancel", first)
    assert _ended(slurm, third) == "COMPLETED|0:0"
    assert slurm("sacct", "-nPX", "-o", "JobID,State", "-j", first).startswith(f"{first}|CANCELLED by ")
    assert slurm("squeue", "-h", "-j", "999", code=1) == "slurm_load_jobs error: Invalid job id specified"
    assert slurm("scancel", "999") == ""  # As the real one.


def test_slurm_arrays_and_dependencies(slurm: Cluster) -> None:
    array = slurm(
        "sbatch",
        "--parsable",
        "--array=0-4:2",
        "-o",
        "%A_%a.log",
        slurm.script("echo $SLURM_ARRAY_TASK_ID; exit $((SLURM_ARRAY_TASK_ID / 4))"),
    )
    good = slurm("sbatch", "--parsable", "-d", f"afterok:{array}", slurm.script("true"))
    other = slurm("sbatch", "--parsable", "-d", f"afternotok:{array}", slurm.script("true"))
    assert _ended(slurm, other) == "COMPLETED|0:0"
    ended = slurm("sacct", "-nPX", "-o", "JobID,State,ExitCode", "-j", array).splitlines()
    assert ended == [f"{array}_0|COMPLETED|0:0", f"{array}_2|COMPLETED|0:0", f"{array}_4|FAILED|1:0"]
    assert (slurm.folder / f"{array}_2.log").read_text() == "2\n"
    assert slurm("squeue", "-h", "-o", "%i %r") == f"{good} DependencyNeverSatisfied"


def test_slurm_holds_releases_and_requeues(slurm: Cluster) -> None:
    number = slurm(
        "sbatch",
        "--parsable",
        "-H",
        "--open-mode=append",
        slurm.script('echo try $SLURM_RESTART_COUNT; [ -n "$SLURM_RESTART_COUNT" ] || sleep 60'),
    )
    assert slurm("squeue", "-h", "-o", "%T %r") == "PENDING JobHeldUser"
    slurm("scontrol", "release", number)
    log = slurm.folder / f"slurm-{number}.out"
    until(lambda: log.exists() and "try" in log.read_text())
    slurm("scontrol", "requeue", number)
    assert _ended(slurm, number) == "COMPLETED|0:0" and log.read_text() == "try\ntry 1\n"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["-N", "9"], "Requested node configuration is not available"),
        (["-p", "none"], "invalid partition specified: none"),
        (["--nonsense"], "unrecognized option '--nonsense'"),
    ],
)
def test_slurm_refuses(slurm: Cluster, options: list[str], said: str) -> None:
    assert said in slurm("sbatch", *options, slurm.script("true"), code=1)
    (slurm.folder / "bare").write_text("true\n")
    assert "line must start with #!" in slurm("sbatch", str(slurm.folder / "bare"), code=1)


def test_slurm_shows_nodes(slurm: Cluster) -> None:
    assert slurm("sinfo", "--version").startswith("slurm ")
    assert slurm("sinfo", "-h", "-N", "-p", "low", "-o", "%N %c %G").splitlines() == [
        f"127.0.0.{each} 4 gpu:2" for each in range(1, 5)
    ]
    assert slurm("scontrol", "show", "hostnames", "n[1-3,7],m").split() == ["n1", "n2", "n3", "n7", "m"]
    assert "NodeName=127.0.0.1 " in slurm("scontrol", "show", "node", "-o").splitlines()[0]


def _pbs_says(pbs: Cluster, number: str) -> dict[str, object]:
    said: dict[str, dict[str, dict[str, object]]] = json.loads(pbs("qstat", "-x", "-f", "-F", "json"))
    return said["Jobs"][number]


def test_pbs_runs_on_two_nodes_and_keeps_a_history(pbs: Cluster) -> None:
    number = pbs("qsub", "-l", "select=2:ncpus=2:mpiprocs=2:ngpus=1", "-l", "walltime=0:01:00", "-N", "two", "-v", "A=1,B='x,y'", "-o", "out.log",
                 pbs.script('sort "$PBS_NODEFILE"; echo "$A $B $PBS_O_WORKDIR"; pwd; exit 3'))  # fmt: skip
    assert number == "1.sandbox"
    said = until(lambda: (found := _pbs_says(pbs, number))["job_state"] == "F" and found)
    assert said["Exit_status"] == 3 and said["Resource_List"]["nodect"] == 2 and said["Job_Name"] == "two"
    assert (pbs.folder / "out.log").read_text().splitlines() == [
        "127.0.0.1",
        "127.0.0.1",
        "127.0.0.2",
        "127.0.0.2",
        f"1 x,y {pbs.folder}",
        os.environ["HOME"],
    ]
    assert "Job has finished, use -x" in pbs("qstat", number, code=35)
    assert "Unknown Job Id" in pbs("qstat", "99", code=153)


def test_pbs_long_lines_go_on_after_a_tab(pbs: Cluster) -> None:
    number = pbs("qsub", "-v", "A=" + "x" * 200, "--", "/bin/sleep", "60")
    text = pbs("qstat", "-f", number)
    assert "\n\t" in text and "A=" + "x" * 200 in text.replace("\n\t", "")


def test_pbs_ends_as_real_ones_do(pbs: Cluster) -> None:
    killed = pbs("qsub", "--", "/bin/sh", "-c", "kill -9 $$")
    late = pbs("qsub", "-l", "walltime=1", "--", "/bin/sleep", "60")
    deleted = pbs("qsub", "--", "/bin/sleep", "60")
    until(lambda: _pbs_says(pbs, deleted)["job_state"] == "R")
    pbs("qdel", deleted)
    held = pbs("qsub", "-h", "--", "/bin/true")
    ends = until(
        lambda: (
            (found := [_pbs_says(pbs, each) for each in (killed, late, deleted)])
            and all(each["job_state"] == "F" for each in found)
            and found
        )
    )
    assert [each["Exit_status"] for each in ends] == [265, -29, 271] and ends[2]["substate"] == 91
    assert _pbs_says(pbs, held)["job_state"] == "H"
    pbs("qrls", held)
    until(lambda: _pbs_says(pbs, held)["job_state"] == "F")
    assert "Unknown Job Id" in pbs("qdel", "99", code=153) and "finished" in pbs("qdel", held, code=35)


def test_pbs_arrays(pbs: Cluster) -> None:
    number = pbs("qsub", "-J", "0-4:2", "-o", str(pbs.folder), pbs.script("echo $PBS_ARRAY_INDEX"))
    assert number == "1[].sandbox"
    until(lambda: "job_state = F" in pbs("qstat", "-x", "-f", number))
    assert {path.name for path in pbs.folder.glob("*.OU")} == {f"1[{each}].sandbox.OU" for each in (0, 2, 4)}
    assert "Job Id: 1[2].sandbox" in pbs("qstat", "-x", "-t", "-f", number)


def test_pbs_refuses(pbs: Cluster) -> None:
    assert pbs("qsub", "-q", "none", "--", "/bin/true", code=170) == "qsub: Unknown queue"
    assert "illegal -N value" in pbs("qsub", "-N", "a b", "--", "/bin/true", code=2)
    pbs("qsub", "-l", "select=1:ncpus=99", "--", "/bin/true")  # Taken, and never run.
    nodes = json.loads(pbs("pbsnodes", "-a", "-F", "json"))["nodes"]
    assert nodes["127.0.0.1"]["state"] == "free" and nodes["127.0.0.4"]["resources_available"]["ncpus"] == 4


def _accounts(sge: Cluster, number: str) -> dict[str, str]:
    done = subprocess.run(["qacct", "-j", number], env=sge.env, capture_output=True, text=True)
    return dict(re.findall(r"^(\w+) +(.*)$", done.stdout, re.MULTILINE))


def test_sge_gives_slots_on_hosts_by_the_parallel_environment(sge: Cluster) -> None:
    text = 'awk "{print \\$1, \\$2}" "$PE_HOSTFILE"; qrsh -inherit -nostdin 127.0.0.2 /bin/echo "from $HOSTNAME" "two words"; echo $NSLOTS $NHOSTS'
    number = sge(
        "qsub",
        "-terse",
        "-pe",
        "ppn2",
        "4",
        sge.script(text, f'-o "{sge.folder}/$JOB_ID.log"', "-j y -S /bin/bash", "-l gpu=0.5"),
    )
    assert until(lambda: _accounts(sge, number))["exit_status"] == "0"
    assert (sge.folder / f"{number}.log").read_text().splitlines() == [
        "127.0.0.1 2",
        "127.0.0.2 2",
        "from 127.0.0.1 two words",
        "4 2",
    ]
    assert "allocation_rule    2" in sge("qconf", "-sp", "ppn2") and "ppn4" in sge("qconf", "-spl").split()


def test_sge_ends_as_real_ones_do(sge: Cluster) -> None:
    late = sge(
        "qsub", "-terse", "-notify", "-l", "h_rt=1", sge.script("trap 'echo told; exit 7' USR2; while :; do sleep 0.1; done")
    )
    killed = sge("qsub", "-terse", sge.script("sleep 60"))
    until(lambda: killed in sge("qstat", "-u", "*"))
    until(lambda: "<state>r</state>" in sge("qstat", "-xml", "-u", "*"))
    sge("qdel", killed)
    assert until(lambda: _accounts(sge, late))["failed"].startswith("37")
    assert "told" in (Path(os.environ["HOME"]) / f"job.sh.o{late}").read_text()
    end = until(lambda: _accounts(sge, killed))
    assert end["failed"].startswith("100") and end["exit_status"].startswith("137")
    assert "does not exist" in sge("qdel", "99", code=1)


def test_sge_lists_as_xml_and_folds_arrays(sge: Cluster) -> None:
    sge("qsub", "-h", "-t", "1-5:2", "-N", "noria", sge.script("true"))
    (row,) = ElementTree.fromstring(sge("qstat", "-xml", "-u", "*")).iter("job_list")
    assert (
        {each.tag: each.text for each in row}["tasks"] == "1-5:1"
        and row.findtext("state") == "hqw"
        and row.findtext("JB_name") == "noria"
    )
    sge("qrls", "1")
    assert until(lambda: _accounts(sge, "1"))["taskid"] in ("1", "3", "5")


def test_sge_refuses(sge: Cluster) -> None:
    assert "cannot start with a digit" in sge("qsub", "-N", "1a", sge.script("true"), code=1)
    assert '"none" does not exist' in sge("qsub", "-pe", "none", "2", sge.script("true"), code=1)
    assert "no suitable queues" in sge("qsub", "-w", "e", "-pe", "ppn4", "99", sge.script("true"), code=1)
    assert "unknown resource" in sge("qsub", "-l", "nonsense=1", sge.script("true"), code=1)
    assert sge("qhost", "-F").count("hc:gpu=2") == 4


def test_a_shell_or_a_command_in_a_box_that_ends_with_it(tmp_path: Path) -> None:
    mark = f"{tmp_path}/sleeps"
    text = f"#!/bin/sh\ntouch {mark}; exec sleep 1000\n"
    (tmp_path / "job.sh").write_text(text)
    inside = f'id=$(sbatch --parsable {tmp_path}/job.sh); while [ ! -e {mark} ]; do sleep 0.1; done; squeue -h -o %T; echo "$NORIA_SANDBOX"; exit 5'
    argv = [sys.executable, "-m", "noria.cli.main", "sandbox", "slurm", "--nodes", "2", "--", "sh", "-c", inside]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=tmp_path)
    state, box = done.stdout.split()
    assert (done.returncode, state, done.stderr) == (5, "RUNNING", "") and not Path(box).exists()
    assert box.encode() not in b"".join(_environments())


def _environments() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            yield path.read_bytes()
        except OSError:
            pass


def test_a_box_is_of_one_kind(tmp_path: Path) -> None:
    runner = CliRunner()
    assert runner.invoke(noria, ["sandbox", "sge", "--dir", str(tmp_path / "box"), "--", "true"]).exit_code == 0
    again = runner.invoke(noria, ["sandbox", "pbs", "--dir", str(tmp_path / "box"), "--", "true"])
    assert "is one of sge" in str(again.exception)
    assert runner.invoke(noria, ["sandbox", "slurm", "--", "no-such-program"]).exit_code == 127
