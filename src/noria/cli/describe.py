"""One run as people read it: what it is, its metrics, what it was told, what it read, what it kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import click
from msgspec import Struct

from noria.cli import show
from noria.client.http import Server
from noria.errors import NoriaError, NotFound
from noria.types import Experiment, File, ModelVersion, Run
from noria.wire import artifacts, experiments, registry, runs

FILES = 20
_SPARK = 12
_PLOT_PIXELS = 400
_LABELS = {"mlflow.user", "mlflow.runName", "mlflow.note.content", "mlflow.parentRunId", "mlflow.source.name"}


class Seen(Struct, frozen=True):
    """All that is known of a run; `files` are the first of its artifacts, `more` says that there are others."""

    run: Run
    experiment: Experiment
    metrics: list[runs.Summary]
    versions: list[ModelVersion]
    files: list[File]
    more: bool


def look(server: Server, run: Run, files: int | None = FILES) -> Seen:
    """files: how many artifacts to list at most; None for all."""
    key, found = run.info.run_id, []
    try:
        found = list(islice(_files(server, key), files + 1 if files is not None else None))
    except NoriaError as error:  # Its files may lie where the server does not reach just now; the rest is good all the same.
        click.echo(f"noria: its files cannot be listed: {error.message}", err=True)
    return Seen(
        run,
        server.call(experiments.GET, experiments.Get(run.info.experiment_id)).experiment,
        server.call(runs.SUMMARY, runs.Summarise(key)).metrics,
        server.call(
            registry.SEARCH_VERSIONS, registry.SearchVersions(f"run_id = '{key}'", order_by=["name", "version_number"])
        ).model_versions,
        found[:files],
        files is not None and len(found) > files,
    )


def _files(server: Server, run_id: str, path: str = "") -> Iterator[File]:
    """The files below a path, folder by folder, as they are asked for."""
    for each in server.call(artifacts.LIST, artifacts.List(run_id, path=path)).files:
        if each.is_dir:
            yield from _files(server, run_id, each.path)
        else:
            yield each


def points(server: Server, run_id: str, key: str) -> list[dict[str, Any]]:
    """All points of a metric, as JSON."""
    p = server.call(runs.CURVE, runs.Curve(run_id, key))
    return [{"step": s, "value": v, "timestamp": t} for s, v, t in zip(p.steps, p.values, p.timestamps, strict=True)]


def plain(seen: Seen) -> dict[str, Any]:
    """A run as one JSON object, with MLflow's names for what MLflow has."""
    run = seen.run
    return {
        "info": run.info, "data": run.data, "inputs": run.inputs, "outputs": run.outputs, "experiment": seen.experiment.name,
        "metrics": seen.metrics, "versions": seen.versions, "files": seen.files,
    }  # fmt: skip


def tell(server: Server, seen: Seen, *, sparks: bool) -> None:
    """Print it."""
    _head(seen)
    run = seen.run
    _metrics(server, seen, sparks=sparks)
    _section(("PARAM", "VALUE"), [(param.key, _line(param.value)) for param in run.data.params])
    own = [tag for tag in run.data.tags if not tag.key.startswith("mlflow.")]
    _section(("TAG", "VALUE"), [(tag.key, _line(tag.value)) for tag in own])
    _section(("DATA", "DIGEST", "CONTEXT", "SOURCE"), [
        (each.dataset.name, each.dataset.digest, next((tag.value for tag in each.tags if tag.key == "mlflow.data.context"), ""),
         _line(each.dataset.source))
        for each in run.inputs.dataset_inputs
    ])  # fmt: skip
    models = [(each.model_id, "read") for each in run.inputs.model_inputs]
    _section(
        ("LOGGED MODEL", ""), models + [(each.model_id, f"written at step {each.step}") for each in run.outputs.model_outputs]
    )
    _section(
        ("VERSION", "STAGE", "ALIASES"), [(f"{v.name} {v.version}", v.current_stage, " ".join(v.aliases)) for v in seen.versions]
    )
    _section(("FILE", "BYTES"), [
        (each.path, f"{each.file_size:,}" if isinstance(each.file_size, int) else "") for each in seen.files
    ])  # fmt: skip
    if seen.more:
        click.echo(f"noria: the first {len(seen.files)} files; --files lists them all", err=True)


def _head(seen: Seen) -> None:
    info, labels = seen.run.info, {tag.key: tag.value for tag in seen.run.data.tags if tag.key in _LABELS}
    click.echo(f"{info.run_name}  {info.run_id}")
    took = f", took {show.span(info.end_time - info.start_time)}" if isinstance(info.end_time, int) and info.start_time else ""
    gone = ", deleted" if info.lifecycle_stage == "deleted" else ""
    click.echo(f"{info.status}, started {show.ago(info.start_time)}{took}{gone}")
    user, source = labels.get("mlflow.user") or info.user_id, labels.get("mlflow.source.name", "")
    words = [f"experiment {seen.experiment.name}", f"by {user}" if user else "", f"from {source}" if source else ""]
    click.echo(", ".join(word for word in words if word))
    if parent := labels.get("mlflow.parentRunId"):
        click.echo(f"child of run {parent}")
    if note := labels.get("mlflow.note.content"):
        click.echo(f"\n{note}")


def _metrics(server: Server, seen: Seen, *, sparks: bool) -> None:
    head = ["METRIC", "LAST", "STEP", "FIRST", "MIN", "MAX", *(["CURVE"] if sparks else [])]
    rows = [
        [m.key, show.figure(m.last), str(m.step), show.figure(m.first), show.figure(m.min), show.figure(m.max),
         *([spark(server, seen.run.info.run_id, m.key)] if sparks else [])]
        for m in seen.metrics
    ]  # fmt: skip
    _section(head, rows)


def spark(server: Server, run_id: str, key: str) -> str:
    values = [float(value) for value in server.call(runs.CURVE, runs.Curve(run_id, key, _SPARK)).values]
    share = max(1, -(-len(values) // _SPARK))  # A short history comes point by point, whatever was asked for.
    return show.spark([values[at] for at in range(0, len(values), share)])


def plot(server: Server, run_id: str, key: str) -> None:
    p = server.call(runs.CURVE, runs.Curve(run_id, key, _PLOT_PIXELS))
    if not p.steps:
        raise NotFound(f"This run has no metric '{key}'.", f"`noria runs show {run_id[:8]}` lists its metrics.")
    click.echo()
    show.curve([(step, float(value)) for step, value in zip(p.steps, p.values, strict=True)], f"{key} by step", err=False)


def _section(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    if rows:
        click.echo()
        show.table(head, rows, "")


def _line(text: str) -> str:
    """A text of any length and shape in one line."""
    flat = " ".join(text.split())
    return flat if len(flat) <= 200 else f"{flat[:199]}…"
