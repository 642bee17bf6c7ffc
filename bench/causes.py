"""How often `noria why` is right at the first answer: real programs that fail for real, on this machine, a real Slurm and a real Grid Engine.

Each case (tests/jobs/causes.py) is submitted, hurt if it says so, and asked about once it has ended. Right is right: the cause, the first
failing rank, and its node. Clusters need root and the packages that .ci/run names; `--on local` needs neither.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from peers import RESULTS, keep, say

sys.path.insert(0, str(Path(__file__).parent.parent))
from tests.clusters.cluster import PLACES
from tests.jobs.causes import CASES, Case, asked, submitted, truth

_LONGEST = 150
"""Seconds that a case may take; Slurm's shortest limit of time is a minute."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on", nargs="*", default=["local", "slurm", "sge"])
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--dir", help="where homes go; on clusters, a folder that nodes see")
    parser.add_argument("--json", type=Path, default=RESULTS / "causes.json", metavar="FILE")
    args = parser.parse_args()
    rows = [
        row
        for place in args.on
        for row in at(place, [case for case in CASES if place in case.on and args.only in case.name], args.dir)
    ]
    print(table(rows))
    keep(args.json, {"cases": rows, **score(rows)})


def at(place: str, cases: list[Case], folder: str | None) -> list[dict[str, Any]]:
    if not cases:
        return []
    with tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as name:
        home = Path(name) / "home"
        home.mkdir()
        Path(name).chmod(0o755)
        with PLACES[place](home) as cluster:
            prepare(cluster)
            return [one(cluster, place, case) for case in cases]


def prepare(cluster: Any) -> None:
    """A partition of Slurm's whose jobs go before those of others."""
    if cluster.on != "slurm":
        return
    cluster.root("sh", "-c", "sed -i '/^PreemptType\\|PartitionName=urgent/d' /etc/slurm/slurm.conf; printf '%s\\n' "
                 "PreemptType=preempt/partition_prio PreemptMode=CANCEL 'PartitionName=urgent Nodes=n[1-4] PriorityTier=10 State=UP' >> /etc/slurm/slurm.conf")  # fmt: skip
    cluster.root(
        "sh",
        "-c",
        "kill $(cat /run/slurm/slurmctld.pid); sleep 2; setpriv --reuid=slurm --regid=slurm --init-groups /usr/sbin/slurmctld",
    )
    until(lambda: cluster.root("scontrol", "ping", check=False).returncode == 0, 30)


def until(true: Any, seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while not true():
        if time.monotonic() > limit:
            return False
        time.sleep(0.3)
    return True


def one(cluster: Any, place: str, case: Case) -> dict[str, Any]:
    """One case, from its submission to the answer."""
    start = time.monotonic()
    job = submitted(cluster, case)
    if case.act is not None:
        log = cluster.folder(job) / "logs" / "rank0.log"
        until(lambda: cluster.jobs()[job]["state"] == "RUNNING" and log.exists(), 40)
        time.sleep(1)
        case.act(cluster, job)
    over = until(lambda: cluster.jobs()[job]["state"] in ("COMPLETED", "FAILED", "CANCELLED"), _LONGEST)
    said = asked(cluster, job) if over else {"cause": "(never ended)", "rank": None, "host": "", "reason": "", "evidence": []}
    row = {
        "case": case.name, "on": place, "cause": said["cause"], "true": list(case.causes), "rank": said["rank"], "true_rank": case.rank,
        "host": said["host"], "true_host": truth(cluster, job, case), "seconds": round(time.monotonic() - start, 1),
        "reason": said["reason"], "evidence": said["evidence"],
    }  # fmt: skip
    row |= {"cause_right": row["cause"] in case.causes}
    row |= {
        "rank_right": case.rank is None or row["rank"] == case.rank,
        "host_right": case.rank is None or row["host"] == row["true_host"],
    }
    if not over:
        cluster.noria("cancel", job, check=False)
    say(
        f"{place}: {case.name}: {row['cause']}, rank {row['rank']} ({row['seconds']} s){'' if right(row) else '  MISSED: ' + str(row)}"
    )
    return row


def right(row: dict[str, Any]) -> bool:
    return bool(row["cause_right"] and row["rank_right"] and row["host_right"])


def score(rows: list[dict[str, Any]]) -> dict[str, Any]:
    ranked = [row for row in rows if row["true_rank"] is not None]
    return {
        "asked": len(rows), "causes": sum(row["cause_right"] for row in rows),
        "ranked": len(ranked), "ranks": sum(row["rank_right"] for row in ranked), "hosts": sum(row["host_right"] for row in ranked),
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """By place, and what was missed."""
    lines = ["| on | cases | cause | first rank | its node |", "| -- | -- | -- | -- | -- |"]
    for place in [*dict.fromkeys(row["on"] for row in rows), "all"]:
        s = score([row for row in rows if place in (row["on"], "all")])
        lines.append(
            f"| {place} | {s['asked']} | {s['causes']} | {s['ranks']} of {s['ranked']} | {s['hosts']} of {s['ranked']} |"
        )
    missed = [
        f"| {row['on']} | {row['case']} | {' or '.join(row['true'])}, rank {row['true_rank']} | {row['cause']}, rank {row['rank']} |"
        for row in rows if not right(row)
    ]  # fmt: skip
    return "\n".join([*lines, "", "| on | missed | true | said |", "| -- | -- | -- | -- |", *missed] if missed else lines)


if __name__ == "__main__":
    main()
