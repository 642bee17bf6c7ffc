"""Two candidates evaluated side by side as jobs, against the slower one alone.

    python bench/evaluate.py --on local,slurm --rounds 5 --work 8

Each candidate's evaluation computes for about `--work` seconds on one core, or waits for as long with `--waits`, as for a GPU of its own: that shows
what Noria adds, whatever else the machine does. In each round the candidates are evaluated alone, one after the
other, and then both by one command. The Slurm is a real one in namespaces of this machine, which takes root; its nodes share the cores of
the machine, so that two candidates need two of them that nobody else uses.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from faults import place

from tests.automation import tiny
from tests.clusters.cluster import Cluster

CANDIDATES = Path(__file__).parent.parent / "tests" / "jobs" / "candidates.py"
ENV = {"PYTHONPATH": os.pathsep.join([str(tiny.FLAVOR), str(Path(__file__).parent.parent / "src")]), "OMP_NUM_THREADS": "1"}
GOAL = 1.3


def evaluated(cluster: Cluster, *versions: str) -> float:
    """Seconds from the command to its answer."""
    begun = time.perf_counter()
    cluster.noria(
        "models", "evaluate", "candidates", *versions, "--held-out", "held_out.npz", "--on", cluster.on, "--anew", **ENV
    )
    return time.perf_counter() - begun


def measured(cluster: Cluster, rounds: int, work: float, waits: bool) -> list[dict[str, Any]]:
    arguments = (*([] if waits else ["--work"]), str(work), str(work * 0.9))
    first, second = cluster.run(sys.executable, str(CANDIDATES), *arguments, **ENV).stdout.split()
    evaluated(cluster, first)  # What is read for the first time is read from the disk.
    found = []
    for number in range(rounds):
        alone = [evaluated(cluster, first), evaluated(cluster, second)]
        both = evaluated(cluster, first, second)
        found.append({"on": cluster.on, "alone": alone, "both": both, "ratio": both / max(alone)})
        print(f"{cluster.on}, round {number + 1}: alone {alone[0]:.1f} s and {alone[1]:.1f} s, side by side {both:.1f} s, "
              f"{found[-1]['ratio']:.2f} times the slower one (load {os.getloadavg()[0]:.1f})", file=sys.stderr, flush=True)  # fmt: skip
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--on", default="local,slurm")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--work", type=float, default=8.0, help="seconds of one core that an evaluation computes for")
    parser.add_argument("--waits", action="store_true", help="they wait instead")
    parser.add_argument("--json", type=Path, help="write each round there")
    given = parser.parse_args()
    results: list[dict[str, Any]] = []
    for on in given.on.split(","):
        with place(on, False) as cluster:
            results += measured(cluster, given.rounds, given.work, given.waits)
    if given.json:
        given.json.write_text(json.dumps(results, indent=1))
    print(f"{'on':8}{'alone, s':>10}{'both, s':>10}{'times the slower one':>22}   goal below {GOAL}, {os.cpu_count()} cores")
    for on in given.on.split(","):
        rounds = [each for each in results if each["on"] == on]
        print(f"{on:8}{median(max(each['alone']) for each in rounds):10.1f}{median(each['both'] for each in rounds):10.1f}"
              f"{median(each['ratio'] for each in rounds):22.2f}")  # fmt: skip
    return 0


if __name__ == "__main__":
    sys.exit(main())
