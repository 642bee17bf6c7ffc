"""Schedules: each of their times exactly once, whatever clocks, servers and people do."""

from __future__ import annotations

import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noria.automation.schedule import ALL, GRACE_MS, Schedule, due
from noria.errors import Invalid
from noria.server import rules as work
from noria.store import firings, settling, steps
from noria.store.store import Store
from noria.wire import rules as wire

DAY = 86_400_000
ZONES = ("Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Casablanca", "UTC")


def ms(*when: int, zone: str = "UTC", fold: int = 0) -> int:
    return int(datetime(*when, tzinfo=ZoneInfo(zone), fold=fold).timestamp() * 1000)


def utc(time: int) -> str:
    return datetime.fromtimestamp(time / 1000, UTC).strftime("%m-%d %H:%M")


@pytest.mark.parametrize(
    ("text", "since", "expected"),
    [
        # In Berlin 02:00 to 03:00 do not exist on March 29: what is due then comes at 03:00, which is 01:00 UTC.
        ("30 2 * * *", (2026, 3, 28), ["03-28 01:30", "03-29 01:00", "03-30 00:30"]),
        ("0 * * * *", (2026, 3, 29, 1), ["03-29 01:00", "03-29 02:00", "03-29 03:00"]),
        # On October 25 they are there twice: what is due then comes once, and what comes every hour does so in both.
        ("30 2 * * *", (2026, 10, 24), ["10-24 00:30", "10-25 00:30", "10-26 01:30"]),
        ("0 * * * *", (2026, 10, 25, 1), ["10-25 00:00", "10-25 01:00", "10-25 02:00"]),
    ],
)
def test_days_on_which_clocks_change(text: str, since: tuple[int, ...], expected: list[str]) -> None:
    schedule = Schedule(text, "Europe/Berlin")
    assert [utc(time) for time in schedule.between(ms(*since, zone="Europe/Berlin"), 1 << 60, 3)] == expected


@settings(max_examples=60, deadline=None)
@given(
    text=st.sampled_from(["30 2 * * *", "*/30 * * * *", "15 1,2,3 * * *", "0 0 * * 0", "45 1 1 * *", "*/7 0-3 * * *"]),
    zone=st.sampled_from(ZONES),
    start=st.integers(ms(2025, 1, 1), ms(2027, 1, 1)),
)
def test_a_schedule_that_is_asked_anew_says_the_same_as_one_that_goes_on(text: str, zone: str, start: int) -> None:
    schedule, times, time = Schedule(text, zone), [], start
    for _ in range(40):
        time = schedule.after(time)
        times.append(time)
    assert times == schedule.between(start, 1 << 60, 40)
    assert times == sorted(set(times))
    assert schedule.last(times[-1]) == times[-1]
    assert schedule.last(times[-1] - 1) == times[-2]


@pytest.mark.parametrize(
    ("text", "zone", "said"),
    [
        ("61 * * * *", "UTC", "'61 * * * *' is no cron expression (bad minute)."),
        ("* * *", "UTC", "it has 3 fields"),
        ("*/5 * * * * *", "UTC", "it has 6 fields"),
        ("0 0 30 2 *", "UTC", "bad day-of-month"),
        ("0 0 * * funday", "UTC", "bad day-of-week"),
        ("@daily", "Europe/Berln", "There is no time zone 'Europe/Berln'. Did you mean 'Europe/Berlin'?"),
        ("@daily", "Berlin", "Did you mean 'Europe/Berlin'?"),
        ("@daily", "../../etc/passwd", "There is no time zone"),
    ],
)
def test_what_is_no_schedule_is_said_in_a_sentence(text: str, zone: str, said: str) -> None:
    with pytest.raises(Invalid) as caught:
        Schedule(text, zone)
    assert said in caught.value.message


def test_what_was_missed_is_caught_up_once_or_all_or_skipped() -> None:
    schedule, first = Schedule("0 * * * *"), ms(2026, 1, 1, 1)
    now = ms(2026, 1, 3, 0, 30)
    for missed, fired in (("once", 1), ("all", 48), ("skip", 0)):
        told, following = due(schedule, missed, first, now)  # type: ignore[arg-type]
        assert following == ms(2026, 1, 3, 1)
        assert len([each for each in told if not each.skip]) == fired
        assert sum(1 + each.subject["missed"] for each in told) == 48
    on_time, _ = due(schedule, "skip", first, first + GRACE_MS)
    assert [(each.time, each.skip, each.subject["late"]) for each in on_time] == [(first, False, False)]


def test_years_of_minutes_are_caught_up_in_parts_and_skipped_at_once() -> None:
    schedule, first, now = Schedule("* * * * *"), ms(2020, 1, 1), ms(2026, 1, 1)
    told, following = due(schedule, "all", first, now)
    assert (len(told), following) == (ALL, told[-1].time + 60_000)
    told, following = due(schedule, "once", first, now)
    assert (len(told), following) == (1, now + 60_000)
    told, following = due(schedule, "skip", first, now)
    assert "More than 1" in told[0].subject["skipped"]
    assert (len(told), following) == (3, now + 60_000)  # The last minute and the one before it are on time.


class World:
    """Two servers at one database, a clock that jumps, and an engine that does what it is given."""

    def __init__(self, where: Path | str, seed: int, time: int) -> None:
        self.where, self.random, self.time, self.latest = where, random.Random(seed), time, time
        self.stores = [Store(where, power=False), Store(where, power=False)]
        self.keys: Counter[str] = Counter()

    def add(self, rule: wire.Rule) -> None:
        self.stores[0].write(lambda conn: work.add(conn, wire.Add([rule]), "ada", self.time)).result()

    def go_on(self) -> None:
        """Some hours, and now and then a jump, or a server that ends and begins again."""
        dice = self.random.random()
        jump = DAY * (3 if dice < 0.01 else -2 if dice < 0.02 else 20 if dice < 0.022 else 0)
        self.time += jump or int(self.random.random() * 0.6 * DAY)
        self.latest = max(self.latest, self.time)
        if self.random.random() < 0.01:
            number = self.random.randrange(2)
            self.stores[number].close()
            self.stores[number] = Store(self.where, power=False)
        self.look()

    def look(self) -> None:
        """Both servers at once, or one of them; then an engine takes what there is."""
        both = self.random.random() < 0.1
        for store in self.stores if both else [self.random.choice(self.stores)]:
            store.write(lambda conn: work.settle(conn, self.time))
        store = self.random.choice(self.stores)
        while found := store.write(lambda conn: work.claim(conn, wire.Claim("e", 50), self.time)).result().work:
            for each in found:
                self.do(store, each)

    def do(self, store: Store, each: wire.Work) -> None:
        self.keys[each.key] += 1
        said = wire.Report("e", each.firing.id, each.turn, each.key, "done", room=False)
        store.write(lambda conn: steps.report(conn, said, self.time)).result()

    def fired(self, name: str) -> list[wire.Firing]:
        found: list[wire.Firing] = []
        token = ""
        while True:
            asked = wire.History(name, max_results=1000, page_token=token)
            some = self.stores[0].read(lambda conn: firings.history(conn, asked))  # noqa: B023
            found, token = found + some.firings, some.next_page_token
            if not token:
                return found[::-1]

    def close(self) -> None:
        for store in self.stores:
            store.close()


RULES = [
    wire.Rule("nightly", {"schedule": "30 2 * * *", "zone": "Europe/Berlin"}, [{"note": "x"}], missed="all"),
    wire.Rule("quarters", {"schedule": "0 */6 * * *", "zone": "America/New_York"}, [{"note": "x"}], missed="once"),
    wire.Rule("working days", {"schedule": "0 9 * * mon-fri", "zone": "Asia/Kathmandu"}, [{"note": "x"}], missed="skip"),
]


def simulate(where: Path | str, days: int, seed: int) -> None:
    begin = ms(2026, 1, 1)
    world = World(where, seed, begin)
    for rule in RULES:
        world.add(rule)
    while world.time < begin + days * DAY:
        world.go_on()
    check(world, begin)
    world.close()


def check(world: World, begin: int) -> None:
    assert set(world.keys.values()) == {1}, "an action ran twice"
    for rule in RULES:
        schedule = Schedule(rule.when["schedule"], rule.when["zone"])
        times = schedule.between(begin, world.latest, 100_000)
        found = world.fired(rule.name)
        own = [each.event.time for each in found]
        assert own == sorted(set(own)), f"{rule.name}: a time came twice, or out of order"
        assert set(own) <= set(times)
        done = [each for each in found if each.state == "done"]
        assert len(found) == len(done) + sum(each.state == "skipped" for each in found)
        if rule.missed == "all":
            assert own == times
        # Each time has its firing, or is counted by the one that stands for it.
        assert sum(1 + each.skipped for each in found) == len(times), rule.name
        assert rule.missed != "once" or len(done) == len(found)


def test_each_time_of_two_months_comes_once(database: Path | str) -> None:
    simulate(database, 60, seed=7)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_time_of_a_thousand_days_comes_once(database: Path | str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "KEEP_MS", 10_000 * DAY)  # They are counted at the end.
    simulate(database, 1000, seed=1)


def test_what_is_long_over_is_forgotten_and_does_not_come_again(database: Path | str) -> None:
    world = World(database, 3, ms(2026, 1, 1))
    world.add(RULES[0])
    for _ in range(4):
        world.time += 70 * DAY
        world.look()
        world.look()
    world.time -= 40 * DAY
    world.look()
    world.time += 80 * DAY
    world.look()
    times = [each.event.time for each in world.fired("nightly")]
    assert min(times) > world.time - settling.KEEP_MS - 71 * DAY
    assert set(world.keys.values()) == {1}
    assert len(world.keys) == 320
    world.close()


def test_two_servers_that_look_at_the_same_moment_fire_once(database: Path | str) -> None:
    world = World(database, 0, ms(2026, 1, 1))
    world.add(RULES[0])
    with ThreadPoolExecutor(8) as pool:
        for day in range(1, 11):
            time = ms(2026, 1, day, 1, 30)
            list(pool.map(lambda store: store.write(lambda conn: work.settle(conn, time)).result(), world.stores * 4))  # noqa: B023
    assert [each.event.time for each in world.fired("nightly")] == [ms(2026, 1, day, 1, 30) for day in range(1, 11)]
    world.close()


def test_a_clock_that_is_set_back_holds_nothing_up(database: Path | str) -> None:
    """A step that is to be asked for again in a moment is, although the clock says that this is in a week."""
    world = World(database, 0, ms(2026, 1, 8))
    world.add(wire.Rule("by hand", {"manual": True}, [{"note": "x"}]))
    store: Any = world.stores[0]
    store.write(lambda conn: work.fire(conn, wire.Fire("by hand"), "ada", world.time)).result()
    (given,) = store.write(lambda conn: work.claim(conn, wire.Claim("e"), world.time)).result().work
    waiting = wire.Report("e", given.firing.id, given.turn, given.key, "waiting")
    store.write(lambda conn: steps.report(conn, waiting, world.time)).result()
    world.time -= 7 * DAY
    assert not store.write(lambda conn: work.claim(conn, wire.Claim("e"), world.time)).result().work
    world.time += 2 * steps.LEASE_MS
    (again,) = store.write(lambda conn: work.claim(conn, wire.Claim("e"), world.time)).result().work
    assert again.key == given.key
    world.close()
