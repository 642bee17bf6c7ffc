"""Registered models and their versions."""

from __future__ import annotations

from msgspec import UNSET, Struct, UnsetType

from noria.types import Int, ModelVersion, RegisteredModel, Tag
from noria.types import Name as Text
from noria.wire.endpoint import MLFLOW, Empty, Endpoint

_MODELS, _VERSIONS = f"{MLFLOW}/registered-models", f"{MLFLOW}/model-versions"


class CreateModel(Struct, frozen=True):
    name: Text
    tags: list[Tag] = []
    description: str = ""


class Model(Struct, frozen=True):
    registered_model: RegisteredModel


class Name(Struct, frozen=True):
    name: Text


class Rename(Struct, frozen=True):
    name: Text
    new_name: Text


class UpdateModel(Struct, frozen=True):
    name: Text
    description: str = ""


class Search(Struct, frozen=True):
    filter: str = ""
    max_results: Int = 100
    order_by: list[str] = []
    page_token: str = ""


class SearchVersions(Struct, frozen=True):
    filter: str = ""
    max_results: Int = 200_000
    order_by: list[str] = []
    page_token: str = ""


class Models(Struct, frozen=True, omit_defaults=True):
    registered_models: list[RegisteredModel] = []
    next_page_token: str = ""


class Latest(Struct, frozen=True):
    name: Text
    stages: list[str] = []


class Versions(Struct, frozen=True, omit_defaults=True):
    model_versions: list[ModelVersion] = []
    next_page_token: str = ""


class SetModelTag(Struct, frozen=True):
    name: Text
    key: Text
    value: str = ""


class ModelTag(Struct, frozen=True):
    name: Text
    key: Text


class SetAlias(Struct, frozen=True):
    name: Text
    alias: Text
    version: Text


class AliasName(Struct, frozen=True):
    name: Text
    alias: Text


class CreateVersion(Struct, frozen=True):
    name: Text
    source: Text
    run_id: str = ""
    tags: list[Tag] = []
    run_link: str = ""
    description: str = ""
    model_id: str = ""


class Version(Struct, frozen=True):
    model_version: ModelVersion


class VersionKey(Struct, frozen=True):
    name: Text
    version: Text


class UpdateVersion(Struct, frozen=True):
    name: Text
    version: Text
    description: str = ""


class Transition(Struct, frozen=True):
    name: Text
    version: Text
    stage: Text
    archive_existing_versions: bool = False


class SetVersionTag(Struct, frozen=True):
    name: Text
    version: Text
    key: Text
    value: str = ""


class VersionTag(Struct, frozen=True):
    name: Text
    version: Text
    key: Text


class Uri(Struct, frozen=True):
    artifact_uri: str | UnsetType = UNSET


CREATE = Endpoint("POST", f"{_MODELS}/create", CreateModel, Model)
GET = Endpoint("GET", f"{_MODELS}/get", Name, Model)
RENAME = Endpoint("POST", f"{_MODELS}/rename", Rename, Model)
UPDATE = Endpoint("PATCH", f"{_MODELS}/update", UpdateModel, Model)
DELETE = Endpoint("DELETE", f"{_MODELS}/delete", Name, Empty)
SEARCH = Endpoint("GET", f"{_MODELS}/search", Search, Models)
LATEST = Endpoint("POST", f"{_MODELS}/get-latest-versions", Latest, Versions)
LATEST_GET = Endpoint("GET", f"{_MODELS}/get-latest-versions", Latest, Versions)
SET_TAG = Endpoint("POST", f"{_MODELS}/set-tag", SetModelTag, Empty)
DELETE_TAG = Endpoint("DELETE", f"{_MODELS}/delete-tag", ModelTag, Empty)
SET_ALIAS = Endpoint("POST", f"{_MODELS}/alias", SetAlias, Empty)
DELETE_ALIAS = Endpoint("DELETE", f"{_MODELS}/alias", AliasName, Empty)
GET_ALIAS = Endpoint("GET", f"{_MODELS}/alias", AliasName, Version)
CREATE_VERSION = Endpoint("POST", f"{_VERSIONS}/create", CreateVersion, Version)
GET_VERSION = Endpoint("GET", f"{_VERSIONS}/get", VersionKey, Version)
UPDATE_VERSION = Endpoint("PATCH", f"{_VERSIONS}/update", UpdateVersion, Version)
DELETE_VERSION = Endpoint("DELETE", f"{_VERSIONS}/delete", VersionKey, Empty)
SEARCH_VERSIONS = Endpoint("GET", f"{_VERSIONS}/search", SearchVersions, Versions)
TRANSITION = Endpoint("POST", f"{_VERSIONS}/transition-stage", Transition, Version)
DOWNLOAD_URI = Endpoint("GET", f"{_VERSIONS}/get-download-uri", VersionKey, Uri)
SET_VERSION_TAG = Endpoint("POST", f"{_VERSIONS}/set-tag", SetVersionTag, Empty)
DELETE_VERSION_TAG = Endpoint("DELETE", f"{_VERSIONS}/delete-tag", VersionTag, Empty)
