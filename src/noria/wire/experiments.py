"""Experiments."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from noria.types import Experiment, Int, Name, Tag
from noria.wire.endpoint import MLFLOW, Empty, Endpoint

ViewType = Literal["ACTIVE_ONLY", "DELETED_ONLY", "ALL"]


class Create(Struct, frozen=True):
    name: Name
    artifact_location: str = ""
    tags: list[Tag] = []


class Created(Struct, frozen=True):
    experiment_id: str


class Get(Struct, frozen=True):
    experiment_id: Name


class GetByName(Struct, frozen=True):
    experiment_name: Name


class Got(Struct, frozen=True):
    experiment: Experiment


class Search(Struct, frozen=True):
    max_results: Int = 0
    page_token: str = ""
    filter: str = ""
    order_by: list[str] = []
    view_type: ViewType = "ACTIVE_ONLY"


class Found(Struct, frozen=True, omit_defaults=True):
    experiments: list[Experiment] = []
    next_page_token: str = ""


class Update(Struct, frozen=True):
    experiment_id: Name
    new_name: Name


class SetTag(Struct, frozen=True):
    experiment_id: Name
    key: Name
    value: str = ""


class DeleteTag(Struct, frozen=True):
    experiment_id: Name
    key: Name


class SearchDatasets(Struct, frozen=True):
    experiment_ids: list[str] = []


class DatasetSummary(Struct, frozen=True, omit_defaults=True):
    """A data set that a run of this experiment read, and what for (`context`, such as training)."""

    experiment_id: str
    name: str
    digest: str
    context: str = ""


class FoundDatasets(Struct, frozen=True, omit_defaults=True):
    dataset_summaries: list[DatasetSummary] = []


CREATE = Endpoint("POST", f"{MLFLOW}/experiments/create", Create, Created)
GET = Endpoint("GET", f"{MLFLOW}/experiments/get", Get, Got)
GET_BY_NAME = Endpoint("GET", f"{MLFLOW}/experiments/get-by-name", GetByName, Got)
SEARCH = Endpoint("POST", f"{MLFLOW}/experiments/search", Search, Found)
LIST = Endpoint("GET", f"{MLFLOW}/experiments/search", Search, Found)
UPDATE = Endpoint("POST", f"{MLFLOW}/experiments/update", Update, Empty)
DELETE = Endpoint("POST", f"{MLFLOW}/experiments/delete", Get, Empty)
RESTORE = Endpoint("POST", f"{MLFLOW}/experiments/restore", Get, Empty)
SET_TAG = Endpoint("POST", f"{MLFLOW}/experiments/set-experiment-tag", SetTag, Empty)
DELETE_TAG = Endpoint("POST", f"{MLFLOW}/experiments/delete-experiment-tag", DeleteTag, Empty)
SEARCH_DATASETS = Endpoint("POST", f"{MLFLOW}/experiments/search-datasets", SearchDatasets, FoundDatasets)
