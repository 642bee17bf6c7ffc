"""How long a job takes to get into the queue, and how many get through it: Noria beside the bare command of the same scheduler.

`--on slurm` needs a cluster; without one, `noria sandbox slurm -- python bench/jobs.py --on slurm` measures against the sandbox's.
Code snapshots and import checks are left out of the first rows, and told by themselves.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

from peers import RESULTS, SCRIPTS, Wire, cpu, family, keep, noria

SUBMIT = {"slurm": ["sbatch", "--parsable"], "sge": ["qsub", "-terse"], "pbs": ["qsub", "-f", "--", "/bin/bash"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", default="local", help="local, slurm, pbs or sge")
    parser.add_argument("--rounds", type=int, default=15, help="submissions, one after the other")
    parser.add_argument("--jobs", type=int, default=1000, help="jobs that are submitted at once on this machine")
    parser.add_argument("--dir", help="where job folders go; on a cluster, a folder that the nodes share")
    parser.add_argument("--json", type=Path, default=RESULTS / "jobs.json", metavar="FILE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.dir, ignore_cleanup_errors=True) as name:
        home = Path(name)
        with noria(home) as (pid, url, _):
            found: dict[str, Any] = {"one": one(home, url, args.on, args.rounds)}
            if args.on == "local":
                found["many"] = many(home, url, pid, args.jobs)
            found["idle"] = idle(pid)
    for each in found.values():
        print("\n".join(f"{key}: {value}" for key, value in each.items()), end="\n\n")
    keep(args.json, found)


def one(home: Path, url: str, on: str, rounds: int) -> dict[str, str]:
    """Milliseconds, in turns: the bare command with the same script, and Noria's from the shell to the scheduler's id."""
    bare, whole, claimed, command = [], [], [], []
    for number in range(-1, rounds):
        start, begun = time.perf_counter(), time.time()
        job = json.loads(_noria(home, url, "submit", "--on", on, "--json", "--", "true").stdout)
        shown = time.perf_counter() - start
        folder = _submitted(home / "jobs" / job["id"])
        if number < 0:
            continue  # It warms the agent and the disk's cache.
        given = (folder / "submitted").stat().st_mtime
        command.append(shown)
        whole.append(given - begun)
        claimed.append(given - (folder / "env.json").stat().st_mtime)
        if on in SUBMIT:
            copy = home / "bare.sh"
            copy.write_text(f"#!/bin/bash\n{''.join(_directives(folder, on))}true\n")
            start = time.perf_counter()
            subprocess.run([*SUBMIT[on], str(copy)], check=True, stdout=subprocess.DEVNULL, cwd=home)
            bare.append(time.perf_counter() - start)
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    made = {"the command, until it has printed the job's id": _ms(command), "from its first file to the scheduler's id": _ms(claimed),
            "from the shell to the scheduler's id": _ms(whole)}  # fmt: skip
    if bare:
        limit = 1.3 * median(bare) * 1e3 + 100
        made |= {"the bare command": _ms(bare), "goal of the second, of the third": f"{limit:,.0f} ms, {limit + 400:,.0f} ms"}
    return {f"{on}: {key}": value for key, value in made.items()}


def _noria(home: Path, url: str, *words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"NORIA_HOME": str(home), "NORIA_SERVER": url, "NORIA_TOKEN": (home / "token").read_text().strip()}
    return subprocess.run([f"{SCRIPTS}/noria", *words], check=True, capture_output=True, text=True, env=env, cwd=home)


def _submitted(folder: Path) -> Path:
    until = time.monotonic() + 60
    while not (folder / "submitted").exists():
        if time.monotonic() > until:
            raise SystemExit(f"Nothing was submitted in a minute: look into {folder}.")
        time.sleep(0.002)
    return folder


def _directives(folder: Path, on: str) -> list[str]:
    """Those of the job's own script, so that both ask for the same."""
    mark = {"slurm": "#SBATCH", "sge": "#$", "pbs": "#PBS"}[on]
    return [f"{line}\n" for line in (folder / "job.sh").read_text().splitlines() if line.startswith(mark)]


def _ms(seconds: list[float]) -> str:
    return f"{median(seconds) * 1e3:,.0f} ms (of {len(seconds)}: {min(seconds) * 1e3:,.0f} to {max(seconds) * 1e3:,.0f})"


def many(home: Path, url: str, pid: int, count: int) -> dict[str, str]:
    """Jobs of `true`, over HTTP: how fast they are taken, how fast they run, and what each costs."""
    job = json.loads(_noria(home, url, "submit", "--json", "--", "true").stdout)
    _noria(home, url, "wait", job["id"])
    ticks = _children()
    server = cpu(family(pid))
    with Wire(url, (home / "token").read_text().strip()) as wire:
        start = time.perf_counter()
        for _ in range(count):
            wire.post("/api/2.0/noria/jobs", {"spec": job["spec"], "user": job["user"]})
        taken = time.perf_counter() - start
        left = count
        while left:
            time.sleep(0.5)
            listed = json.loads(wire.get("/api/2.0/noria/jobs?open=true&limit=10000"))["jobs"]
            left = len(listed)
            print(f"{count - left} of {count} have ended after {time.perf_counter() - start:.0f} s", file=sys.stderr)
        ran = time.perf_counter() - start
        ends = [each["exit_code"] for each in json.loads(wire.get("/api/2.0/noria/jobs?limit=10000"))["jobs"]]
    if any(ends):
        raise SystemExit(f"{sum(map(bool, ends))} jobs of `true` failed.")
    used = cpu(family(pid)) - server
    return {
        f"local: {count:,} jobs taken": f"in {taken:.1f} s",
        "local: run, from the first submission to the last end": f"{count / ran:.1f} a second, {ran:.1f} s",
        "local: CPU of server and agent, a job": f"{used / count * 1e3:.0f} ms",
        "local: CPU of queue and launcher, a job": f"{(_children() - ticks - used) / count * 1e3:.0f} ms",
    }


def _children() -> float:
    """Seconds of CPU that all of this machine has used; it should have nothing else to do (proc(5))."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return (sum(map(int, fields[:3])) + sum(map(int, fields[5:7]))) / os.sysconf("SC_CLK_TCK")


def idle(pid: int) -> dict[str, str]:
    time.sleep(3)
    before = cpu(family(pid))
    time.sleep(10)
    return {"server and agent, while nobody asks": f"{(cpu(family(pid)) - before) / 10:.2%} of a core"}


if __name__ == "__main__":
    main()
