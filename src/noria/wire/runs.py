"""Runs, with their params, tags and inputs."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from noria.types import DatasetInput, Int, Metric, ModelInput, ModelOutput, Name, Number, Param, Run, RunInfo, RunStatus, Tag
from noria.wire.endpoint import MLFLOW, OWN, Empty, Endpoint
from noria.wire.experiments import ViewType


class Create(Struct, frozen=True):
    experiment_id: str = "0"
    user_id: str = ""
    run_name: str = ""
    start_time: Int = 0
    tags: list[Tag] = []


class Got(Struct, frozen=True):
    run: Run


class Get(Struct, frozen=True):
    run_id: str = ""
    run_uuid: str = ""


class Update(Struct, frozen=True):
    run_id: str = ""
    run_uuid: str = ""
    status: RunStatus | UnsetType = UNSET
    end_time: Int | UnsetType = UNSET
    run_name: str = ""


class Updated(Struct, frozen=True):
    run_info: RunInfo


class Search(Struct, frozen=True):
    experiment_ids: list[str] = []
    filter: str = ""
    run_view_type: ViewType = "ACTIVE_ONLY"
    max_results: int = 1000
    order_by: list[str] = []
    page_token: str = ""


class Found(Struct, frozen=True, omit_defaults=True):
    runs: list[Run] = []
    next_page_token: str = ""


class Count(Struct, frozen=True):
    experiment_ids: list[str] = []
    filter: str = ""
    run_view_type: ViewType = "ACTIVE_ONLY"


class Total(Struct, frozen=True):
    total: int


class LogMetric(Struct, frozen=True, forbid_unknown_fields=True):
    key: Name
    value: float
    timestamp: Int
    run_id: str = ""
    run_uuid: str = ""
    step: Int = 0
    model_id: str | UnsetType = UNSET
    dataset_name: str | UnsetType = UNSET
    dataset_digest: str | UnsetType = UNSET


class LogParam(Struct, frozen=True, forbid_unknown_fields=True):
    key: Name
    value: str = ""
    run_id: str = ""
    run_uuid: str = ""


class LogBatch(Struct, frozen=True, forbid_unknown_fields=True):
    run_id: Name
    metrics: list[Metric] = []
    params: list[Param] = []
    tags: list[Tag] = []


class LogInputs(Struct, frozen=True):
    run_id: Name
    datasets: list[DatasetInput] = []
    models: list[ModelInput] = []


class LogOutputs(Struct, frozen=True):
    run_id: Name
    models: list[ModelOutput]


class LogModel(Struct, frozen=True):
    """Of MLflow's 2.x clients: a model's MLmodel as JSON, which the run's tag lists."""

    run_id: Name
    model_json: Name


class SetTag(Struct, frozen=True, forbid_unknown_fields=True):
    key: Name
    value: str = ""
    run_id: str = ""
    run_uuid: str = ""


class DeleteTag(Struct, frozen=True):
    run_id: Name
    key: Name


class GetHistory(Struct, frozen=True):
    metric_key: Name
    run_id: str = ""
    run_uuid: str = ""
    max_results: Int | UnsetType = UNSET
    page_token: str = ""


class History(Struct, frozen=True, omit_defaults=True):
    metrics: list[Metric] = []
    next_page_token: str = ""


class GetBulk(Struct, frozen=True):
    """Histories of one metric in several runs; at most `max_results` points in all."""

    run_id: list[str] = []
    metric_key: str = ""
    max_results: Int = 25_000


class GetInterval(Struct, frozen=True):
    """Evenly sampled histories of one metric in several runs, at most `max_results` points of each; both steps or neither."""

    run_ids: list[str]
    metric_key: Name
    start_step: Int | UnsetType = UNSET
    end_step: Int | UnsetType = UNSET
    max_results: Int = 2500


class OfRun(Struct, frozen=True, gc=False):
    """A point and the run that it belongs to."""

    key: str
    value: Number
    timestamp: int
    step: int
    run_id: str


class Bulk(Struct, frozen=True, omit_defaults=True):
    metrics: list[OfRun] = []


class Resolve(Struct, frozen=True):
    prefix: str


class Curve(Struct, frozen=True):
    """pixels: at most so many points, each standing for those of one pixel; 0: all. Steps: both ends belong to it."""

    run_id: str
    key: str
    pixels: int = 0
    start_step: int | UnsetType = UNSET
    end_step: int | UnsetType = UNSET


class Points(Struct, frozen=True):
    """One metric's history as columns, in the order (step, timestamp). If it had more points than pixels, `values` are the means
    of each pixel's, `mins` and `maxs` their bounds, and the step and timestamp those of its first; otherwise `mins` and `maxs` are
    empty. `count` is how many points there are."""

    steps: list[int]
    values: list[Number]
    timestamps: list[int]
    mins: list[Number] = []
    maxs: list[Number] = []
    count: int = 0


class Summarise(Struct, frozen=True):
    run_id: str


class Summary(Struct, frozen=True):
    """One metric in a line. The first and the last are those of the least and the greatest step; `min` and `max` are those of
    the values that are numbers, None if none is."""

    key: str
    last: Number
    step: int
    timestamp: int
    first: Number
    first_step: int
    min: Number | None
    max: Number | None


class Summaries(Struct, frozen=True):
    metrics: list[Summary]


CREATE = Endpoint("POST", f"{MLFLOW}/runs/create", Create, Got)
GET = Endpoint("GET", f"{MLFLOW}/runs/get", Get, Got)
UPDATE = Endpoint("POST", f"{MLFLOW}/runs/update", Update, Updated)
DELETE = Endpoint("POST", f"{MLFLOW}/runs/delete", Get, Empty)
RESTORE = Endpoint("POST", f"{MLFLOW}/runs/restore", Get, Empty)
SEARCH = Endpoint("POST", f"{MLFLOW}/runs/search", Search, Found)
LOG_METRIC = Endpoint("POST", f"{MLFLOW}/runs/log-metric", LogMetric, Empty)
LOG_PARAM = Endpoint("POST", f"{MLFLOW}/runs/log-parameter", LogParam, Empty)
LOG_BATCH = Endpoint("POST", f"{MLFLOW}/runs/log-batch", LogBatch, Empty)
LOG_INPUTS = Endpoint("POST", f"{MLFLOW}/runs/log-inputs", LogInputs, Empty)
LOG_MODEL = Endpoint("POST", f"{MLFLOW}/runs/log-model", LogModel, Empty)
LOG_OUTPUTS = Endpoint("POST", f"{MLFLOW}/runs/outputs", LogOutputs, Empty)
SET_TAG = Endpoint("POST", f"{MLFLOW}/runs/set-tag", SetTag, Empty)
DELETE_TAG = Endpoint("POST", f"{MLFLOW}/runs/delete-tag", DeleteTag, Empty)
GET_HISTORY = Endpoint("GET", f"{MLFLOW}/metrics/get-history", GetHistory, History)
COUNT = Endpoint("POST", f"{OWN}/runs/count", Count, Total)
GET_BULK = Endpoint("GET", "/ajax-api/2.0/mlflow/metrics/get-history-bulk", GetBulk, Bulk)
GET_INTERVAL = Endpoint("GET", f"{MLFLOW}/metrics/get-history-bulk-interval", GetInterval, Bulk)
RESOLVE = Endpoint("GET", f"{OWN}/runs/resolve", Resolve, Got)
CURVE = Endpoint("GET", f"{OWN}/runs/curve", Curve, Points)
SUMMARY = Endpoint("GET", f"{OWN}/runs/metrics", Summarise, Summaries)
