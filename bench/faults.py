"""Training jobs and what stops them: each must end with the same steps and the same losses as if nothing had been.

    python bench/faults.py --faults 200 --seed 1 --on local,slurm,sge

Local jobs run several at a time; a node that is stopped, a full disk and a killed server concern all that run meanwhile, which must survive
them too. The clusters are real ones in namespaces of this machine, which takes root; so does the small file system for a full disk.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from noria.jobs.folder import Folder
from noria.process import born
from tests.clusters.cluster import PLACES, Cluster, Emulated
from tests.jobs.test_recovery import losses

SCRIPT = str(Path(__file__).parent.parent / "tests" / "jobs" / "goes_on.py")
STEPS = 100
_ROOM = 256
"""MiB of the file system that is filled."""
_PATIENCE = 900
"""Seconds until a job is over that waits, at worst, while nodes are stopped under three others, one after the other."""
_alone = threading.RLock()
"""One at a time does what concerns all."""


def _killed(number: int) -> Callable[[Cluster, str], None]:
    """The first task, or the launcher, of a local job; on a cluster by name, from the node's own view."""

    def kill(cluster: Cluster, job: str) -> None:
        started = Folder(cluster.folder(job)).started()
        if started is None:
            return
        pid, birth = (started.tasks[0].pid, started.tasks[0].born) if number else (started.pid, started.born)
        if isinstance(cluster, Emulated):
            cluster.root("kill", "-KILL", str(pid), check=False)
        elif born(pid) == birth:
            os.kill(pid, signal.SIGKILL)

    return kill


def _drill(kind: str) -> Callable[[Cluster, str], None]:
    return lambda cluster, job: _said(cluster.noria("drill", job, kind, check=False))


def _said(done: Any) -> None:
    """A job that has ended meanwhile cannot be drilled any more."""


def _server(cluster: Cluster, _: str) -> None:
    """The server and the agent in it; the next command starts them again."""
    with _alone:
        state = json.loads((cluster.home / ".noria" / "server.json").read_text())
        if isinstance(cluster, Emulated):
            cluster.root("kill", "-KILL", str(state["pid"]), check=False)
        else:
            with suppress(ProcessLookupError):
                os.kill(state["pid"], signal.SIGKILL)
        cluster.noria("ps")


def _torn(cluster: Cluster, job: str) -> None:
    """The newest checkpoint loses its end while the task stands still; then that dies."""
    folder = Folder(cluster.folder(job))
    started = folder.started()
    if started is None or isinstance(cluster, Emulated):
        return
    with suppress(ProcessLookupError):
        os.kill(started.tasks[0].pid, signal.SIGSTOP)
        newest = max(folder.checkpoints.glob("step-*"))
        newest.write_bytes(newest.read_bytes()[:-5])
        os.kill(started.tasks[0].pid, signal.SIGKILL)


def _node(cluster: Cluster, job: str) -> None:
    """All processes of the node where the job is."""
    nodes = Folder(cluster.folder(job)).nodes()
    if not isinstance(cluster, Emulated) or not nodes:
        return
    with _alone:
        cluster.stop(nodes[0].host)
        cluster.until(lambda: Folder(cluster.folder(job)).tries(), [job], seconds=180)
        cluster.start(nodes[0].host)


def _full(cluster: Cluster, _: str) -> None:
    """No room for some seconds, where spools, checkpoints and the server's database lie."""
    with _alone:
        filler = cluster.home / "filler"
        with suppress(OSError), filler.open("wb") as file:
            for _ in range(_ROOM):
                file.write(bytes(1 << 20))
                file.flush()
        time.sleep(4)
        filler.unlink()


def _nothing(_: Cluster, __: str) -> None: ...


FAULTS: dict[str, tuple[Callable[[Cluster, str], None], tuple[str, ...]]] = {
    "rank killed": (_killed(1), ()),
    "launcher killed": (_killed(0), ()),
    "preempted": (_drill("preempt"), ()),
    "node gone": (_drill("node-failure"), ()),
    "time limit": (_nothing, ("--time", "4s")),
    "stands still": (_drill("hang"), ()),
    "server killed": (_server, ()),
    "torn checkpoint": (_torn, ()),
    "clock set back": (_killed(1), ("--env", "GOES_BACK=3600")),
    "disk full": (_full, ()),
    "node stopped": (_node, ()),
}
"""What is done to a job that has saved something, and the options that it was submitted with."""
_LONELY = "disk full"
_OF_LOCAL = ("rank killed", "launcher killed", "preempted", "time limit", "stands still", "server killed", "torn checkpoint",
             "clock set back")  # fmt: skip
_OF_CLUSTERS = ("rank killed", "launcher killed", "preempted", "time limit", "server killed", "clock set back", "node stopped")


LOOP = ("--", sys.executable, SCRIPT, str(STEPS), "0.05", "0.4")
"""A script of ten lines that calls `noria.checkpoint`."""
TRAINER = (
    "--tasks-per-node",
    "2",
    "--",
    sys.executable,
    "-m",
    "noria",
    "train",
    "digits",
    "--set",
    "epochs=6",
    "--set",
    "max_examples=2000",
)
"""The trainer, data-parallel over two processes."""
_TRAINED = ("rank killed", "launcher killed", "preempted", "server killed")
Record = list[tuple[int, float]]


def undisturbed(cluster: Cluster) -> Record:
    """What the trainer logs if nothing happens."""
    (ended,) = cluster.ended(cluster.submit("--no-check", *TRAINER), seconds=200)
    return logged(cluster, ended["run_id"])


def logged(cluster: Cluster, run_id: str) -> Record:
    shown = cluster.noria("runs", "show", run_id, "--history", "loss", "--json").stdout
    return [(point["step"], point["value"]) for point in json.loads(shown)["history"]["loss"]]


def one(cluster: Cluster, kind: str, after: float, trained: Record) -> dict[str, Any]:
    """Submit, wait until something is saved, and a random while longer; do it; and see what became of it. trained: what the trainer
    logs, if it is its turn."""
    inject, options = FAULTS[kind]
    job = cluster.submit("--no-check", "--name", kind.replace(" ", "-"), *options, *(TRAINER if trained else LOOP))
    folder, began = Folder(cluster.folder(job)), time.monotonic()
    cluster.until(lambda: folder.saved(1) or folder.exit(), [job], seconds=_PATIENCE)
    time.sleep(after)
    inject(cluster, job)
    (ended,) = cluster.ended(job, seconds=_PATIENCE)
    record = logged(cluster, ended["run_id"])
    right = ended["state"] == "COMPLETED" and record == (trained or [*enumerate(losses(STEPS))])
    tries = folder.tries()
    pauses = [(b.started - a.ended) / 1000 for a, b in pairwise(tries) if a.ended and b.started]
    return {"on": cluster.on, "fault": kind + ", trainer" * bool(trained), "job": job, "right": right, "tries": [each.cause for each in tries], "pause": pauses,
            "seconds": time.monotonic() - began, "said": "" if right else f"{ended} {len(record)} points {cluster.printed(job)}"}  # fmt: skip


def judged(cluster: Cluster, kind: str, after: float, trained: Record) -> dict[str, Any]:
    """The same; a job that does not end is wrong, and ends no other."""
    try:
        return one(cluster, kind, after, trained)
    except AssertionError as error:
        return {"on": cluster.on, "fault": kind + ", trainer" * bool(trained), "job": "", "right": False, "tries": [], "pause": [],
                "seconds": 0.0, "said": f"{error}"}  # fmt: skip


@contextmanager
def place(on: str, small: bool) -> Iterator[Cluster]:
    """Somewhere to submit to; small: on a file system that can be filled."""
    with tempfile.TemporaryDirectory() as top:
        root = Path(top)
        root.chmod(0o755)
        mounted = small and subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_ROOM}m", "tmpfs", top]).returncode == 0
        (root / "home").mkdir()
        try:
            with PLACES[on](root / "home") as cluster:
                cluster.patience = 30.0
                yield cluster
        finally:
            if mounted:
                subprocess.run(["umount", "--lazy", top], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--on", default="local,slurm,sge", help="places, of which the first gets most")
    parser.add_argument("--at-once", type=int, default=4)
    parser.add_argument("--json", type=Path, help="write each fault there")
    given = parser.parse_args()
    chosen, places, results = random.Random(given.seed), given.on.split(","), list[dict[str, Any]]()  # Not for secrets.

    def told(found: dict[str, Any]) -> None:
        results.append(found)
        print(f"{len(results):4} {'right' if found['right'] else 'WRONG'}  {found['on']:6} {found['fault']:26} {' > '.join(found['tries'])}"
              f"  {found['seconds']:.0f} s {found['said']}", flush=True)  # fmt: skip

    for number, on in enumerate(places):
        share = (
            given.faults
            if len(places) == 1
            else given.faults * 3 // 5
            if number == 0
            else given.faults * 2 // 5 // (len(places) - 1)
        )
        small = on == "local" and os.getuid() == 0
        kinds = [*_OF_LOCAL, *([_LONELY] if small else [])] if on == "local" else [*_OF_CLUSTERS]
        with place(on, small) as cluster, ThreadPoolExecutor(given.at_once) as pool:
            trained = undisturbed(cluster)
            plan: list[tuple[str, float, Record]] = []
            plan += [(kinds[index % len(kinds)], chosen.uniform(0, 1.5), []) for index in range(share * 4 // 5)]
            plan += [(_TRAINED[index % len(_TRAINED)], chosen.uniform(0, 1.5), trained) for index in range(share - len(plan))]
            chosen.shuffle(plan)
            for done in as_completed([pool.submit(judged, cluster, *each) for each in plan if each[0] != _LONELY]):
                told(done.result())
            for each in plan:  # A job that begins just then cannot even print what it dies of.
                if each[0] == _LONELY:
                    told(judged(cluster, *each))
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))
    _table(results)
    return sum(not each["right"] for each in results)


def _table(results: list[dict[str, Any]]) -> None:
    print(f"\n{'on':8}{'fault':26}{'right':>8}{'of':>6}{'from end to next start, s: median':>36}{'most':>8}")
    for on, kind in sorted({(each["on"], each["fault"]) for each in results}):
        found = [each for each in results if (each["on"], each["fault"]) == (on, kind)]
        pauses = [pause for each in found for pause in each["pause"]] or [0.0]
        print(
            f"{on:8}{kind:26}{sum(each['right'] for each in found):8}{len(found):6}{statistics.median(pauses):36.1f}{max(pauses):8.1f}"
        )


if __name__ == "__main__":
    sys.exit(main())
