"""Endpoints: which version answers where, and what it was asked."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from noria.types import Endpoint as Served
from noria.types import PredictionLog
from noria.wire.endpoint import OWN, Empty, Endpoint


class Put(Struct, frozen=True):
    endpoint: Served


class List(Struct, frozen=True):
    pass


class Listed(Struct, frozen=True):
    endpoints: list[Served]


class Logged(Struct, frozen=True):
    """What an endpoint's log of predictions holds by now."""

    endpoint_id: str
    log: PredictionLog


PUT = Endpoint("POST", f"{OWN}/endpoints", Put, Put)
LIST = Endpoint("GET", f"{OWN}/endpoints", List, Listed)
LOGGED = Endpoint("POST", f"{OWN}/endpoints/log", Logged, Empty)


class Predict(Struct, frozen=True):
    """A batch of n examples, [n, ...]; a single one is a batch of one."""

    inputs: list[Any]


class Predictions(Struct, frozen=True):
    predictions: list[Any]


PREDICT = Endpoint("POST", "/invocations", Predict, Predictions)
"""Answered by a served model, as MLflow's scoring server does, not by the tracking server."""
