"""Registered models and their versions."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET, Struct, UnsetType

from noria.types import Change, Int, ModelVersion, RegisteredModel, Tag
from noria.types import Name as Text
from noria.wire.endpoint import MLFLOW, OWN, Empty, Endpoint

_MODELS, _VERSIONS, _OWN = f"{MLFLOW}/registered-models", f"{MLFLOW}/model-versions", f"{OWN}/registry"


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


# Of those who ask here, `user` is who does it; left out, it is whoever sent the request, as far as that is known.


class Promote(Struct, frozen=True):
    """champion: the version that the evidence was measured against, "" for none; if given and another one stands there by now, nothing
    is changed."""

    name: Text
    version: Text
    stage: Text = "Production"
    champion: str | UnsetType = UNSET
    user: str = ""
    reason: str = ""
    evidence: dict[str, Any] = {}


class Promoted(Struct, frozen=True):
    """archived: the versions that stood in the stage until now."""

    model_version: ModelVersion
    archived: list[str]
    change: Change


class Refuse(Struct, frozen=True):
    name: Text
    version: Text
    stage: Text = "Production"
    user: str = ""
    reason: str = ""
    evidence: dict[str, Any] = {}


class Approve(Struct, frozen=True):
    name: Text
    version: Text
    stage: Text = "Production"
    user: str = ""
    reason: str = ""


class Rollback(Struct, frozen=True):
    name: Text
    stage: Text = "Production"
    user: str = ""
    reason: str = ""
    evidence: dict[str, Any] = {}


class Note(Struct, frozen=True):
    name: Text
    version: Text
    action: Text
    user: str = ""
    reason: str = ""
    evidence: dict[str, Any] = {}


class Collect(Struct, frozen=True):
    """Delete a version, unless somebody needs it: one that stands in Staging or Production, has an alias, or is served. dry_run: say what
    would happen."""

    name: Text
    version: Text
    user: str = ""
    reason: str = ""
    dry_run: bool = False


class Collected(Struct, frozen=True):
    """Where its files lie, and whether nobody else has them, so that they may go too."""

    location: str
    free: bool


class History(Struct, frozen=True):
    """Of a model, or of one version; with one action alone, if that is given."""

    name: Text
    version: str = ""
    action: str = ""
    max_results: Int = 100
    page_token: str = ""


class Changes(Struct, frozen=True, omit_defaults=True):
    """The newest first."""

    changes: list[Change] = []
    next_page_token: str = ""


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
PROMOTE = Endpoint("POST", f"{_OWN}/promote", Promote, Promoted)
REFUSE = Endpoint("POST", f"{_OWN}/refuse", Refuse, Change)
APPROVE = Endpoint("POST", f"{_OWN}/approve", Approve, Change)
ROLLBACK = Endpoint("POST", f"{_OWN}/rollback", Rollback, Promoted)
NOTE = Endpoint("POST", f"{_OWN}/note", Note, Change)
COLLECT = Endpoint("POST", f"{_OWN}/collect", Collect, Collected)
HISTORY = Endpoint("GET", f"{_OWN}/history", History, Changes)
