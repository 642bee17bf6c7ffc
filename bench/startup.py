"""How soon Noria is there, and what it takes while nobody asks: the server from an empty home, the commands, the import."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median

from peers import RESULTS, SCRIPTS, cpu, environment, family, keep, memory, serving

PYTHON = sys.executable
COMMANDS = {  # Name: command, how many times less often than the others, what it needs.
    "python -c pass": ([PYTHON, "-c", "pass"], 1, ""),
    "import noria": ([PYTHON, "-c", "import noria"], 1, ""),
    "import noria; noria.log": ([PYTHON, "-c", "import noria; noria.log"], 1, ""),
    "noria --help": ([f"{SCRIPTS}/noria", "--help"], 1, ""),
    "import mlflow": ([PYTHON, "-c", "import mlflow"], 5, "mlflow"),
    "mlflow --version": ([f"{SCRIPTS}/mlflow", "--version"], 5, "mlflow"),
}
SERVERS = {
    "noria server": [f"{SCRIPTS}/noria", "server", "--home", "{home}", "--port", "{port}"],
    "mlflow server": [f"{SCRIPTS}/mlflow", "server", "--port", "{port}", "--backend-store-uri", "sqlite:///{home}/mlflow.db"],
}


def server(name: str, repeats: int) -> dict[str, float]:
    """Cold starts, each in an empty home; the last one is then watched while it idles."""
    starts = []
    for number in range(repeats):
        print(f"{name}: start {number + 1} of {repeats}", file=sys.stderr)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home, serving(SERVERS[name], home) as (pid, _, took):
            starts.append(took * 1000)
            if number == repeats - 1:
                time.sleep(3)
                before = -1.0
                while (used := cpu(family(pid))) - before > 0.05:  # Some workers are still starting when another one answers.
                    before = used
                    time.sleep(1)
                pids = family(pid)
                pss, rss, before = memory(pids, "Pss"), memory(pids, "Rss"), cpu(pids)
                time.sleep(10)
                busy = (cpu(pids) - before) / 10 * 100
    return {"start_ms": median(starts), "processes": len(pids), "pss_mib": pss, "rss_mib": rss, "cpu_percent": busy}


def commands(repeats: int) -> dict[str, float]:
    """Milliseconds from start to end of each command, in alternating rounds."""
    took: dict[str, list[float]] = {name: [] for name, (_, _, needs) in COMMANDS.items() if not needs or find_spec(needs)}
    with tempfile.TemporaryDirectory() as home:
        for number in range(-1, repeats):  # The first round warms the disk's cache.
            print(f"commands: round {number + 1} of {repeats}", file=sys.stderr)
            for name in (name for name in took if number < 0 or number % COMMANDS[name][1] == 0):
                start = time.perf_counter()
                subprocess.run(COMMANDS[name][0], cwd=home, env=environment(home), stdout=subprocess.DEVNULL, check=True)
                if number >= 0:
                    took[name].append((time.perf_counter() - start) * 1000)
    return {name: median(times) for name, times in took.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10, help="starts of the server; commands run twice as often")
    parser.add_argument("--mlflow-server", action="store_true", help="also start `mlflow server`, three times")
    parser.add_argument("--json", type=Path, default=RESULTS / "startup.json", metavar="FILE")
    args = parser.parse_args()
    times = commands(args.repeats * 2)
    servers = {"noria server": server("noria server", args.repeats)}
    if args.mlflow_server and find_spec("mlflow"):
        servers["mlflow server"] = server("mlflow server", 3)
    print(f"{'':24}{'ms':>9}{'over python':>13}")
    for name in COMMANDS:
        row = f"{times[name]:9,.1f}{times[name] - times['python -c pass']:13,.1f}" if name in times else "  not installed"
        print(f"{name:24}{row}")
    print(f"\n{'':24}{'first answer ms':>16}{'processes':>11}{'PSS MiB':>9}{'RSS MiB':>9}{'idle CPU %':>12}")
    for name, it in servers.items():
        print(
            f"{name:24}{it['start_ms']:16,.0f}{it['processes']:11}{it['pss_mib']:9,.1f}{it['rss_mib']:9,.1f}{it['cpu_percent']:12.2f}"
        )
    keep(args.json, {"commands_ms": times, "servers": servers})


if __name__ == "__main__":
    main()
