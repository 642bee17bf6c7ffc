"""Ways to other tools: mlflow's client on nodes without a network, importers and exporters. Nothing below imports this room.

    importers/   mlflow, databricks, database, mlruns, wandb, tensorboard     `noria runs import`
    exporters/   mlflow, databricks, parquet, csv                             `noria runs export`

A format is a file on one of these shelves. Both ways may be repeated at any time: nothing is doubled, and what was cut
short is completed.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from noria.plugins import Kind

if TYPE_CHECKING:
    from noria.bridges.bring import Summary
    from noria.client.http import Server

IMPORTERS: Kind[ModuleType] = Kind("noria.bridges.importers")
EXPORTERS: Kind[ModuleType] = Kind("noria.bridges.exporters")


def importer(format: str, source: str = "") -> ModuleType:
    """The importer of a format; without one, of what the source looks like."""
    return IMPORTERS.module((format or guess(source)).replace("-", "_"))


def exporter(format: str) -> ModuleType:
    """The exporter of a format."""
    return EXPORTERS.module(format.replace("-", "_"))


def guess(source: str) -> str:
    """The format of a source: a URL, a database, or a folder. Raises Invalid, with the formats there are."""
    from noria.bridges.looks import guess

    return guess(source)


def run_import(
    server: Server,
    format: str,
    source: str,
    *,
    experiment: str | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Bring in all runs of a source. experiment: where they go; by default the source says. progress: told (done, total)."""
    from noria.bridges.bring import bring

    return bring(server, importer(format, source), source, experiment, progress)


def run_export(
    server: Server,
    format: str,
    target: str,
    *,
    experiments: list[str] | None = None,
    filter: str = "",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Write runs to a target. experiments: names, by default all. filter: as `noria runs list` takes it."""
    from noria.bridges.send import send

    return send(server, exporter(format), target, experiments, filter, progress)
