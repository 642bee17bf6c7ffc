"""Runs as tables: one row for each run, with a column for each parameter, metric and tag; and one row for each point."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from msgspec import UNSET

from noria.errors import Invalid
from noria.wire.imports import Run

POINTS = ("run_id", "key", "step", "timestamp", "value")
FIELDS = ("run_id", "run_name", "experiment", "status", "user_id", "start_time", "end_time", "artifact_uri")


def row(run: Run) -> dict[str, Any]:
    """One run. Times are milliseconds since 1970; the value of a metric is its latest, by (step, timestamp)."""
    info, data = run.fields.info, run.fields.data
    fixed = (info.run_id, info.run_name, run.experiment, info.status, info.user_id, info.start_time,
             None if info.end_time is UNSET else info.end_time, info.artifact_uri)  # fmt: skip
    found: dict[str, Any] = dict(zip(FIELDS, fixed, strict=True))
    found |= {f"params.{each.key}": each.value for each in data.params}
    for series in run.series:
        last = max(range(len(series.steps)), key=lambda at: (series.steps[at], series.timestamps[at]))
        found[f"metrics.{series.key}"] = series.values[last]
    return found | {f"tags.{each.key}": each.value for each in data.tags}


def columns(rows: list[dict[str, Any]]) -> list[str]:
    """The columns of all rows: what every run has, then parameters, metrics and tags, each by name."""
    names = {name for row in rows for name in row} - set(FIELDS)
    return [*FIELDS, *(name for kind in ("params.", "metrics.", "tags.") for name in sorted(names) if name.startswith(kind))]


def places(target: str, ending: str) -> tuple[Path, Path]:
    """Where the two tables go: into a folder, or to a file and one beside it."""
    path = Path(target)
    if path.suffix == ending:
        folder, pair = path.parent, (path, path.with_suffix(f".metrics{ending}"))
    else:
        folder, pair = path, (path / f"runs{ending}", path / f"metrics{ending}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Invalid(f"'{folder}' cannot be made a folder ({error.strerror}).", "Name another target.") from None
    return pair


def beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")
