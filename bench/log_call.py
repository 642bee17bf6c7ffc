"""What one logging call costs the training process: Noria, the limit below it, and its peers, side by side.

Rounds alternate between all contenders, so that what else the machine does hits all alike. `noria.log`, a bare `os.write`
of the same bytes and the other files share one process; each peer has its own, and time to empty its queue after a round.
p50 and p99 are of calls timed one by one, the clock's 0.1 us included; mean and ratio are of loops timed as a whole.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

from startup import RESULTS, SERVERS, environment, serving

from noria.wire.spools import Log, frame

FIRST = 10_000  # Steps from here to 65,535 take the same number of bytes: every frame is as long as the bare write.


class Contender(NamedTuple):
    name: str
    calls: int
    setup: str
    call: str
    close: str
    needs: str = ""
    settle: str = ""


HTTP = "MLflow, HTTP"
MLFLOW = "import mlflow; mlflow.set_tracking_uri({}); mlflow.set_experiment('bench'); mlflow.start_run()"
MLFLOW_CALL = "mlflow.log_metric('loss', 0.3, step=i)", "mlflow.end_run()", "mlflow"
TEAMS = [
    [Contender("os.write", 10_000, "import os; write = os.write; fd = os.open(folder + '/bare', os.O_WRONLY | os.O_CREAT | os.O_APPEND)",
               "write(fd, frame)", "os.close(fd)"),
     Contender("noria.log", 10_000, "import noria; noria.start_run()", "noria.log(loss=0.3, step=i)", "noria.end_run()"),
     Contender("mmap store", 10_000, "import mmap; file = open(folder + '/mmap', 'w+b'); file.truncate(room); "
               "m = mmap.mmap(file.fileno(), room)", "m.write(frame)", "m.close(); file.close()"),
     Contender("buffered append", 10_000, "file = open(folder + '/buffered', 'ab')", "file.write(frame)", "file.close()")],
    [Contender("trackio", 1_000, "import time, trackio; trackio.init(project='bench', auto_log_gpu=False, auto_log_cpu=False)",
               "trackio.log({'loss': 0.3}, step=i)", "trackio.finish()", "trackio", "time.sleep(0.6)")],
    [Contender("TensorBoard", 1_000, "from torch.utils.tensorboard import SummaryWriter; writer = SummaryWriter(folder + '/tb')",
               "writer.add_scalar('loss', 0.3, i)", "writer.close()", "torch tensorboard", "writer.flush()")],
    [Contender("MLflow, SQLite", 10, MLFLOW.format("'sqlite:///' + folder + '/mlflow.db'"), *MLFLOW_CALL)],
    [Contender(HTTP, 10, MLFLOW.format("url"), *MLFLOW_CALL)],
]  # fmt: skip
LOOPS = """
def plain(steps):
    start = clock()
    for i in steps: {0}
    return (clock() - start) / len(steps)
def each(steps):
    took = []
    for i in steps:
        start = clock(); {0}; took.append(clock() - start)
    return took
"""


def work(team: list[Contender], rounds: int, folder: str, url: str, pipe: Connection) -> None:
    """A process of its own. Answers a message with {name: (mean of a round, [single calls])}, the last with {name: calls/s}."""
    os.dup2(2, 1)  # Peers talk on stdout.
    ours = {**environment(folder), "TRACKIO_DIR": folder, "HF_HOME": folder}
    os.environ.clear()
    os.environ.update(ours)
    os.makedirs(beside := f"{folder}/spool")  # Where noria.log writes.
    bare = frame(Log(FIRST, time.time(), {"loss": 0.3}))
    given = {"clock": time.perf_counter, "folder": beside, "url": url, "frame": bare, "room": len(bare) * 20_000 * (rounds + 4)}
    worlds: list[tuple[Contender, range, dict[str, Any]]] = [(it, range(FIRST, FIRST + it.calls), dict(given)) for it in team]
    for it, steps, world in worlds:
        exec(it.setup + LOOPS.format(it.call), world)
        world["plain"](steps)  # Warm.
    pipe.send(len(bare))
    for _ in range(rounds):
        pipe.recv()
        answer = {}
        for it, steps, world in worlds:
            answer[it.name] = world["plain"](steps), world["each"](steps[: max(10, it.calls // 4)])
            exec(it.settle, world)
        pipe.send(answer)
    pipe.recv()
    speeds = {}
    for it, steps, world in worlds:
        exec(f"{it.close}; {it.setup}", world)
        start = time.perf_counter()
        for _ in range(4):
            world["plain"](steps)
        exec(it.close, world)
        speeds[it.name] = 4 * it.calls / (time.perf_counter() - start)
    pipe.send(speeds)


def measure(rounds: int, folder: str, teams: list[list[Contender]], url: str) -> tuple[int, dict[str, dict[str, float]]]:
    """Bytes of a frame, and the figures of every contender."""
    pipes, context = [], mp.get_context("spawn")
    for number, team in enumerate(teams):
        here, there = context.Pipe()
        context.Process(target=work, args=(team, rounds, f"{folder}/{number}", url, there), daemon=True).start()
        there.close()  # A child that dies is an EOFError here, not a wait without end.
        size = here.recv()
        pipes.append(here)
    answers: list[dict[str, Any]] = []
    for number in range(rounds + 1):
        print(f"round {number + 1} of {rounds}" if number < rounds else "end to end", file=sys.stderr)
        answers.append({})
        for pipe in pipes:
            pipe.send("go")
            answers[-1] |= pipe.recv()
    speeds, figures = answers.pop(), {}
    for name in speeds:
        single = quantiles((took for answer in answers for took in answer[name][1]), n=100)
        mean, times = zip(*((answer[name][0], answer[name][0] / answer["os.write"][0]) for answer in answers), strict=True)
        figures[name] = {"mean_us": median(mean) * 1e6, "p50_us": single[49] * 1e6, "p99_us": single[98] * 1e6,
                         "times": median(times), "calls_per_s": speeds[name]}  # fmt: skip
    return size, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--http", action="store_true", help="also MLflow over HTTP; its server takes seconds to start")
    parser.add_argument("--dir", help="folder on the disk to measure; by default the system's temporary one")
    parser.add_argument("--json", type=Path, default=RESULTS / "log_call.json", metavar="FILE")
    args = parser.parse_args()
    teams = [team for team in TEAMS if (args.http or team[0].name != HTTP) and all(map(find_spec, team[0].needs.split()))]
    with tempfile.TemporaryDirectory(dir=args.dir, ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        # One worker: with more, each call would wait for a missing TCP_NODELAY (uvicorn#3149), which is nobody's merit.
        server = serving([*SERVERS["mlflow server"], "--workers", "1"], folder)
        url = stack.enter_context(server)[1] if teams[-1][0].name == HTTP else ""
        size, figures = measure(args.rounds, folder, teams, url)
    print(f"{'us a call':18}{'p50':>10}{'p99':>11}{'mean':>10}{'x os.write':>12}{'calls/s incl. close':>21}")
    for it in (it for team in TEAMS for it in team):
        if it.name in figures:
            mean, p50, p99, times, speed = figures[it.name].values()
            print(f"{it.name:18}{p50:10,.2f}{p99:11,.2f}{mean:10,.2f}{times:12,.2f}{speed:21,.0f}")
        else:
            print(f"{it.name:18}{'only with --http' if it.name == HTTP and not args.http else 'not installed':>18}")
    mine, limit = figures["noria.log"], figures["os.write"]
    verdict = "met" if mine["p50_us"] <= 5 and mine["times"] <= 3 else "MISSED"
    print(f"\nThe limit is one os.write of the same {size} bytes, {limit['mean_us']:.2f} us. noria.log takes {mine['times']:.2f} "
          f"times that.\nGoal (p50 at most 5 us, at most 3 times the limit): {verdict}.")  # fmt: skip
    args.json.parent.mkdir(parents=True, exist_ok=True)
    args.json.write_text(json.dumps({"bytes": size, "rounds": args.rounds, "figures": figures}, indent=2) + "\n")


if __name__ == "__main__":
    main()
