"""Logged models, which MLflow's 3.x clients create before they upload a model."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from noria.types import File, Metric, Name, Param, Tag
from noria.wire.endpoint import MLFLOW, Empty, Endpoint

Status = Literal["LOGGED_MODEL_PENDING", "LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"]
_PATH = f"{MLFLOW}/logged-models"


class Info(Struct, frozen=True, omit_defaults=True):
    model_id: str
    experiment_id: str
    name: str
    creation_timestamp_ms: int
    last_updated_timestamp_ms: int
    artifact_uri: str
    status: Status
    model_type: str = ""
    source_run_id: str = ""
    tags: list[Tag] = []


class Data(Struct, frozen=True, omit_defaults=True):
    params: list[Param] = []
    metrics: list[Metric] = []


class Model(Struct, frozen=True):
    info: Info
    data: Data


class Create(Struct, frozen=True):
    experiment_id: Name
    name: str = ""
    model_type: str = ""
    source_run_id: str = ""
    params: list[Param] = []
    tags: list[Tag] = []


class Key(Struct, frozen=True):
    model_id: Name
    allow_deleted: bool = False


class Got(Struct, frozen=True):
    model: Model


class Finalize(Struct, frozen=True):
    model_id: Name
    status: Status


class OrderBy(Struct, frozen=True):
    """Of a metric, the data set says which of its points count."""

    field_name: Name
    ascending: bool = True
    dataset_name: str = ""
    dataset_digest: str = ""


class OnDataset(Struct, frozen=True):
    dataset_name: str = ""
    dataset_digest: str = ""


class Search(Struct, frozen=True):
    experiment_ids: list[str]
    filter: str = ""
    datasets: list[OnDataset] = []
    max_results: int = 50
    order_by: list[OrderBy] = []
    page_token: str = ""


class Found(Struct, frozen=True, omit_defaults=True):
    models: list[Model] = []
    next_page_token: str = ""


class SetTags(Struct, frozen=True):
    model_id: Name
    tags: list[Tag] = []


class DeleteTag(Struct, frozen=True):
    model_id: Name
    key: Name


class ListArtifacts(Struct, frozen=True):
    model_id: Name
    artifact_directory_path: str = ""
    page_token: str = ""


class Artifacts(Struct, frozen=True, omit_defaults=True):
    root_uri: str
    files: list[File] = []


class LogParams(Struct, frozen=True):
    model_id: Name
    params: list[Param] = []


CREATE = Endpoint("POST", _PATH, Create, Got)
SEARCH = Endpoint("POST", f"{_PATH}/search", Search, Found)
GET = Endpoint("GET", f"{_PATH}/{{model_id}}", Key, Got)
FINALIZE = Endpoint("PATCH", f"{_PATH}/{{model_id}}", Finalize, Got)
DELETE = Endpoint("DELETE", f"{_PATH}/{{model_id}}", Key, Empty)
SET_TAGS = Endpoint("PATCH", f"{_PATH}/{{model_id}}/tags", SetTags, Empty)
DELETE_TAG = Endpoint("DELETE", f"{_PATH}/{{model_id}}/tags/{{key}}", DeleteTag, Empty)
LOG_PARAMS = Endpoint("POST", f"{_PATH}/{{model_id}}/params", LogParams, Empty)
LIST_ARTIFACTS = Endpoint("GET", f"{_PATH}/{{model_id}}/artifacts/directories", ListArtifacts, Artifacts)
