"""How well waits are foretold: a trace in Standard Workload Format is replayed, and each job is asked about when it is submitted.

`python bench/waits.py FILE.swf` takes a trace of the Parallel Workloads Archive. Without one, a seeded synthetic trace is written in
the same format: jobs of 1 to 64 GPUs with a daily rhythm, through a scheduler that backfills (EASY). Nothing that was not known at a
job's submission is used for it. Baselines: the median of all waits so far, and of the last 20 in the same queue.
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
import time
from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import median, quantiles
from typing import NamedTuple

from noria.jobs.estimate import Guess, Past, Seen, guess, replayed

HOUR = 3600.0
WARM = 500
"""Jobs before the first that counts."""


class Line(NamedTuple):
    """A job of a trace, in seconds; the fields of the format that are used here."""

    number: int
    submit: float
    wait: float
    run: float
    procs: int
    asked: float
    queue: int

    @property
    def start(self) -> float:
        return self.submit + self.wait

    @property
    def end(self) -> float:
        return self.start + self.run


def read(text: str) -> tuple[list[Line], int]:
    """The jobs that ran, in the order of submission, and how many processors there are (Feitelson et al., Standard Workload Format 2.2)."""
    lines, capacity = [], 0
    for line in text.splitlines():
        fields = line.split()
        if line.startswith(";"):
            capacity = int(fields[-1]) if "MaxProcs:" in line else capacity
        elif len(fields) >= 18 and float(fields[3]) > 0 and float(fields[2]) >= 0:
            procs = int(fields[7]) if int(fields[7]) > 0 else int(fields[4])
            asked = float(fields[8]) if float(fields[8]) > 0 else float(fields[3])
            lines.append(
                Line(
                    int(fields[0]),
                    float(fields[1]),
                    float(fields[2]),
                    float(fields[3]),
                    procs,
                    max(asked, float(fields[3])),
                    int(fields[14]),
                )
            )
    lines.sort(key=lambda line: line.submit)
    return lines, capacity or max(line.procs for line in lines)


def written(lines: Sequence[Line], capacity: int) -> str:
    head = f"; Version: 2.2\n; Computer: synthetic\n; MaxProcs: {capacity}\n"
    return head + "".join(
        f"{each.number} {each.submit:.0f} {each.wait:.0f} {each.run:.0f} {each.procs} -1 -1 {each.procs} {each.asked:.0f} -1 1 -1 -1 -1 "
        f"{each.queue} -1 -1 -1\n" for each in lines)  # fmt: skip


def synthetic(count: int, capacity: int, seed: int, load: float = 0.95) -> list[Line]:
    """Arrivals with a daily rhythm, powers of two of GPUs, times that are lognormal, and limits that people guess too large."""
    random, now, lines = Random(seed), 0.0, []
    sizes, weights = (1, 2, 4, 8, 16, 32, 64), (30, 14, 16, 22, 10, 5, 3)
    mean_work = sum(size * weight for size, weight in zip(sizes, weights, strict=True)) / sum(weights) * 2.6 * HOUR
    for number in range(1, count + 1):
        day = 1 + 0.7 * math.sin(2 * math.pi * (now / 86_400 - 0.3))
        now += random.expovariate(day * load * capacity / mean_work)
        size = random.choices(sizes, weights)[0]
        run = min(48 * HOUR, max(60.0, random.lognormvariate(math.log(HOUR), 1.4)))
        asked = (
            next(
                each for each in (0.5, 1, 2, 4, 8, 12, 24, 48, 72) if each * HOUR >= min(run * random.uniform(1.1, 6), 72 * HOUR)
            )
            * HOUR
        )
        lines.append(Line(number, round(now), 0.0, round(run), size, asked, 0 if asked <= 4 * HOUR else 1))
    return scheduled(lines, capacity)


def scheduled(lines: Sequence[Line], capacity: int) -> list[Line]:
    """With waits, as a scheduler makes them that backfills whatever does not delay the first in the queue (EASY)."""
    done: list[Line] = []
    queue: list[Line] = []
    running: list[tuple[float, float, int]] = []
    free, coming = capacity, list(reversed(lines))
    while coming or queue:
        now = min(coming[-1].submit if coming else math.inf, running[0][0] if running else math.inf)
        while coming and coming[-1].submit <= now:
            queue.append(coming.pop())
        while running and running[0][0] <= now:
            free += heapq.heappop(running)[2]
        for each in _starting(queue, running, free, now):
            queue.remove(each)
            free -= each.procs
            heapq.heappush(running, (now + each.run, now + each.asked, each.procs))
            done.append(each._replace(wait=now - each.submit))
    return sorted(done, key=lambda line: line.submit)


def _starting(queue: Sequence[Line], running: Sequence[tuple[float, float, int]], free: int, now: float) -> Iterator[Line]:
    shadow, extra = 0.0, -1
    limits = [(limit, procs) for _, limit, procs in running]
    for each in list(queue):
        if extra < 0 and each.procs <= free:
            free -= each.procs
            limits.append((now + each.asked, each.procs))
            yield each
        elif extra < 0:
            shadow, extra = _reserved(each, limits, free)
        elif each.procs <= free and (now + each.asked <= shadow or each.procs <= extra):
            free -= each.procs
            extra -= each.procs if now + each.asked > shadow else 0
            yield each


def _reserved(first: Line, limits: list[tuple[float, int]], free: int) -> tuple[float, int]:
    """When the first in the queue starts at the latest, and how many processors are left over then."""
    for limit, procs in sorted(limits):
        free += procs
        if free >= first.procs:
            return limit, free - first.procs
    return math.inf, 0


Ask = Callable[[Line], Guess]


class Known:
    """What is known at each submission: those that have started, and nothing of their future. share: of jobs that the record sees."""

    def __init__(self, lines: Sequence[Line], capacity: int, share: float, seed: int, *, shown: bool = False) -> None:
        """shown: the scheduler shows everybody's jobs at the moment of the question, those too that are not in the record."""
        random = Random(seed)
        self.lines = [line for line in lines if random.random() < share]
        self.capacity = capacity if share == 1 else max(1, round(capacity * share))
        whole = replayed([_past(line) for line in lines], capacity) if shown else ()
        self.shown = {line.number: plan for line, (_, plan) in zip(lines, whole, strict=False)}

    def walk(self) -> Iterator[tuple[Line, list[Seen], float, Guess]]:
        """Each job with the waits that were over when it was submitted, by submission; and the guess."""
        pending: list[tuple[float, int, Seen]] = []
        over: list[tuple[int, Seen]] = []
        record = [_past(line) for line in self.lines]
        for place, (each, plan) in enumerate(replayed(record, self.capacity)):
            while pending and pending[0][0] <= each.submitted:
                _, number, one = heapq.heappop(pending)
                insort(over, (number, one), key=lambda pair: pair[0])
            line = self.lines[place]
            known = [one for _, one in over[-1000:]]
            now = self.shown.get(line.number, plan)
            yield line, known, now, guess(known, now, line.procs, line.asked)
            heapq.heappush(pending, (line.start, place, Seen(plan, line.wait, line.procs, line.asked, line.start)))


def _past(line: Line) -> Past:
    return Past(line.submit, line.start, line.end, line.procs, line.asked)


def band(waits: Sequence[float]) -> Guess:
    tenths = quantiles(waits, n=10, method="inclusive") if len(waits) > 1 else [0.0] * 9
    return Guess(tenths[4], tenths[0], tenths[8], 0.0, len(waits))


def measured(known: Known) -> dict[str, list[tuple[float, Guess]]]:
    """Of each way to guess: waits, and what was guessed."""
    found: dict[str, list[tuple[float, Guess]]] = {
        "median of all": [],
        "last 20 of the queue": [],
        "the plan alone": [],
        "noria when": [],
    }
    queues: dict[int, int] = {line.number: line.queue for line in known.lines}
    waits_of: dict[int, list[float]] = {}
    everything: list[float] = []
    starts: list[tuple[float, Line]] = []
    for place, (line, _, plan, ours) in enumerate(known.walk()):
        while starts and starts[0][0] <= line.submit:
            one = heapq.heappop(starts)[1]
            waits_of.setdefault(queues[one.number], []).append(one.wait)
            insort(everything, one.wait)
        if place >= WARM:
            found["median of all"].append((line.wait, _sorted_band(everything)))
            found["last 20 of the queue"].append((line.wait, band(waits_of.get(line.queue, [0.0, 0.0])[-20:])))
            found["the plan alone"].append((line.wait, Guess(plan, plan, plan, plan, 0)))
            found["noria when"].append((line.wait, ours))
        heapq.heappush(starts, (line.start, line))
    return found


def _sorted_band(waits: Sequence[float]) -> Guess:
    at = [waits[min(len(waits) - 1, int(part * len(waits)))] for part in (0.1, 0.5, 0.9)]
    return Guess(at[1], at[0], at[2], 0.0, len(waits))


def table(found: dict[str, list[tuple[float, Guess]]]) -> str:
    head = ["", "median error, all", "median error of those that waited", "mean error", "in the 80 % range", "median width"]
    rows = [head, ["--"] * len(head)]
    for name, pairs in found.items():
        errors = [abs(wait - each.median) for wait, each in pairs]
        late = [abs(wait - each.median) for wait, each in pairs if wait >= 60]
        inside = sum(each.low - 30 <= wait <= each.high + 30 for wait, each in pairs) / len(pairs)
        width = median(each.high - each.low for _, each in pairs)
        rows.append(
            [
                name,
                f"{median(errors) / 60:.1f} min",
                f"{median(late) / 60:.0f} min",
                f"{sum(errors) / len(errors) / 60:.0f} min",
                f"{inside:.0%}",
                f"{width / 60:.0f} min",
            ]
        )
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", nargs="?", type=Path, help="a trace in Standard Workload Format")
    parser.add_argument("--jobs", type=int, default=6000, help="of a synthetic trace")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--write", type=Path, help="keep the synthetic trace here")
    args = parser.parse_args()
    text = args.trace.read_text() if args.trace else written(synthetic(args.jobs, 256, args.seed), 256)
    if args.write:
        args.write.write_text(text)
    lines, capacity = read(text)
    waits = sorted(line.wait for line in lines)
    print(f"{len(lines):,} jobs on {capacity}; {1 - bisect_left(waits, 60) / len(waits):.0%} waited a minute or more, half of these "
          f"{median([wait for wait in waits if wait >= 60] or [0]) / 60:.0f} min or more\n", file=sys.stdout)  # fmt: skip
    for share, shown, what in (
        (1.0, False, "all jobs are in the record"),
        (0.3, False, "three of ten jobs are in the record"),
        (0.3, True, "three of ten jobs are in the record, and the scheduler shows the others"),
    ):
        start = time.monotonic()
        print(
            f"{what}\n\n{table(measured(Known(lines, capacity, share, args.seed, shown=shown)))}\n({time.monotonic() - start:.0f} s)\n"
        )


if __name__ == "__main__":
    main()
