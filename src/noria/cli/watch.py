"""Following a run: what is known of it at first, then each point as the server tells of it, until the run ends.

The stream is opened before the run is read, so that nothing falls between the two; what comes by both ways is known by its
time and step. When the server goes away, the stream is opened again as soon as one answers, and what was logged meanwhile is
asked for from each metric's last step on. No history is ever read whole.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click
import msgspec
from msgspec import Struct

from noria.cli import show
from noria.client.http import Server
from noria.errors import Unavailable
from noria.types import Metric, Run, RunStatus, number
from noria.wire import live, runs

if TYPE_CHECKING:
    from rich.console import Group

_OVER: set[RunStatus] = {"FINISHED", "FAILED", "KILLED"}
_PATIENCE_SECONDS = 600.0
_TICK_SECONDS = 0.5
_TREND = 24

_decode = msgspec.json.Decoder(live.Event, strict=False).decode


class Points(Struct, frozen=True):
    """New points, in the order in which they were logged."""

    points: list[Metric]


class Rewound(Struct, frozen=True):
    """The run went on from a checkpoint: its points at `step` and after it no longer hold."""

    step: int


class Gone(Struct, frozen=True):
    """The server does not answer, and will be asked again until it does."""

    why: str


Heard = Points | Rewound | Gone | Run
"""A Run is told first, and again whenever its fields changed; the last thing told is the run as it ended."""


def follow(connect: Callable[[], Server], run_id: str) -> Iterator[Heard]:
    """Raises Unavailable after ten minutes without a server; the server's own error if there is no such run.

    connect: a server of its own for each call. It may have another address after a restart.
    """
    watched = _Watched(run_id)
    lost = 0.0
    while True:
        try:
            for heard in watched.listen(connect):
                lost = 0.0
                yield heard
                if isinstance(heard, Run) and heard.info.status in _OVER:
                    return
            why = "The server has gone."
        except Unavailable as error:
            why = error.message
        if not lost:
            lost = time.monotonic()
            yield Gone(why)
        if time.monotonic() - lost > _PATIENCE_SECONDS:
            raise Unavailable(f"No server has answered for {show.span(_PATIENCE_SECONDS * 1000)}. {why}")
        time.sleep(_TICK_SECONDS)


class _Watched:
    """A run, and the newest point that was told of each of its metrics."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._seen: dict[str, Metric] = {}
        self._doubtful: set[str] = set()
        """Metrics of which the stream may still bring what was read already; the first news of one is the end of that."""
        self._began = False

    def listen(self, connect: Callable[[], Server]) -> Iterator[Heard]:
        """What one connection says."""
        ask, lines = connect(), connect().stream(live.WATCH, {"run_id": self._run_id})
        next(lines, b"")  # The server's greeting: from here on nothing is missed.
        yield from self._catch_up(ask)
        for event in (_decode(line[5:]) for line in lines if line.startswith(b"data:")):
            if event.type == "log":
                yield from self._tell([point for point in event.metrics if self._is_news(point)])
            elif event.type == "rewind" and event.step is not None:
                self._rewind(event.step)
                yield Rewound(event.step)
            else:
                run = self._get(ask)
                if event.type == "again" or run.info.status in _OVER:
                    yield from self._catch_up(ask)
                else:
                    yield run

    def _get(self, ask: Server) -> Run:
        return ask.call(runs.GET, runs.Get(self._run_id)).run

    def _catch_up(self, ask: Server) -> Iterator[Heard]:
        """The points that no stream brought, and the run. At first there are none of them: what was there before is no news."""
        run = self._get(ask)
        if not self._began:
            self._seen, self._began = {metric.key: metric for metric in run.data.metrics}, True
        missed = [point for metric in run.data.metrics if self._is_later(metric) for point in self._since(ask, metric)]
        yield from self._tell(sorted(missed, key=lambda point: (point.timestamp, point.step)))
        self._doubtful = set(self._seen)
        yield run

    def _since(self, ask: Server, metric: Metric) -> list[Metric]:
        known = self._seen.get(metric.key)
        begin = min(known.step, metric.step) if known else msgspec.UNSET
        p = ask.call(runs.CURVE, runs.Curve(self._run_id, metric.key, start_step=begin))
        points = [Metric(metric.key, v, t, s) for s, v, t in zip(p.steps, p.values, p.timestamps, strict=True)]
        return [point for point in points if self._is_later(point)]

    def _is_news(self, point: Metric) -> bool:
        if point.key in self._doubtful and not self._is_later(point):
            return False
        self._doubtful.discard(point.key)
        return True

    def _is_later(self, point: Metric) -> bool:
        known = self._seen.get(point.key)
        return known is None or (point.timestamp, point.step) > (known.timestamp, known.step)

    def _tell(self, points: list[Metric]) -> Iterator[Points]:
        for point in points:
            if self._is_later(point):
                self._seen[point.key] = point
        if points:
            yield Points(points)

    def _rewind(self, step: int) -> None:
        for key, point in self._seen.items():
            if point.step >= step and not key.startswith("system/"):  # The machine's count intervals; time is not rewound.
                self._seen[key] = msgspec.structs.replace(point, step=step - 1)


def print_lines(heard: Iterator[Heard], wanted: set[str]) -> RunStatus:
    """One line for each step of a batch; the status that the run ended with."""
    status: RunStatus = "RUNNING"
    for each in heard:
        if isinstance(each, Points):
            for line in _lines(_only(each.points, wanted)):
                click.echo(line)
        elif isinstance(each, Rewound):
            click.echo(f"went on from a checkpoint at step {each.step}; what came at and after it no longer holds")
        elif isinstance(each, Run):
            status = each.info.status
        _note(each)
        sys.stdout.flush()
    return status


def print_json(heard: Iterator[Heard], wanted: set[str]) -> RunStatus:
    """One JSON object a line: points as MLflow writes them, `rewind`, and the run's status when it changes."""
    status: RunStatus | None = None
    for each in heard:
        if isinstance(each, Points):
            for point in _only(each.points, wanted):
                _json(msgspec.structs.replace(point, value=number(float(point.value))))
        elif isinstance(each, Rewound):
            _json({"rewind": each.step})
        elif isinstance(each, Run) and each.info.status != status:
            status = each.info.status
            _json({"run_id": each.info.run_id, "status": status})
        _note(each)
        sys.stdout.flush()
    return status or "RUNNING"


def _json(value: Any) -> None:
    click.echo(msgspec.json.encode(value).decode())


def _note(heard: Heard) -> None:
    if isinstance(heard, Gone):
        click.echo(f"noria: {heard.why} Waiting for it…", err=True)


def print_table(heard: Iterator[Heard], wanted: set[str]) -> RunStatus:
    """A table of the metrics that is drawn anew while they change, for a terminal."""
    from rich.console import Console
    from rich.live import Live

    board = _Board(wanted)
    with Live(console=Console(highlight=False), refresh_per_second=8, get_renderable=board.draw) as screen:
        for each in heard:
            board.hear(each)
        screen.refresh()
    return board.run.info.status if board.run else "RUNNING"


class _Board:
    """What the table shows: the run, the last point of each metric, and how it has gone since we watch."""

    def __init__(self, wanted: set[str]) -> None:
        self.run: Run | None = None
        self._wanted = wanted
        self._last: dict[str, Metric] = {}
        self._trend: dict[str, deque[float]] = {}
        self._note = ""

    def hear(self, heard: Heard) -> None:
        self._note = heard.why if isinstance(heard, Gone) else ""
        if isinstance(heard, Run):
            self._take([metric for metric in heard.data.metrics if metric.key not in self._last])
            self.run = heard
        elif isinstance(heard, Points):
            self._take(heard.points)

    def _take(self, points: list[Metric]) -> None:
        for point in _only(points, self._wanted):
            self._last[point.key] = point
            self._trend.setdefault(point.key, deque(maxlen=_TREND)).append(float(point.value))

    def draw(self) -> Group:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        table = Table("METRIC", "LAST", "STEP", "LATELY", box=None, pad_edge=False)
        for key, point in sorted(self._last.items()):
            table.add_row(Text(key), show.figure(point.value), str(point.step), show.spark(list(self._trend[key])))
        return Group(Text(self._title(), style="bold"), table, Text(self._note, style="yellow"))

    def _title(self) -> str:
        if self.run is None:
            return "…"
        info = self.run.info
        end = info.end_time if isinstance(info.end_time, int) else int(time.time() * 1000)
        took = show.span(end - info.start_time) if info.start_time else ""
        return f"{info.run_name}  {info.run_id[:8]}  {info.status}  {took}"


def _only(points: list[Metric], wanted: set[str]) -> list[Metric]:
    return [point for point in points if not wanted or point.key in wanted]


def _lines(points: list[Metric]) -> Iterator[str]:
    """Points of one step in one line, in the order of the steps as they came."""
    by_step: dict[int, dict[str, Metric]] = {}
    for point in points:
        by_step.setdefault(point.step, {})[point.key] = point
    for step, values in by_step.items():
        clock = time.strftime("%H:%M:%S", time.localtime(max(point.timestamp for point in values.values()) / 1000))
        yield f"{clock}  step {step}  " + "  ".join(f"{key}={show.figure(point.value)}" for key, point in values.items())
