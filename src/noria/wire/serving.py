"""Endpoints: which version answers where, and the way from data to it."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.types import Dataset, ModelVersion
from noria.types import Endpoint as Served
from noria.wire.endpoint import OWN, Endpoint


class Put(Struct, frozen=True):
    endpoint: Served


class List(Struct, frozen=True):
    pass


class Listed(Struct, frozen=True):
    endpoints: list[Served]


class Trace(Struct, frozen=True):
    run_id: str


class Lineage(Struct, frozen=True):
    """What a run was made from and what was made from it: data -> run -> version -> endpoint."""

    run_id: str
    data: list[Dataset]
    versions: list[ModelVersion]
    endpoints: list[Served]


PUT = Endpoint("POST", f"{OWN}/endpoints", Put, Put)
LIST = Endpoint("GET", f"{OWN}/endpoints", List, Listed)
LINEAGE = Endpoint("GET", f"{OWN}/runs/lineage", Trace, Lineage)


class Predict(Struct, frozen=True):
    """A batch of n examples, [n, ...]; a single one is a batch of one."""

    inputs: list[Any]


class Predictions(Struct, frozen=True):
    predictions: list[Any]


PREDICT = Endpoint("POST", "/invocations", Predict, Predictions)
"""Answered by a served model, as MLflow's scoring server does, not by the tracking server."""
