"""What one logging call costs the training process: Noria, the limit below it, and its peers, side by side.

Rounds alternate between all contenders, so that what else the machine does hits all alike. `noria.log`, a bare `os.write`
of the same bytes and the other files share one process; each peer has its own, and time to empty its queue after a round.
p50 and p99 are of calls timed one by one, the clock's 0.1 us included; mean and ratio are of loops timed as a whole.
"""

from __future__ import annotations

import argparse
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

from peers import RESULTS, environment, keep, serving
from startup import SERVERS

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
    [Contender("os.write", 2_500, "import os; write = os.write; fd = os.open(folder + '/bare', os.O_WRONLY | os.O_CREAT | os.O_APPEND)",
               "write(fd, frame)", "os.close(fd)"),
     Contender("noria.log", 2_500, "import noria; noria.start_run()", "noria.log(loss=0.3, step=i)", "noria.end_run()"),
     Contender("mmap store", 2_500, "import mmap; file = open(folder + '/mmap', 'w+b'); file.truncate(room); "
               "m = mmap.mmap(file.fileno(), room)", "m.write(frame)", "m.close(); file.close()"),
     Contender("buffered append", 2_500, "file = open(folder + '/buffered', 'ab')", "file.write(frame)", "file.close()")],
    [Contender("trackio", 1_000, "import time, trackio; trackio.init(project='bench', auto_log_gpu=False, auto_log_cpu=False)",
               "trackio.log({'loss': 0.3}, step=i)", "trackio.finish()", "trackio", "time.sleep(0.6)")],
    [Contender("TensorBoard", 1_000, "from torch.utils.tensorboard import SummaryWriter; writer = SummaryWriter(folder + '/tb')",
               "writer.add_scalar('loss', 0.3, i)", "writer.close()", "torch tensorboard", "writer.flush()")],
    [Contender("MLflow, SQLite", 10, MLFLOW.format("'sqlite:///' + folder + '/mlflow.db'"), *MLFLOW_CALL)],
    [Contender(HTTP, 10, MLFLOW.format("url"), *MLFLOW_CALL)],
]  # fmt: skip
LOOP = """
def loop(steps, single):
    took, start = [], clock()
    for i in steps: {0}
    mean = (clock() - start) / len(steps)
    for i in single:
        start = clock(); {0}; took.append(clock() - start)
    return mean, took
"""


def work(team: list[Contender], rounds: int, folder: str, url: str, pipe: Connection) -> None:
    """A process of its own. Answers a message with {name: (mean of a round, [single calls])}, the last with {name: calls/s}."""
    os.dup2(2, 1)  # Peers talk on stdout.
    kept = environment(folder)
    os.environ.clear()
    os.environ.update(kept, TRACKIO_DIR=folder, HF_HOME=folder)
    os.makedirs(beside := f"{folder}/spool")  # Where noria.log writes.
    bare = frame(Log(FIRST, time.time(), {"loss": 0.3}))
    given = {"clock": time.perf_counter, "folder": beside, "url": url, "frame": bare, "room": len(bare) * 5_000 * (rounds + 6)}
    worlds = [(it, range(FIRST, FIRST + it.calls), dict[str, Any](given)) for it in team]
    for it, steps, world in worlds:
        exec(it.setup + LOOP.format(it.call), world)
        world["loop"](steps, steps)  # Warm.
    pipe.send(len(bare))
    for _ in range(rounds):
        pipe.recv()
        worlds.reverse()  # Who comes first has just slept, and is not preempted.
        answer = {}
        for it, steps, world in worlds:
            answer[it.name] = world["loop"](steps, steps[: max(10, it.calls // 4)])
            exec(it.settle, world)
        pipe.send(answer)
    pipe.recv()
    speeds = {}
    for it, _, world in worlds:
        exec(f"{it.close}; {it.setup}", world)
        start = time.perf_counter()
        world["loop"](range(FIRST, FIRST + 10 * it.calls), ())
        exec(it.close, world)
        speeds[it.name] = 10 * it.calls / (time.perf_counter() - start)
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
        for pipe in pipes:  # One after the other, so that no two contenders run at once.
            pipe.send("go")
            answers[-1] |= pipe.recv()
    speeds, figures = answers.pop(), {}
    for name in speeds:
        single = quantiles((took * 1e6 for answer in answers for took in answer[name][1]), n=100)
        figures[name] = {"mean_us": median(answer[name][0] * 1e6 for answer in answers), "p50_us": single[49], "p99_us": single[98],
                         "times": median(answer[name][0] / answer["os.write"][0] for answer in answers), "calls_per_s": speeds[name]}  # fmt: skip
    return size, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--http", action="store_true", help="also MLflow over HTTP; its server takes seconds to start")
    parser.add_argument("--dir", help="folder on the disk to measure; by default the system's temporary one")
    parser.add_argument("--json", type=Path, default=RESULTS / "log_call.json", metavar="FILE")
    args = parser.parse_args()
    teams = [team for team in TEAMS if (args.http or team[0].name != HTTP) and all(map(find_spec, team[0].needs.split()))]
    with tempfile.TemporaryDirectory(dir=args.dir, ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        # One worker: with more, each call would wait for a missing TCP_NODELAY (uvicorn#3149), which is nobody's merit.
        one = [*SERVERS["mlflow server"], "--workers", "1"]
        url = stack.enter_context(serving(one, folder))[1] if teams[-1][0].name == HTTP else ""
        size, figures = measure(args.rounds, folder, teams, url)
    print(f"{'us a call':18}{'p50':>10}{'p99':>11}{'mean':>10}{'x os.write':>12}{'calls/s incl. close':>21}")
    for name in (it.name for team in TEAMS for it in team):
        row = "    only with --http" if name == HTTP and not args.http else "    not installed"
        row = "{1:10,.2f}{2:11,.2f}{0:10,.2f}{3:12,.2f}{4:21,.0f}".format(*figures[name].values()) if name in figures else row
        print(f"{name:18}{row}")
    p50, times = figures["noria.log"]["p50_us"], figures["noria.log"]["times"]
    print(f"\nThe limit is one os.write of the same {size} bytes; noria.log takes {times:.2f} times as long.")
    print(f"Goal (p50 at most 5 us, at most 3 times the limit): {'met' if p50 <= 5 and times <= 3 else 'MISSED'}.")
    keep(args.json, {"bytes": size, "rounds": args.rounds, "figures": figures})


if __name__ == "__main__":
    main()
