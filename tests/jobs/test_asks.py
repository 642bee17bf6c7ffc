"""What a job can ask, and what can be done with it while it waits and runs: on this machine, through the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from noria import units
from noria.errors import Invalid
from noria.jobs import scripts
from noria.jobs.localq import Entry, Machine, fit, name
from tests.conftest import until

Noria = Callable[..., subprocess.CompletedProcess[str]]
ALL_CPUS = str(len(os.sched_getaffinity(0)))


def submit(noria: Noria, *options: str, code: str = "pass") -> str:
    """The id of the job, or of the array."""
    return noria("submit", *options, "--", sys.executable, "-c", code).stdout.strip()


def job(noria: Noria, name: str) -> dict[str, Any]:
    jobs: list[dict[str, Any]] = json.loads(noria("ps", "--json", name).stdout)["jobs"]
    (found,) = jobs
    return found


def refused(noria: Noria, *options: str) -> str:
    done = noria("submit", *options, check=False)
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr
    return done.stderr.removeprefix("noria: ")


# ---- what people write


KNOWN = {"v100": "16GB", "a100": "80GB", "l40s": "48GB"}


@pytest.mark.parametrize(
    ("text", "count", "kind"),
    [("4", 4, ""), ("a100:4", 4, "a100"), ("a100", 1, "a100"), ("24GB..80GB:2", 2, "l40s"), ("80GB:2", 2, "a100"), ("..40GB", 1, "v100"),
     ("24GB..:3", 3, "l40s"), ("0", 0, "")],
)  # fmt: skip
def test_gpus_by_count_type_or_memory(text: str, count: int, kind: str) -> None:
    known = {name: KNOWN[name] for name in KNOWN}
    if text == "80GB:2":
        known["l40s"] = "80GB"
        kind = "a100"
    assert units.gpus(text, known) == (count, kind)


def test_gpus_by_memory_that_nobody_knows_or_has() -> None:
    with pytest.raises(Invalid, match=r"--gpus 24GB\.\.80GB:2: how much memory this cluster's GPUs have is not known"):
        units.gpus("24GB..80GB:2", {})
    with pytest.raises(Invalid, match=r"--gpus 90GB: no GPU .* a100 80GB"):
        units.gpus("90GB", KNOWN)
    with pytest.raises(Invalid, match="--gpus a100:0 asks for none"):
        units.gpus("a100:0", KNOWN)


def test_gpus_by_memory_are_resolved_by_the_profile(noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("noria.toml").write_text('[profiles.slurm.gpus]\nv100 = "16GB"\na100 = "80GB"\n[profiles.sge.site]\ngpu = "ngpus"\n')
    assert "--gres=gpu:a100:2\n" in noria("submit", "--dry-run", "--on", "slurm", "--gpus", "24GB..80GB:2", "--", "true").stdout
    assert "#$ -l ngpus=1\n" in noria("submit", "--dry-run", "--on", "sge", "--gpus", "1", "--", "true").stdout
    Path("noria.toml").write_text("[profiles.slurm]\ngpus = 3\n")
    assert "[profiles.slurm] in noria.toml is wrong" in refused(noria, "--on", "slurm", "--", "true")


@pytest.mark.parametrize(
    ("text", "names"),
    [("n1", "n1"), ("n1,m2", "n1 m2"), ("n[1-3,07],m", "n1 n2 n3 n07 m"), ("n[08-10]-ib", "n08-ib n09-ib n10-ib"),
     ("r[1-2]n[1,4]", "r1n1 r1n4 r2n1 r2n4"), ("n[1-", "n[1-"), ("n[a]", "n[a]"), ("", "")],
)  # fmt: skip
def test_names_of_nodes(text: str, names: str) -> None:
    assert units.nodes(text) == names.split()


@pytest.mark.parametrize(
    ("text", "members", "at_once"),
    [("0-3", [0, 1, 2, 3], 0), ("1,4-8:2%2", [1, 4, 6, 8], 2), ("7", [7], 0)],
)  # fmt: skip
def test_arrays(text: str, members: list[int], at_once: int) -> None:
    assert units.array(text) == (members, at_once)


@pytest.mark.parametrize("text", ["", "3-1", "a", "1-", "1,,2", "0-9:0", "1,1", "0-1000000", "%3"])
def test_what_is_no_array(text: str) -> None:
    with pytest.raises(Invalid, match="--array"):
        units.array(text)


def test_moments() -> None:
    noon = datetime(2026, 11, 21, 12, 0).timestamp()

    def at(text: str) -> str:
        return datetime.fromtimestamp(units.moment(text, noon) / 1000).strftime("%d %H:%M:%S")

    assert [at(text) for text in ("2h", "16:30", "9:05", "2026-12-01", "2026-12-01T16:30:10")] == [
        "21 14:00:00", "21 16:30:00", "22 09:05:00", "01 00:00:00", "01 16:30:10"]  # fmt: skip
    for text in ("", "soon", "25:00", "2026-13-01"):
        with pytest.raises(Invalid, match=f"--begin: '{text}'"):
            units.moment(text, noon)


# ---- what a backend cannot express


@pytest.mark.parametrize(
    ("scheduler", "flags", "said"),
    [
        ("local", ["--queue", "gpu"], "--queue gpu: this machine has one queue"),
        ("local", ["--gpus", "a100:1"], "--gpus a100: this machine's queue gives GPUs away by number"),
        ("local", ["--raw", "-q x"], "--raw -q x: the local queue has no submit command"),
        ("local", ["--exclude", "n1"], "--exclude n1: this machine is one node"),
        ("pbs", ["--exclude", "n1"], "--exclude n1: PBS can only be told which nodes to take. Leave it out, or"),
        ("sge", ["--exclude", "n1", "--constraint", "h=n2"], "--exclude and --constraint hostname are one request"),
        ("slurm", ["--exclude", "n1;n2"], "--exclude 'n1;n2' is no name of a node. Write n1,n2"),
        ("pbs", ["--qos", "high"], "--qos high: PBS has no quality of service"),
        ("pbs", ["--constraint", "fast"], "--constraint fast: pbs knows resources with values"),
        ("pbs", ["--nice", "3", "--priority", "2"], "--nice and --priority are one number in PBS"),
        ("pbs", ["--queue", "a", "--reservation", "R1"], "--reservation R1 is a queue in PBS"),
        ("sge", ["--qos", "high"], "--qos high: Grid Engine has no quality of service"),
        ("sge", ["--priority", "5000"], "--priority 5000: Grid Engine has priorities from -1023 to 1024"),
        ("sge", ["--reservation", "mine"], "--reservation mine: Grid Engine numbers reservations"),
        ("slurm", ["--raw", "--array=0-3"], "--raw --array=0-3: Noria says that itself. Use --array."),
        ("sge", ["--raw", "-N x"], "--raw -N: Noria says that itself. Use --name"),
        ("slurm", ["--queue", "a b"], "--queue 'a b' is no name"),
        ("slurm", ["--raw", "-q 'x"], "--raw cannot be read"),
    ],
)  # fmt: skip
def test_what_cannot_be_expressed_names_the_flag(noria: Noria, scheduler: str, flags: list[str], said: str) -> None:
    assert refused(noria, "--on", scheduler, *flags, "--", "true").startswith(said)


# ---- the dry run


def test_a_dry_run_shows_what_would_be_done_and_does_nothing(noria: Noria, tmp_path: Path) -> None:
    options = ("--on", "slurm", "--nodes", "2", "--queue", "gpu", "--raw", "--mail-type=END", "--dry-run")
    done = noria("submit", *options, "--", "true")
    assert "#SBATCH --partition=gpu\n" in done.stdout and done.stdout.count("noria.jobs.launch") == 1
    said = json.loads(noria("submit", *options, "--array", "0-4", "--json", "--", "true").stdout)
    assert said["command"][:3] == ["sbatch", "--parsable", "--mail-type=END"] and said["jobs"] == 5
    assert said["script"] in done.stdout
    assert not (tmp_path / "home" / "jobs").exists() and not (tmp_path / "home" / "noria.db").exists()


# ---- scripts that people have already


SLURM = """\
#!/bin/bash
#SBATCH -J digits -N 2
#SBATCH --ntasks-per-node=4 -c 2   # eight ranks
#SBATCH --gres=gpu:a100:2 --mem-per-cpu=1G
#SBATCH --time=1-02:00:00 --output=out-%j.txt
#SBATCH --array=0-9%3

echo "$SLURM_ARRAY_TASK_ID"
#SBATCH --partition=after-the-first-command
"""
PBS = "#!/bin/sh\n#PBS -N digits\n#PBS -l select=2:ncpus=8:mpiprocs=4:ngpus=2:mem=4gb -l walltime=26:00:00\n#PBS -j oe -J 0-9:3\ntrue\n"
SGE = "#$ -N digits -cwd -l h_rt=93600,gpu=1\n#$ -t 1-9:2\n#$ -tc 2\n#$ -j y -o /dev/null\ntrue\n"


@pytest.mark.parametrize(("name", "text"), [("slurm", SLURM), ("pbs", PBS), ("sge", SGE)])
def test_directives_are_found_and_mean_the_same_elsewhere(name: str, text: str) -> None:
    assert scripts.owner(text) == name
    options = scripts.read(text, name)
    script = scripts.SCRIPTS.get(name)
    assert scripts.said(options, script.NAME) == "digits"
    told = scripts.translated(options, name, {"nodes": 2} if name == "sge" else {})
    assert told["time"] == 26 * 3600 and told["nodes"] == 2
    if name != "sge":
        assert (told["tasks_per_node"], told["cpus"], told["gpus"]) == (4, 2, 2)
        assert told["mem"] == (8 if name == "slurm" else 4) * 2**30
    members = {"slurm": "0-9%3", "pbs": "0-9:3", "sge": "1-9:2%2"}[name]
    assert script.array(options) == members and units.array(members)


def test_the_old_way_to_ask_pbs() -> None:
    told = scripts.translated(scripts.read("#PBS -l nodes=2:ppn=4:gpus=1,walltime=1:00:00,mem=2gb\n", "pbs"), "pbs", {})
    assert told == {"nodes": 2, "tasks_per_node": 4, "cpus": 1, "gpus": 1, "time": 3600, "mem": 2 * 2**30}


def test_its_own_scheduler_gets_the_directives_as_they_are() -> None:
    assert scripts.kept(scripts.read(SLURM, "slurm"), "slurm") == [
        "-N", "2", "--ntasks-per-node=4", "-c", "2", "--gres=gpu:a100:2", "--mem-per-cpu=1G", "--time=1-02:00:00"]  # fmt: skip
    assert scripts.kept(scripts.read(PBS, "pbs"), "pbs") == [
        "-l", "select=2:ncpus=8:mpiprocs=4:ngpus=2:mem=4gb", "-l", "walltime=26:00:00"]  # fmt: skip
    assert scripts.kept(scripts.read(SGE, "sge"), "sge") == ["-l", "h_rt=93600,gpu=1"]
    unknown = scripts.read("#SBATCH --whatever=1 --another two -x n[1-2]\n", "slurm")
    assert scripts.kept(unknown, "slurm") == ["--whatever=1", "--another", "two", "-x", "n[1-2]"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("#SBATCH -p gpu", r"#SBATCH -p gpu: that is a name of its own cluster. Say --queue NAME"),
        ("#SBATCH --mail-user=a@b", "#SBATCH --mail-user=a@b: Noria cannot translate it"),
        ("#SBATCH --nodes=2-4", "#SBATCH --nodes=2-4: Noria cannot translate this value"),
        ("#SBATCH -N 2 -n 3", "#SBATCH -n 3: 3 do not divide among 2"),
        ("#SBATCH --gres=fpga:1", "#SBATCH --gres=fpga:1: Noria cannot translate it"),
        ("#SBATCH --export=A,B", "#SBATCH --export=A,B: Noria passes variables by name"),
        ("#SBATCH --wait", "#SBATCH --wait: it would keep sbatch waiting"),
        ("#SBATCH --mem=0", "#SBATCH --mem=0: Noria cannot translate this value"),
        ("#PBS -V", "#PBS -V: Noria passes variables by name"),
        ("#PBS -l select=1:ncpus=2+1:ncpus=1", "#PBS -l select=1:ncpus=2.1:ncpus=1: Noria cannot translate it"),
        ("#PBS -W depend=afterok:1", "#PBS -W depend=afterok:1: Noria cannot translate it"),
        ("#PBS -W block=true", "#PBS -W block=true: it would keep qsub waiting"),
        ("#PBS -l walltime=soon", "#PBS -l walltime=soon: Noria cannot translate it"),
        ("#$ -l gpu=a", r"#\$ -l gpu=a: Noria cannot translate it"),
        ("#$ -l h_rt=x", r"#\$ -l h_rt=x: Noria cannot translate it"),
        ("#$ -pe orte 8", r"#\$ -pe 'orte 8'|#\$ -pe orte 8: what it gives is known at its own cluster alone. Say --nodes"),
        ("#$ -l hostname=a", r"#\$ -l hostname=a: Noria cannot translate it"),
        ("#$ -q 'a", r"#\$ -q 'a: No closing quotation"),
    ],
)
def test_what_cannot_be_translated_names_the_directive(line: str, said: str) -> None:
    name = scripts.owner(line.replace("'", "")) if "'" not in line else "sge"
    with pytest.raises(Invalid, match=said):
        scripts.translated(scripts.read(line, name), name, {})


def test_what_the_flags_say_stands_before_the_directives(noria: Noria, tmp_path: Path) -> None:
    path = tmp_path / "train.sbatch"
    path.write_text(SLURM.replace("-N 2", "-N 2 -p gpu"))
    assert "#SBATCH -p gpu: that is a name of its own cluster" in refused(noria, "--dry-run", "--on", "pbs", str(path))
    done = noria("submit", "--dry-run", "--on", "pbs", "--queue", "long", "--time", "1h", str(path))
    assert "select=2:ncpus=8:mpiprocs=4:ompthreads=2:ngpus=2:gpu_type=a100:mem=8192mb" in done.stdout
    assert "walltime=01:00:00 -q long" in done.stdout
    assert refused(noria, "--nodes", "3", str(path)).startswith(f"--nodes: {path} asks for itself with #SBATCH")


def test_a_script_runs_once_as_it_was_when_it_was_submitted(noria: Noria, tmp_path: Path) -> None:
    path = tmp_path / "hello.sbatch"
    path.write_text(
        '#!/bin/bash -e\n#SBATCH -J hello -n 2\necho "$1 ${RANK:-no rank} $SLURM_SUBMIT_DIR $SLURM_ARRAY_TASK_ID"\nexit 3\n'
    )
    blocker = submit(noria, "--cpus", ALL_CPUS, code="import time; time.sleep(60)")
    found = noria("submit", "--on", "local", "--array", "5", str(path), "twice").stdout.strip()
    path.write_text("#!/bin/bash\necho changed\n")
    noria("cancel", blocker)
    assert noria("wait", found, check=False).returncode == 3
    assert noria("logs", found).stdout == f"twice no rank {os.getcwd()} 5\n"
    assert job(noria, found)["spec"]["name"] == "hello_5"


# ---- dependencies, arrays


def test_a_job_comes_after_the_success_of_others_alone(noria: Noria) -> None:
    blocker = submit(noria, "--cpus", ALL_CPUS, code="import time; time.sleep(60)")
    good, bad = submit(noria, code="pass"), submit(noria, code="raise SystemExit(3)")
    after_good = submit(noria, "--after", good[:6], code="print('after')")
    after_both = submit(noria, "--after", f"{good},{bad}")
    after_that = submit(noria, "--after", after_both)
    assert job(noria, after_good)["reason"] == f"Waits for job {good} to succeed."
    noria("cancel", blocker)
    assert noria("wait", after_good).returncode == 0 and noria("logs", after_good).stdout == "after\n"
    assert noria("wait", after_that, check=False).returncode == 1
    assert job(noria, after_both)["reason"] == f"Job {bad} has failed, and this one was to come after its success."
    assert job(noria, after_that)["state"] == "CANCELLED" and after_both in job(noria, after_that)["reason"]
    assert refused(noria, "--after", bad, "--", "true").startswith(f"--after: Job {bad} has failed")
    assert refused(noria, "--after", "zzz", "--", "true").startswith("There is no job 'zzz'")
    assert noria("wait", submit(noria, "--after", good)).returncode == 0


def test_an_array_is_jobs_of_which_so_many_run_at_once(noria: Noria, tmp_path: Path) -> None:
    code = f"""
import os, time
number, here = os.environ["NORIA_TASK_ID"], {str(tmp_path)!r}
open(f"{{here}}/{{number}}.up", "w").close()
print(number, len([name for name in os.listdir(here) if name.endswith(".up")]))
time.sleep(0.3)
os.remove(f"{{here}}/{{number}}.up")
raise SystemExit(7 if number == "3" else 0)
"""
    array = submit(noria, "--array", "1-5%1", "--name", "sweep", code=code)
    assert " 5 QUEUED" in noria("ps").stdout or "QUEUED" in noria("ps").stdout
    done = noria("wait", array, check=False)
    assert (
        done.returncode == 7
        and done.stderr == f"noria: job {array[:8]}_3 failed: rank 0 ended with exit code 7, after saying: 3 1\n"
    )
    assert [noria("logs", f"{array[:6]}_{number}").stdout for number in (1, 3)] == ["1 1\n", "3 1\n"]
    members = json.loads(noria("ps", "--json", array).stdout)["jobs"]
    assert [(each["id"], each["exit_code"]) for each in members] == [(f"{array}_{n}", 7 if n == 3 else 0) for n in range(1, 6)]
    assert len({each["run_id"] for each in members}) == 5 and members[0]["spec"]["name"] == "sweep_1"
    (line,) = noria("ps").stdout.splitlines()[1:]
    assert f"{array[:8]}[5]" in line and "4 COMPLETED, 1 FAILED" in line
    assert f"Name a member, as in {array}_1" in noria("logs", array, check=False).stderr
    assert "has no member 9" in noria("logs", f"{array}_9", check=False).stderr


def test_an_array_is_cancelled_whole_and_by_member(noria: Noria) -> None:
    array = submit(noria, "--array", "0-9%2", "--cpus", ALL_CPUS, code="import time; time.sleep(60)")
    until(lambda: job(noria, f"{array}_0")["state"] == "RUNNING")
    assert f"job {array[:8]}_4 is cancelled" in noria("cancel", f"{array}_4").stderr
    said = noria("cancel", array[:7]).stderr
    assert f"array {array[:8]} is being cancelled (2 of 10 jobs)" in said and "is cancelled (8 of 10 jobs)" in said
    noria("wait", array, check=False)
    assert {each["state"] for each in json.loads(noria("ps", "--json", array).stdout)["jobs"]} == {"CANCELLED"}


# ---- hold, release, requeue


def test_waiting_jobs_are_held_and_released_wherever_they_wait(noria: Noria) -> None:
    blocker = submit(noria, "--cpus", ALL_CPUS, code="import time; time.sleep(60)")
    until(lambda: job(noria, blocker)["state"] == "RUNNING")
    at_scheduler = submit(noria, code="print('let go')")
    until(lambda: job(noria, at_scheduler)["state"] == "SUBMITTED")
    at_server = submit(noria, "--after", blocker)
    done = noria("hold", at_scheduler, at_server, blocker, "zzz", check=False)
    assert (
        done.returncode == 1
        and f"job {at_scheduler[:8]} is held" in done.stderr
        and f"job {at_server[:8]} is held" in done.stderr
    )
    assert f"Job {blocker} is RUNNING: only a job that waits can be held." in done.stderr and "no job 'zzz'" in done.stderr
    assert noria("ps").stdout.count("HELD") == 2
    noria("cancel", blocker)
    noria("wait", blocker, check=False)
    assert noria("wait", submit(noria, code="pass")).returncode == 0  # Later jobs go past it.
    assert {job(noria, each)["hold"] for each in (at_scheduler, at_server)} == {"user"}
    noria("release", at_scheduler, at_server)
    assert noria("wait", at_scheduler).returncode == 0 and noria("logs", at_scheduler).stdout == "let go\n"
    assert noria("wait", at_server, check=False).returncode == 1  # What it was to come after was cancelled.
    assert noria("ps").stdout.count("HELD") == 0


def test_a_job_is_requeued_with_its_run_and_its_folder(noria: Noria, tmp_path: Path) -> None:
    marker = tmp_path / "tried"
    code = f"""
import os, time, noria
first = not os.path.exists({str(marker)!r})
noria.log(x=1.0 if first else 2.0, step=0 if first else 1)
print("first" if first else "second", flush=True)
open({str(marker)!r}, "w").close()
time.sleep(60 if first else 0)
"""
    submitted = submit(noria, code=code)
    until(lambda: noria("logs", submitted).stdout == "first\n")
    before = job(noria, submitted)
    assert f"job {submitted[:8]} is being requeued" in noria("requeue", submitted).stderr
    assert noria("wait", submitted).returncode == 0
    after = job(noria, submitted)
    assert noria("logs", submitted).stdout == "first\nsecond\n"
    assert (after["run_id"], after["folder"], after["state"]) == (before["run_id"], before["folder"], "COMPLETED")
    run = json.loads(noria("runs", "show", after["run_id"], "--history", "x", "--json").stdout)
    assert [point["value"] for point in run["history"]["x"]] == [1.0, 2.0] and run["info"]["status"] == "FINISHED"
    assert "is COMPLETED: only a job that runs" in noria("requeue", submitted, check=False).stderr


def test_a_job_runs_the_code_that_was_there_when_it_was_submitted(
    noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text("print('old', open('data.txt').read())")
    (project / "data.txt").write_text("of data")
    (project / ".gitignore").write_text("data.txt")
    for words in (["init", "-q"], ["add", "."], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "first"]):
        subprocess.run(["git", *words], cwd=project, check=True)
    monkeypatch.chdir(project)
    submitted = json.loads(noria("submit", "--freeze", "--begin", "2s", "--json", "--", sys.executable, "train.py").stdout)
    (project / "train.py").write_text("print('new')")
    noria("wait", submitted["id"])
    assert noria("logs", submitted["id"]).stdout == "old of data\n"
    tags = json.loads(noria("runs", "show", submitted["run_id"], "--json").stdout)["data"]["tags"]
    said = {tag["key"]: tag["value"] for tag in tags}
    assert len(said["mlflow.source.git.commit"]) == 40 and said["noria.code"].endswith(".tar")


# ---- the local queue


def test_the_local_queue_goes_by_priority_and_then_by_time() -> None:
    entries = [
        Entry(each, "", 1, 0, 0, priority=priority) for each, priority in (("a", 0), ("b", -1), ("c", 5), ("d_10", 0), ("d_9", 0))
    ]
    waiting = sorted((name(each, moment), each) for moment, each in enumerate(entries))
    assert [each.id for _, each in fit(waiting, [], Machine(9, 0, []))] == ["c", "a", "d_10", "d_9", "b"]
    assert [each.id for _, each in fit(waiting, [entries[0]], Machine(3, 0, []))] == ["c", "a"]


def test_a_job_does_not_begin_before_its_time_and_an_exclusive_one_is_alone(noria: Noria) -> None:
    began = time.time()
    later = submit(noria, "--begin", "6s", code="import time; print(time.time())")
    until(lambda: job(noria, later)["state"] == "SUBMITTED")
    until(lambda: job(noria, later)["reason"] == "Its start time has not come yet.")
    noria("wait", later)
    assert float(noria("logs", later).stdout) >= began + 6
    done = json.loads(noria("queues", "--on", "local", "--json").stdout)["queues"]
    assert [(each["name"], each["state"], each["running"], each["waiting"]) for each in done] == [("local", "up", 0, 0)]
    holder = submit(noria, "--exclusive", code="import time; time.sleep(60)")
    until(lambda: job(noria, holder)["state"] == "RUNNING")
    (node,) = json.loads(noria("nodes", "--on", "local", "--json").stdout)["nodes"]
    assert (node["cpus"], node["free_cpus"]) == (int(ALL_CPUS), 0)
    noria("cancel", holder)


@pytest.mark.parametrize(
    ("on", "line", "raw"),
    [("slurm", "#SBATCH --requeue", "--requeue"), ("pbs", "#PBS -r y", "'-r y'"), ("sge", "#$ -r y", "'-r y'")],
)
def test_noria_alone_submits_a_job_again(noria: Noria, tmp_path: Path, on: str, line: str, raw: str) -> None:
    """Two who requeue run a training twice."""
    path = tmp_path / "train.sh"
    path.write_text(f"#!/bin/bash\n{line}\ntrue\n")
    said = noria("submit", "--dry-run", "--on", on, str(path)).stdout
    assert ("no-requeue" if on == "slurm" else "-r n") in said
    assert line.partition(" ")[2] not in said.replace("#SBATCH --no-requeue", "")
    assert "Noria submits a job again itself" in refused(noria, "--dry-run", "--on", on, "--raw", raw.strip("'"), "--", "true")
