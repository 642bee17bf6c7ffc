"""When a schedule fires. Pure: what it is told of is the time up to which it was asked before, and now.

Days when clocks change are as Debian's cron has them, which cronsim follows: a time that does not exist comes at the first minute after the
gap, one that is there twice comes once, and times that a `*` says for every hour or minute go on through both.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from difflib import get_close_matches
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from noria.errors import Invalid
from noria.store.settling import Time
from noria.wire.rules import Missed

GRACE_MS = 60_000
"""A time that is seen so late was missed: nobody was up, or the clock was set."""
COUNTED = 10_000
"""So many missed times are counted."""
ALL = 500
"""So many missed times are caught up in one transaction."""
_SHORT = {
    "@hourly": "0 * * * *", "@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@weekly": "0 0 * * 0", "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *",
}  # fmt: skip
_HELP = "Write five fields, minute hour day month weekday, as in '30 2 * * mon-fri', or @daily."


class Schedule:
    """A cron expression in a time zone. Times are milliseconds since 1970. Raises Invalid."""

    def __init__(self, text: str, zone: str = "UTC") -> None:
        self.text, self.zone = text, _zone(zone)
        self._fields = _SHORT.get(text.strip().lower(), text)
        if len(self._fields.split()) != 5:
            raise Invalid(f"'{text[:80]}' is no cron expression: it has {len(self._fields.split())} fields.", _HELP)
        self.after(0)

    def after(self, time: int) -> int:
        """The first time after this one."""
        return next(self._from(time))

    def _from(self, time: int, *, back: bool = False) -> Iterator[int]:
        from cronsim import CronSim, CronSimError

        try:
            for found in CronSim(self._fields, datetime.fromtimestamp(time / 1000, self.zone), reverse=back):
                yield int(found.timestamp()) * 1000
        except CronSimError as error:
            raise Invalid(f"'{self.text[:80]}' is no cron expression ({str(error).lower()}).", _HELP) from None

    def between(self, first: int, last: int, most: int) -> list[int]:
        """The times after `first` up to `last`, at most so many."""
        found: list[int] = []
        for time in self._from(first):
            if time > last or len(found) == most:
                break
            found.append(time)
        return found

    def last(self, time: int) -> int:
        """The last time up to this one."""
        found = next(each for each in self._from(time + 1000, back=True) if each <= time)
        while (following := self.after(found)) <= time:  # Backwards, a day on which clocks change may look otherwise.
            found = following
        return found

    def said(self, time: int) -> str:
        """A time as people of this zone write it."""
        return datetime.fromtimestamp(time / 1000, self.zone).isoformat(timespec="minutes")


@lru_cache(maxsize=1024)
def at(text: str, zone: str) -> Schedule:
    return Schedule(text, zone)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        known = sorted(available_timezones())
        close = get_close_matches(name, known, 1) or [each for each in known if each.lower().endswith(f"/{name.lower()}")][:1]
        cure = f"Did you mean '{close[0]}'?" if close else "Write it as in Europe/Berlin, or UTC."
        raise Invalid(f"There is no time zone '{name[:60]}'.", cure) from None


def due(schedule: Schedule, missed: Missed, following: int, now: int) -> tuple[list[Time], int | None]:
    """What to tell of: `following` is the next time that was not told of, and has come. Returns it and the next time then."""
    times = [following, *schedule.between(following, now, COUNTED)]
    if missed == "all":
        told = [time_of(schedule, time, late=now - time > GRACE_MS) for time in times[:ALL]]
        return told, schedule.after(told[-1].time)
    uncounted = len(times) > COUNTED and schedule.after(times[-1]) <= now
    newest = schedule.last(now) if uncounted else times[-1]
    if missed == "once":
        late = now - newest > GRACE_MS
        return [time_of(schedule, newest, late=late, missed=len(times) - 1)], schedule.after(newest)
    late_ones = [time for time in times if now - time > GRACE_MS]
    until = schedule.last(now - GRACE_MS - 1) if uncounted else max(late_ones, default=0)
    told = [_skipped(schedule, len(late_ones), following, until, more=uncounted)] if late_ones else []
    fresh = schedule.between(max(following, now - GRACE_MS) - 1, now, COUNTED)
    return told + [time_of(schedule, time, late=False) for time in fresh], schedule.after(newest)


def time_of(schedule: Schedule, time: int, *, late: bool, missed: int = 0) -> Time:
    """A time of a schedule to tell of. missed: how many before it stand behind it."""
    return Time(time, {"scheduled": time, "at": schedule.said(time), "zone": str(schedule.zone), "late": late, "missed": missed})


def _skipped(schedule: Schedule, count: int, first: int, last: int, *, more: bool) -> Time:
    many = f"{count} times" if count > 1 else "One time"
    which = f"from {schedule.said(first)} to {schedule.said(last)}" if count > 1 else schedule.said(first)
    sentence = f"{'More than ' if more else ''}{many} missed, {which}: skipped, as the rule says."
    subject = {"scheduled": last, "at": schedule.said(last), "missed": count - 1, "late": True, "skipped": sentence}
    return Time(last, subject, skip=True)
