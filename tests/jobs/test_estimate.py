"""When jobs start: plans by hand, and guesses against a trace that a scheduler has made (bench/waits.py)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from msgspec.structs import replace

from noria.jobs.dialect import Other
from noria.jobs.estimate import Past, Seen, accuracy, among, guess, history, plan, replayed


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "bench"))
    yield import_module("waits")
    sys.modules.pop("waits")


@pytest.mark.parametrize(("running", "waiting", "devices", "seconds", "starts"), [
    ([], [], 8, 100, 0),
    ([(50, 4)], [], 8, 100, 50),  # Four of eight are taken.
    ([(50, 4)], [], 4, 100, 0),
    ([(50, 4), (70, 4)], [], 8, 100, 70),
    ([(50, 8)], [(8, 30)], 1, 100, 80),  # Behind one that needs all.
    ([(50, 4)], [(8, 30)], 4, 50, 0),  # Before it, in a gap.
    ([(50, 4)], [(8, 30)], 4, 51, 80),  # Too long for the gap.
    ([(50, 4)], [(9, 30)], 4, 1000, 0),  # One that never fits holds nobody up.
    ([(50, 8)], [(4, 100), (4, 20)], 4, 10, 70),
    ([(50, 4)], [], 80, 10, 50),
])  # fmt: skip
def test_a_plan_gives_each_job_the_first_place_where_it_fits(
    running: list[tuple[float, int]], waiting: list[tuple[int, float]], devices: int, seconds: float, starts: float
) -> None:
    assert plan(8, running, waiting, devices, seconds) == starts


def test_what_a_scheduler_shows_is_planned_with() -> None:
    """Eight GPUs: four run for at most 100 s more, and one waits that needs all; jobs take half of their limits."""
    others = [
        Other("1", "eve", True, 1, 8, 4, 100),
        Other("2", "bob", False, 1, 8, 8, 60),
        Other("3", "eve", True, 1, 64, 0, None),
    ]
    assert among(others, 4, (8, 10), 0.5, 1000, gpus=True) == 80
    assert among(others, 4, (4, 100), 0.5, 1000, gpus=True) == 0
    assert among(others, 4, (4, 102), 0.5, 1000, gpus=True) == 80
    assert among([], 4, (4, 10), 0.5, 1000, gpus=True) == 0
    assert among([], 4, (8, 10), 0.5, 1000, gpus=True) == 500  # Who has the other four is not known.


def test_a_guess_is_made_of_jobs_like_it() -> None:
    large = [Seen(3600, 7200 + 10 * number, 64, 3600, 0) for number in range(50)]
    small = [Seen(0, number, 1, 3600, 0) for number in range(50)]
    known = [each for pair in zip(large, small, strict=True) for each in pair]
    found = guess(known, 3600, 64, 3600)
    assert 7200 <= found.low < found.median < found.high < 7700 and found.like < 60
    assert guess(known, 0, 1, 3600).high < 60
    assert guess(known[:4], 3600, 64, 3600).like == 0


def test_nothing_is_used_that_was_not_known_yet() -> None:
    record = [Past(10 * number, 10 * number + 50, 10 * number + 90 + number % 7, 1 + number % 4, 100) for number in range(80)]
    changed = [
        *record[:60],
        *(replace(each, started=each.submitted + 5000, ended=each.submitted + 9000, devices=4) for each in record[60:]),
    ]
    first, second = ([planned for _, planned in replayed(each, 4)] for each in (record, changed))
    assert first[:60] == second[:60] and first[70:] != second[70:]


def test_jobs_that_waited_for_something_else_say_nothing() -> None:
    record = [Past(10 * number, 10 * number + 50, 10 * number + 60, 1, 100, queued=number % 2 == 0) for number in range(20)]
    assert len(history(record, 4)) == 10


def test_nothing_is_planned_for_jobs_that_still_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plan of many jobs of all sizes takes long, and nothing can be learned of one that has not started."""
    waiting = [Past(number, None, None, 1 + number % 7, 100.0 + number) for number in range(500)]
    asked: list[float] = []
    monkeypatch.setattr("noria.jobs.estimate.plan", lambda *words: asked.append(1.0) or 0.0)
    assert len(history([*waiting, Past(500, 510, 520, 1, 100)], 8)) == 1 and len(asked) == 1


def test_a_trace_is_written_and_read(bench: ModuleType) -> None:
    lines = bench.synthetic(200, 256, 3)
    again, capacity = bench.read(bench.written(lines, 256) + "201 1 -1 0 1 -1 -1 1 60 -1 0 1 1 1 1 -1 -1 -1\n")
    assert capacity == 256 and again == lines


def test_no_scheduler_gives_more_than_there_is(bench: ModuleType) -> None:
    lines = bench.synthetic(600, 256, 4)
    changes = sorted(change for each in lines for change in ((each.start, 1, each.procs), (each.end, 0, -each.procs)))
    used = [sum(change[2] for change in changes[: place + 1]) for place in range(len(changes))]
    assert 200 < max(used) <= 256 and all(each.wait >= 0 for each in lines)


def test_guesses_are_better_than_what_one_would_say_without(bench: ModuleType) -> None:
    found = bench.measured(bench.Known(bench.synthetic(1500, 256, 5), 256, 1.0, 1))
    errors = {name: sum(abs(wait - each.median) for wait, each in pairs) for name, pairs in found.items()}
    ours = found["noria when"]
    assert errors["noria when"] < 0.8 * min(errors["median of all"], errors["last 20 of the queue"])
    assert 0.75 < sum(each.low - 30 <= wait <= each.high + 30 for wait, each in ours) / len(ours) < 0.95


def test_how_good_guesses_were_is_told_from_the_record_alone() -> None:
    steady = [Seen(60, 100 + number % 10, 1, 3600, 1000.0 * number + 100) for number in range(200)]
    share, error, count = accuracy(steady)
    assert share > 0.75 and error < 10 and count == 100
    wild = [replace(each, waited=each.waited * 50 ** (number % 2)) for number, each in enumerate(steady)]
    assert accuracy(wild)[1] > 1000 and accuracy([]) == (0.0, 0.0, 0)
