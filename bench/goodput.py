"""What share of a month 1,000 GPUs train for, on a clock that is simulated: how often to save, and what to do after a failure, is
decided by Noria's own code. `python bench/goodput.py` prints the tables of docs/goodput.md; all is drawn from seeds."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from random import Random
from statistics import mean, quantiles

from msgspec import Struct
from msgspec.structs import asdict

from noria.client.interval import FIRST, efficiency, estimate, interval, pause
from noria.jobs import recover
from noria.types import Cause, JobSpec, Try

HOUR, DAY = 3600.0, 86_400.0
MONTH = 30 * DAY
META = 7.9 * HOUR * 1024
"""GPU-seconds for a failure: 7.9 h for jobs of 1,024 GPUs (Kokolis et al., "Revisiting reliability in large-scale machine learning
research clusters", 2024)."""


class Site(Struct, frozen=True):
    """A job, and what happens to it. Times in seconds.

    mttf: of the whole job, as long as all nodes are sound. dies: how often a failure takes the node with it; of the others the job
    starts again where it is. bad: so many of its nodes fail every `bad_mttf` each. named: how
    often the node that is blamed is the one that failed; any other may be named instead. limit, wait: the queue ends the job after
    `limit`, failures and all, and it waits so long whenever it is submitted again. warned: it saves just before the limit. spares:
    nodes besides those that the job takes. A node that failed is there again at once.
    """

    checkpoint: float = 10.0
    restart: float = 60.0
    mttf: float = META / 1000
    nodes: int = 125
    spares: int = 125
    dies: float = 0.5
    bad: int = 0
    bad_mttf: float = 12 * HOUR
    named: float = 1.0
    limit: float = math.inf
    wait: float = 0.0
    warned: bool = True

    @property
    def best(self) -> float:
        """What nobody could do better than, on average: sound nodes, no queue, and the mean time between failures known."""
        return efficiency(interval(self.checkpoint, self.mttf), self.checkpoint, self.restart, self.mttf)


class Spent(Struct):
    """Where a month went, in seconds."""

    useful: float = 0.0
    checkpoint: float = 0.0
    lost: float = 0.0
    restart: float = 0.0
    queue: float = 0.0
    stopped: float = 0.0
    failures: int = 0

    @property
    def share(self) -> float:
        return self.useful / MONTH


Every = Callable[[Sequence[Try]], float]
"""Seconds between checkpoints in the next try, after those that are over."""
Blamed = Callable[[Sequence[Try]], Sequence[str]]
"""The nodes to do without after these tries; `recover.blamed` is Noria's."""


def known(site: Site, factor: float = 1.0) -> Every:
    """Who knows the mean time between failures, or is wrong by a factor and stays so."""
    always = pause(site.checkpoint, site.mttf * factor)
    return lambda tries: always


def learned(site: Site, factor: float = 1.0) -> Every:
    """Who begins with a guess that is wrong by a factor, and counts."""
    return lambda tries: pause(site.checkpoint, estimate(site.mttf * factor, recover.used(tries), _failures(tries)))


def told(site: Site) -> Every:
    """What Noria's launcher tells: it knows how many nodes there are, and what has happened."""
    return lambda tries: pause(site.checkpoint, recover.mtbf(tries, site.nodes))


def _failures(tries: Sequence[Try]) -> int:
    return sum(each.cause != "time_limit" for each in tries)


def nobody(tries: Sequence[Try]) -> Sequence[str]:
    return ()


SPEC = JobSpec(["train"])


def month(site: Site, every: Every, blamed: Blamed, seed: int) -> Spent:
    return _Month(site, every, blamed, Random(seed)).run()


class _Month:
    """One job on a clock that jumps from event to event. Failures have no memory, so that the next is drawn anew on each event."""

    def __init__(self, site: Site, every: Every, blamed: Blamed, random: Random) -> None:
        self.site, self.every, self.blamed, self.random = site, every, blamed, random
        names = [f"node{number}" for number in range(site.nodes + site.spares)]
        self.rates = {name: 1 / (site.mttf * site.nodes) + (1 / site.bad_mttf if place < site.bad else 0.0)
                      for place, name in enumerate(names)}  # fmt: skip
        self.now, self.until, self.failure = 0.0, site.limit, math.inf
        self.tries, self.spent = list[Try](), Spent()
        self._take(names)

    def run(self) -> Spent:
        while self.now < MONTH:
            began, self.saved = self.now, False
            if self._pass("restart", self.site.restart):
                self._train()
            self._over(began)
        return self.spent

    def _train(self) -> None:
        """Intervals of work with a checkpoint after each, until something ends them; what is not saved then is lost."""
        work, usual = FIRST, self.every(self.tries)
        while True:
            last = self.until - self.now - self.site.checkpoint if self.site.warned else math.inf
            if last <= work:
                self._cycle(max(0.0, last))
                return
            if not self._cycle(work):
                return
            work = usual

    def _cycle(self, work: float) -> bool:
        whole = work + self.site.checkpoint
        spent = min(self.failure, self.until, MONTH) - self.now
        if spent < whole:
            self._pass("useful" if self.now + spent >= MONTH else "lost", whole)
            return False
        self.spent.useful += work
        self.spent.checkpoint += self.site.checkpoint
        self.now, self.saved = self.now + whole, True
        return True

    def _pass(self, what: str, seconds: float) -> bool:
        """Spend so much time, or less if something ends the try or the month."""
        until = min(self.now + seconds, self.failure, self.until, MONTH)
        setattr(self.spent, what, getattr(self.spent, what) + until - self.now)
        whole, self.now = until >= self.now + seconds, until
        return whole

    def _over(self, began: float) -> None:
        """A try has ended: by a failure, by its limit, or because the month is over. What then, is Noria's policy."""
        if self.now >= MONTH:
            return
        failed = self.now >= self.failure
        self.spent.failures += failed
        self.tries.append(self._told(began, failed))
        verdict = recover.verdict(SPEC, self.tries, resumes=True, stays=True)
        if verdict == "here":
            self._draw()
        else:
            self.failure = self.until = math.inf
            without = set(self.blamed(self.tries))
            order = dict.fromkeys([*self.used, *self.rates])  # Those of before as far as they may be had.
            left = [name for name in order if name not in without]
            over = verdict == "over" or len(left) < self.site.nodes
            self._pass("stopped" if over else "queue", math.inf if over else self.site.wait)
            self.until = self.now + self.site.limit
            self._take(left)

    def _told(self, began: float, failed: bool) -> Try:
        cause: Cause = (
            "time_limit" if not failed else "node_failure" if self.random.random() < self.site.dies else "communication"
        )
        host, times = self._blame() if failed else "", (round(self.now * 1000), round(began * 1000))
        return Try(len(self.tries) + 1, cause, *times, code=1, nodes=self.used, host=host, saved=self.saved)

    def _blame(self) -> str:
        """The node that failed, or now and then another."""
        failed = self.random.choices(self.used, [self.rates[name] for name in self.used])[0]
        return failed if self.random.random() < self.site.named else self.random.choice(self.used)

    def _take(self, names: Sequence[str]) -> None:
        """The nodes of what is submitted."""
        self.used = list(names[: self.site.nodes])
        self._draw()

    def _draw(self) -> None:
        self.failure = self.now + self.random.expovariate(sum(self.rates[name] for name in self.used))


def months(site: Site, every: Every, blamed: Blamed, count: int) -> list[Spent]:
    return [month(site, every, blamed, seed) for seed in range(count)]


def percent(spent: Sequence[Spent]) -> str:
    return f"{100 * mean(each.share for each in spent):.1f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, ["--"] * len(head), *rows))


Run = Callable[[Site, Every, Blamed], list[Spent]]


def reference(run: Run, blamed: Blamed) -> str:
    """Where the time goes, by whoever knows how often the job fails and by whoever learns it."""
    site, rows = Site(), []
    for who, every in (("known", known(site)), ("Noria", told(site)), ("guess 10 times too large, learned", learned(site, 10)),
                       ("guess 10 times too small, learned", learned(site, 0.1))):  # fmt: skip
        found = run(site, every, blamed)
        parts = [f"{100 * mean(asdict(each)[name] for each in found) / MONTH:.2f}" for name in ("checkpoint", "lost", "restart")]
        worst = 100 * quantiles((each.share for each in found), n=20)[0]
        rows.append([who, f"{mean(each.failures for each in found):.0f}", *parts, f"**{percent(found)}**", f"{worst:.1f}"])
    rows.append(["Young/Daly optimum", "", "", "", "", f"**{100 * site.best:.1f}**", ""])
    return table(
        ["mean time between failures", "failures", "checkpoints", "lost", "restarts", "useful", "worst month of 20"], rows
    )


def costs(run: Run, blamed: Blamed) -> str:
    rows = []
    for checkpoint in (1.0, 10.0, 60.0, 300.0):
        cells = []
        for restart in (10.0, 60.0, 300.0, 1200.0):
            site = Site(checkpoint, restart)
            cells.append(f"{percent(run(site, told(site), blamed))} of {100 * site.best:.1f}")
        rows.append([f"{checkpoint:.0f} s", f"{interval(checkpoint, Site().mttf) / 60:.0f} min", *cells])
    return table(["checkpoint", "saved every", *(f"restart {each} s" for each in (10, 60, 300, 1200))], rows)


def failures(run: Run, blamed: Blamed) -> str:
    rows = []
    for hours in (1, 2, 4, 7.9, 24, 72):
        sites = [Site(checkpoint, mttf=hours * HOUR) for checkpoint in (1.0, 10.0, 60.0, 300.0)]
        cells = [f"{percent(run(site, told(site), blamed))} of {100 * site.best:.1f}" for site in sites]
        rows.append([f"{hours} h", *cells])
    return table(["fails every", *(f"checkpoint {each} s" for each in (1, 10, 60, 300))], rows)


def guesses(run: Run, blamed: Blamed) -> str:
    site, rows = Site(), []
    for factor in (1 / 64, 1 / 16, 1 / 4, 1, 4, 16, 64):
        name = f"{factor:.0f} times" if factor >= 1 else f"1/{1 / factor:.0f}"
        rows.append([name, *(percent(run(site, policy(site, factor), blamed)) for policy in (known, learned))])
    return table(["the guess is", "and is kept", "and is learned from"], rows)


def limits(run: Run, blamed: Blamed) -> str:
    rows = []
    for hours in (1, 4, 12, 24, 72):
        cells = []
        for wait in (0, 600, 3600):
            for warned in (True, False):
                site = Site(limit=hours * HOUR, wait=wait, warned=warned)
                cells.append(percent(run(site, told(site), blamed)))
        rows.append([f"{hours} h", *cells])
    head = [f"{what}, wait {wait} min" for wait in (0, 10, 60) for what in ("saves first", "does not")]
    return table(["time limit", *head], rows)


def bad_nodes(run: Run, blamed: Blamed) -> str:
    rows = []
    for bad in (0, 1, 2, 4):
        cells = []
        for spares, named in ((4, 1.0), (125, 1.0), (125, 0.7)):
            for policy in (nobody, blamed):
                site = Site(bad=bad, named=named, spares=spares)
                found = run(site, told(site), policy)
                cells.append(f"{percent(found)} ({mean(each.failures for each in found):.0f})")
        rows.append([str(bad), *cells])
    head = [f"{what}, {where}" for where in ("4 spares", "125 spares", "125 spares, 70 % named") for what in ("kept", "left out")]
    return table(["bad nodes", *head], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--months", type=int, default=40, help="simulated months for each figure")
    count = parser.parse_args().months
    start, run = time.monotonic(), partial(months, count=count)
    for part in (reference, costs, failures, guesses, limits, bad_nodes):
        print(f"{part.__name__.replace('_', ' ')}, % of the time\n\n{part(run, recover.blamed)}\n")
    print(f"{count} months for each figure, {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()
