"""Which columns a list of runs has: what was asked about, then what tells the runs apart, as far as the line is wide."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from noria.cli.show import ago, span
from noria.errors import Invalid
from noria.types import Run

_NARROWEST, _WIDEST = 4, 24
_GAP = 2
_METRICS = 2
_KIND = {"metric": "metrics", "parameter": "params", "parameters": "params", "param": "params", "tag": "tags"}
_MENTION = re.compile(r"\b(metrics?|params?|parameters?|tags?)\.(?:`([^`]+)`|\"([^\"]+)\"|([\w./-]+))")


class Column(Struct, frozen=True):
    """`cells` in the order of the runs."""

    head: str
    cells: list[str]

    @property
    def width(self) -> int:
        return max(len(text) for text in (self.head, *self.cells))


def choose(
    runs: Sequence[Run], names: Mapping[str, str], width: int, mentioned: str = "", asked: Sequence[str] = ()
) -> list[Column]:
    """The columns of these runs. names: of experiments, by id. mentioned: the filter and the order, whose keys come first.

    asked: keys such as `metrics.loss` that are shown whatever the width; without any, those that fit are chosen.
    """
    shown = _fixed(runs, names)
    if asked:
        return [*shown, *(_column(*_key(text), runs) for text in asked)]
    room = width - sum(each.width + _GAP for each in shown)
    for kind, key in _wanted(runs, mentioned):
        column = _column(kind, key, runs)
        if column.width > _WIDEST or not any(column.cells):
            continue
        room -= max(column.width, _NARROWEST) + _GAP
        if room < 0:
            break
        shown.append(column)
    return shown


def _fixed(runs: Sequence[Run], names: Mapping[str, str]) -> list[Column]:
    several = len({run.info.experiment_id for run in runs}) > 1
    return [
        Column("RUN", [run.info.run_id[:8] for run in runs]),
        Column("NAME", [_cut(run.info.run_name) for run in runs]),
        *([Column("EXPERIMENT", [_cut(names.get(run.info.experiment_id, "?")) for run in runs])] if several else []),
        Column("STATUS", [run.info.status for run in runs]),
        Column("STARTED", [ago(run.info.start_time) for run in runs]),
        Column("TOOK", [_took(run) for run in runs]),
    ]


def _took(run: Run) -> str:
    end = run.info.end_time
    return span(end - run.info.start_time) if isinstance(end, int) and run.info.start_time else ""


def _key(text: str) -> tuple[str, str]:
    match = _MENTION.fullmatch(text)
    if not match:
        raise Invalid(f"'{text}' is no column.", "Write metrics.KEY, params.KEY or tags.KEY.")
    return _KIND.get(match[1], match[1]), match[2] or match[3] or match[4]


def _wanted(runs: Sequence[Run], mentioned: str) -> Iterable[tuple[str, str]]:
    """Keys by their worth, each once: mentioned ones, metrics that most runs have, parameters that differ, further metrics."""
    asked = [_key(match[0]) for match in _MENTION.finditer(mentioned)]
    metrics = Counter(("metrics", each.key) for run in runs for each in run.data.metrics if not each.key.startswith("system/"))
    params: dict[str, set[str]] = {}
    for run in runs:
        for each in run.data.params:
            params.setdefault(each.key, set()).add(each.value)
    differing = [("params", key) for key, values in params.items() if len(values) > 1]
    common = [key for key, _ in metrics.most_common()]
    return dict.fromkeys([*asked, *common[:_METRICS], *differing, *common[_METRICS:]])


def _column(kind: str, key: str, runs: Sequence[Run]) -> Column:
    if kind == "metrics":
        return Column(key, [next((f"{float(m.value):.4g}" for m in run.data.metrics if m.key == key), "") for run in runs])
    pairs = [run.data.params if kind == "params" else run.data.tags for run in runs]
    return Column(key, [next((" ".join(pair.value.split()) for pair in own if pair.key == key), "") for own in pairs])


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
