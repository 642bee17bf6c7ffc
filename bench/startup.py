"""How soon Noria is there, and what it takes while nobody asks: the server from an empty home, the commands, the import."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).parent / "results"
SCRIPTS = Path(sys.executable).parent
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


def environment(home: str) -> dict[str, str]:
    """Ours, without the settings of the person who measures."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NORIA_", "MLFLOW_"))}
    return kept | {"NORIA_HOME": home, "XDG_CONFIG_HOME": home, "MLFLOW_DISABLE_TELEMETRY": "true"}


def keep(path: Path, result: dict[str, object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")


@contextmanager
def serving(argv: list[str], home: str) -> Iterator[tuple[int, str, float]]:
    """Start a server; its pid, its URL, and the seconds until GET /health answered 200. It ends with the block."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    url, argv = f"http://127.0.0.1:{port}", [word.format(home=home, port=port) for word in argv]
    start = time.perf_counter()
    with open(f"{home}/output", "wb") as out:
        server = subprocess.Popen(argv, cwd=home, env=environment(home), stdout=out, stderr=out, start_new_session=True)
    try:
        while True:
            try:
                urllib.request.urlopen(f"{url}/health", timeout=5).close()
                break
            except OSError:
                if server.poll() is not None or time.perf_counter() - start > 120:
                    raise SystemExit(f"{argv[0]} does not answer:\n{Path(home, 'output').read_text()}") from None
                time.sleep(0.002)
        yield server.pid, url, time.perf_counter() - start
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    children = [int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()]
    return [pid, *(one for child in children for one in family(child))]


def memory(pids: list[int], field: str) -> float:
    """MiB; `field` is Pss, which shares out what several processes map, or Rss."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in pids]
    return sum(int(line.split()[1]) for text in texts for line in text.splitlines() if line.startswith(f"{field}:")) / 1024


def cpu(pids: list[int]) -> float:
    """Seconds of CPU used so far: fields 14 and 15 of /proc/PID/stat."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(field[11]) + int(field[12]) for field in fields) / os.sysconf("SC_CLK_TCK")


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
