"""A cluster behind a login node, over a real sshd: nothing of ours is installed there."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from noria import sandbox
from noria.jobs import clusters
from noria.jobs.why import gather
from noria.types import Job, JobSpec
from tests.conftest import require, until
from tests.jobs.test_clusters import jobs, table

Noria = Callable[..., subprocess.CompletedProcess[str]]
pytestmark = pytest.mark.timeout(120)
BARE = os.path.realpath(shutil.which("python3.11", path="/usr/bin:/usr/local/bin") or shutil.which("python3") or "python3")


class Login:
    """An sshd of our own, for this user alone."""

    def __init__(self, folder: Path) -> None:
        self.program = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin") or ""
        require(
            "ssh",
            bool(self.program) and bool(shutil.which("ssh-keygen")),
            "install the packages openssh-server and openssh-client",
        )
        folder.mkdir()
        self.folder = folder
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        (folder / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\nUsePAM no\n"
            f"StrictModes no\nPidFile none\nPasswordAuthentication no\n"
        )
        options = {"Port": self.port, "IdentityFile": folder / "user", "UserKnownHostsFile": folder / "known", "IdentitiesOnly": "yes",
                   "StrictHostKeyChecking": "no", "LogLevel": "ERROR"}  # fmt: skip
        self.address = shlex.join([*(f"-o{name}={value}" for name, value in options.items()), "127.0.0.1"])
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self.start()

    def greet(self, words: str) -> None:
        """Start again, with login shells that say something first."""
        with (self.folder / "config").open("a") as config:
            config.write(f"SetEnv HOME={self.folder}\n")
        (self.folder / ".bash_profile").write_text(f"echo {words}\n")
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [self.program, "-D", "-f", self.folder / "config", "-E", self.folder / "log"], stdin=subprocess.DEVNULL
        )
        until(self._listens)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        """It, and every connection."""
        self.process.kill()
        self.process.wait()
        subprocess.run(["pkill", "-KILL", "-f", str(self.folder)], check=False)


@pytest.fixture
def login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noria: Noria) -> Iterator[Login]:
    """A login node with a Slurm in a box, as [profiles.big]."""
    at = Login(tmp_path / "sshd")
    box = tmp_path / "box"
    reached = sandbox.open_(box, "slurm")
    path = f"{reached['PATH'].partition(':')[0]}:/usr/local/bin:/usr/bin:/bin"  # Nothing of this environment's.
    project = tmp_path / "project"
    project.mkdir()
    (project / "noria.toml").write_text(
        f'[profiles.big]\nscheduler = "slurm"\nssh = {json.dumps(at.address)}\nhome = "{tmp_path}/there"\npython = "{BARE}"\n'
        f"variables = {table({**reached, 'PATH': path})}\n"
    )
    monkeypatch.chdir(project)
    yield at
    noria("cluster", "disconnect", "big", check=False)
    at.kill()
    sandbox.end(box)


def test_a_job_goes_there_with_its_code_and_its_curve_comes_back(login: Login, noria: Noria, tmp_path: Path) -> None:
    (tmp_path / "project" / "train.py").write_text(
        "import noria, os\nfor i in range(5): noria.log(loss=1 / (i + 1), step=i)\nprint(os.environ['RANK'], os.getcwd())\n"
    )
    job = noria("submit", "--on", "big", "--nodes", "2", "--", BARE, "train.py").stdout.strip()
    noria("wait", job)
    found = jobs(noria)[job]
    assert found["spec"]["cluster"] == "big"
    code = f"{tmp_path}/there/jobs/{job}/code"
    assert sorted(noria("logs", job).stdout.splitlines()) == [f"[0] 0 {code}", f"[1] 1 {code}"]
    history = json.loads(noria("runs", "show", found["run_id"], "--history", "loss", "--json").stdout)["history"]["loss"]
    assert sorted(point["value"] for point in history) == sorted(2 * [1 / (i + 1) for i in range(5)])
    assert not (tmp_path / "there" / "noria.db").exists(), "no server there"


def test_a_script_of_its_own_finds_its_code_there(login: Login, noria: Noria, tmp_path: Path) -> None:
    (tmp_path / "project" / "say.sh").write_text("echo said\n")
    (tmp_path / "project" / "job.sbatch").write_text(
        '#!/bin/bash\n#SBATCH --nodes=2\ncd "$SLURM_SUBMIT_DIR"\nsh ./say.sh\nsrun sh "$SLURM_SUBMIT_DIR/say.sh"\n'
    )
    job = noria("submit", "--on", "big", "job.sbatch").stdout.strip()
    noria("wait", job)
    assert noria("logs", job).stdout == "said\nsaid\nsaid\n"


def test_a_cluster_is_probed_over_there(login: Login, noria: Noria) -> None:
    found = json.loads(noria("cluster", "probe", "--on", "big", "--json").stdout)
    assert found["site"]["python"] and found["kept"].endswith("/home/profiles/big.json")
    nodes = json.loads(noria("nodes", "--on", "big", "--json").stdout)["nodes"]
    assert [node["name"] for node in nodes] == [f"127.0.0.{number}" for number in range(1, 5)]


def test_the_log_is_followed_and_the_job_cancelled(login: Login, noria: Noria) -> None:
    job = noria("submit", "--on", "big", "--", "sh", "-c", "echo one; sleep 1; echo two; sleep 100").stdout.strip()
    until(lambda: noria("logs", job, check=False).stdout == "one\ntwo\n", 30)
    noria("cancel", job)
    until(lambda: jobs(noria)[job]["state"] == "CANCELLED", 30)


def test_jobs_go_on_while_the_connection_is_lost(login: Login, noria: Noria) -> None:
    job = noria("submit", "--on", "big", "--", "sh", "-c", "echo up; sleep 4; echo done").stdout.strip()
    until(lambda: jobs(noria)[job]["state"] == "RUNNING", 30)
    login.kill()
    time.sleep(5)
    assert jobs(noria)[job]["state"] == "RUNNING", "nobody has heard of its end"
    login.start()
    until(lambda: jobs(noria)[job]["state"] == "COMPLETED", 60)
    assert noria("logs", job).stdout == "up\ndone\n"


def test_an_agent_ends_with_its_connection(login: Login, noria: Noria, tmp_path: Path) -> None:
    noria("cluster", "connect", "big")
    agents = ["pgrep", "-f", "^[^ ]*python[^ ]* -m noria.agent.login"]

    def mine() -> list[str]:
        return [pid for pid in subprocess.run(agents, capture_output=True, text=True).stdout.split() if _in(pid, tmp_path)]

    until(mine, 30)
    noria("cluster", "disconnect", "big")
    until(lambda: not mine(), 20)


def _in(pid: str, folder: Path) -> bool:
    try:
        return str(folder) in Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return False


def test_a_login_shell_may_greet(login: Login, noria: Noria) -> None:
    login.kill()
    login.greet("Welcome to 3 11 nodes")
    listed = noria("queues", "--on", "big").stdout.splitlines()
    assert [line.split()[0] for line in listed] == ["QUEUE", "low*", "high"]
    job = noria("submit", "--on", "big", "--", "echo", "hello").stdout.strip()
    noria("wait", job)
    assert noria("logs", job).stdout == "hello\n"


def test_what_is_wrong_is_said(login: Login, noria: Noria, tmp_path: Path) -> None:
    toml = tmp_path / "project" / "noria.toml"
    toml.write_text(toml.read_text().replace(BARE, "/no/python"))
    noria("cluster", "connect", "big")
    log = tmp_path / "home" / "clusters" / "big.log"
    said = "is no such program, and Noria needs Python 3.11 or newer. Set python"
    until(lambda: log.exists() and said in log.read_text(), 30)
    login.kill()
    done = noria("submit", "--on", "big", "--", "true", check=False)
    assert done.returncode == 1 and "does not get in. Try it by hand; what works there works here." in done.stderr
    assert "Traceback" not in done.stderr and "[]" in json.dumps(json.loads(noria("ps", "--json").stdout)["jobs"])


def test_what_a_failed_job_left_is_read_over_there(
    login: Login, noria: Noria, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = noria("submit", "--on", "big", "--", "sh", "-c", "echo 'No space left on device'; exit 3").stdout.strip()
    noria("wait", job, check=False)
    said = json.loads(noria("why", job, "--json").stdout)
    assert (said["cause"], said["rank"]) == ("disk_full", 0)
    monkeypatch.setenv("NORIA_HOME", str(tmp_path / "home"))
    spec = JobSpec(["sh"], scheduler="slurm", cluster="big", agent="big")
    known = Job(job, "", spec, "FAILED", "", 0, folder=f"{tmp_path}/there/jobs/{job}")
    assert gather._there(known) == gather.gather(known) and known.folder, (
        "the same by ssh as by the file system that the test shares"
    )
    clusters.named("big").connection().close()
