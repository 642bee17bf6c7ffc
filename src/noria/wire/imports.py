"""Whole runs on their way in from elsewhere, and out again: many in one request, each with all that is known of it."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from noria.types import Experiment, ModelVersion, RegisteredModel
from noria.types import Run as Fields
from noria.wire.endpoint import OWN, Endpoint
from noria.wire.logged_models import Model

RUNS = 200
POINTS = 500_000
"""How much one request brings at most, so that others are not kept waiting for it."""


class Series(Struct, frozen=True):
    """All points of one metric, as columns; times in milliseconds."""

    key: str
    values: list[float]
    timestamps: list[int]
    steps: list[int]


class Run(Struct, frozen=True):
    """A run, in the experiment of that name. `fields.info` has the ids and the artifact root of where it comes from;
    its metrics are `series`, and `fields.data` has none."""

    experiment: str
    fields: Fields
    series: list[Series] = []


class LoggedModel(Struct, frozen=True):
    experiment: str
    model: Model


class Registered(Struct, frozen=True):
    """A registered model with its versions. A source is `runs:/<run id>/…` or `models:/<model id>` if it lies with these."""

    model: RegisteredModel
    versions: list[ModelVersion]


class Import(Struct, frozen=True):
    """Kept as it is, ids and times included. What is there already is completed, and nothing is doubled.

    Experiments are known by their name: one that is there stays as it is.
    """

    experiments: list[Experiment] = []
    runs: list[Run] = []
    logged_models: list[LoggedModel] = []
    registered: list[Registered] = []


class Done(Struct, frozen=True):
    """What became of a run, a logged model, or a version of a registered model, and where its artifacts go.

    refused: `why` says what is wrong; the others of its request are not touched by that.
    """

    id: str
    state: Literal["new", "completed", "same", "refused"]
    artifact_uri: str = ""
    why: str = ""


class Imported(Struct, frozen=True):
    """In the order of the request."""

    runs: list[Done] = []
    logged_models: list[Done] = []
    registered: list[Done] = []


class Export(Struct, frozen=True):
    run_ids: list[str]


class Exported(Struct, frozen=True):
    """The first of the runs that were asked for, at least one: ask again for the others."""

    runs: list[Run]


IMPORT = Endpoint("POST", f"{OWN}/runs/import", Import, Imported, "msgpack")
EXPORT = Endpoint("POST", f"{OWN}/runs/export", Export, Exported, "msgpack")
