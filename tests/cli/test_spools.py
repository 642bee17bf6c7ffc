"""`noria sync` and `noria spool verify`: spools by hand, from wherever they are seen."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from noria.wire import runs, spools
from tests.conftest import Running, until

Noria = Callable[..., subprocess.CompletedProcess[str]]

KILLED = """
import noria, os, sys, threading
noria.start_run(run_name="killed")
noria.log_artifact(sys.argv[1])
for step in range(5000):
    noria.log(loss=1 / (step + 1), step=step)
print("logged", flush=True)
threading.Event().wait()
"""


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The home of a trainer that was killed in the middle of a step, with 5,000 points and a file; no server was there."""
    home = tmp_path / "scratch"
    home.mkdir()
    (home / "a.txt").write_text("text")
    argv = [sys.executable, "-c", KILLED, str(home / "a.txt")]
    trainer = subprocess.Popen(argv, stdout=subprocess.PIPE, env={**os.environ, "NORIA_HOME": str(home)})
    assert trainer.stdout is not None and trainer.stdout.readline() == b"logged\n"
    trainer.send_signal(signal.SIGKILL)
    trainer.wait()
    trainer.stdout.close()
    return home


def test_what_a_killed_trainer_logged_is_delivered_from_elsewhere(
    noria: Noria, server: Running, scratch: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "copied"
    shutil.copytree(scratch, elsewhere)
    to = ("--server", server.url, "--token", server.token)
    done = noria("sync", str(elsewhere), *to)
    assert done.stdout == "" and done.stderr.startswith("noria: shipped 5,003 records of 1 run, ")
    run = server.client.call(runs.RESOLVE, runs.Resolve("killed")).run
    assert server.client.call(runs.CURVE, runs.Curve(run.info.run_id, "loss")).steps == list(range(5000))
    assert run.info.status == "FAILED" and list(server.client.tree(run.info.artifact_uri)) == ["a.txt"]
    again = json.loads(noria("sync", str(elsewhere / "spool"), "--json", *to).stdout)
    assert again == {"spools": 1, "runs": 0, "records": 0, "bytes": 0, "damaged": 0, "places": 0, "left": 0}


def test_what_is_damaged_is_said_and_kept(noria: Noria, server: Running, scratch: Path) -> None:
    (path,) = (scratch / "spool").glob("*.spool")
    assert json.loads(noria("spool", "verify", str(path), "--json").stdout)["spools"][0]["state"] == "open"
    data = bytearray(path.read_bytes())
    starts = [start for _, start, _ in spools.tagged(data)]
    data[starts[1000] + 20] ^= 1
    path.write_bytes(data[:-5])
    verified = noria("spool", "verify", str(scratch), check=False)
    size, last = starts[1001] - starts[1000], len(data) - starts[-1] - 5
    assert (
        verified.returncode == 1
        and f"damaged at byte {starts[1000]:,} ({size} bytes), byte {starts[-1]:,} ({last} bytes)" in verified.stdout
    )
    done = noria("sync", str(path), "--server", server.url, "--token", server.token)
    assert f"{size + last} bytes in 2 places were damaged and are kept beside them" in done.stderr
    assert len(list(path.parent.glob("*.damaged"))) == 2


def test_states(noria: Noria, tmp_path: Path) -> None:
    body = "import noria, os\nwith noria.start_run(): noria.log(loss=0.5)"
    subprocess.run([sys.executable, "-c", body], check=True, env={**os.environ, "NORIA_HOME": str(tmp_path)})
    (path,) = (tmp_path / "spool").glob("*.spool")
    data, states = path.read_bytes(), []
    last = [start for _, start, _ in spools.tagged(data)][-1]
    for size in (len(data), last, last + 6):
        os.truncate(path, size)
        shown = noria("spool", "verify", str(tmp_path)).stdout
        states.append(shown.split("\n")[1].split("  ")[-1])
    assert states == ["whole", "open", f"torn at byte {last} (6 bytes)"]


def test_a_jobs_folder(noria: Noria) -> None:
    code = "import noria\nfor i in range(10): noria.log(x=i, step=i)"
    job = json.loads(noria("submit", "--json", "--", sys.executable, "-c", code).stdout)
    noria("wait", job["id"])
    folder = json.loads(noria("ps", "--all", "--json").stdout)["jobs"][0]["folder"]
    (found,) = json.loads(noria("spool", "verify", folder, "--json").stdout)["spools"]
    assert (found["state"], found["run_id"], found["records"]) == ("whole", job["run_id"], 10)
    assert "shipped 0 records of 0 runs" in noria("sync", folder).stderr


@pytest.mark.parametrize("command", [("sync",), ("spool", "verify")])
def test_where_there_is_no_spool(noria: Noria, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = noria(*command, str(tmp_path / "nowhere"), check=False, NORIA_SERVER="http://127.0.0.1:9")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"There is no spool in {tmp_path / 'nowhere'}. Name a job's folder" in done.stderr


def test_a_server_that_is_not_there(noria: Noria, scratch: Path) -> None:
    done = noria("sync", str(scratch), "--server", "http://127.0.0.1:9", check=False)
    assert done.returncode == 1 and done.stderr.startswith("noria: No Noria server answers at http://127.0.0.1:9")


def test_both_at_once_do_no_harm(noria: Noria, own_server: Running, scratch: Path) -> None:
    shutil.copytree(
        scratch / "spool", own_server.folder / "spool", dirs_exist_ok=True
    )  # Its own agent ships them too, and puts them aside.
    noria("sync", str(own_server.folder / "spool"), "--server", own_server.url, "--token", own_server.token, check=False)
    assert own_server.client.call(spools.FLUSH, spools.Flush(20)).done
    run = until(lambda: own_server.client.call(runs.RESOLVE, runs.Resolve("killed")).run)
    assert own_server.client.call(runs.CURVE, runs.Curve(run.info.run_id, "loss")).steps == list(range(5000))
