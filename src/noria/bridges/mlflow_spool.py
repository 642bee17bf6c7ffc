"""The mlflow client's stores for `noria-spool:///folder`: it writes to spools, and reads what lies in them.

Nothing here waits for a network. mlflow's entities are looked up where they are needed, since older clients lack some.
"""

from __future__ import annotations

import inspect
import json
import posixpath
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit
from uuid import uuid4

from mlflow import entities
from mlflow.entities import model_registry
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry.abstract_store import AbstractStore as AbstractRegistry
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils import search_utils
from msgspec import structs

from noria.bridges.journal import NAME_TAG, PENDING, Experiment, Journal, Model, Run, journal
from noria.client.fluent import spool_folder
from noria.client.spool import now
from noria.errors import AlreadyExists, Invalid, NoriaError, NotFound, Unsupported
from noria.store import names
from noria.types import Dataset, DatasetInput, ModelOutput, Tag
from noria.wire import limits
from noria.wire import spools as wire

SCHEME = "noria-spool"
_HISTORY_TAG = "mlflow.log-model.history"
_PLACE = re.compile(r"(.*?)/(runs|models)/([\w\-]+)/artifacts(?:/(.*))?")
_STATUS = {
    "PENDING": "LOGGED_MODEL_PENDING",
    "READY": "LOGGED_MODEL_READY",
    "FAILED": "LOGGED_MODEL_UPLOAD_FAILED",
}
_READY = {name: status for status, name in _STATUS.items()}
_INT64 = range(-(2**63), 2**63)
C = TypeVar("C", bound=type)


def _in_its_words(kind: C) -> C:
    """A class whose methods raise our errors as mlflow's."""
    for name, method in list(vars(kind).items()):
        if inspect.isfunction(method) and not name.startswith("__"):
            setattr(kind, name, _translated(method))
    return kind


def _translated(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except NoriaError as error:
            code = error.code if error.code in ErrorCode.keys() else "INTERNAL_ERROR"  # noqa: SIM118 (no mapping)
            raise MlflowException(error.message, ErrorCode.Value(code)) from None

    return call


def folder_of(uri: str) -> Path:
    """The folder that a tracking URI names; without one, where Noria's own client would write."""
    parts = urlsplit(uri)
    if parts.netloc:
        raise MlflowException.invalid_parameter_value(
            f"'{uri}' has '{parts.netloc}' where a host would be. Write the folder with three slashes: {SCHEME}:///{parts.netloc}{parts.path}."
        )
    path = unquote(parts.path).rstrip("/")
    return Path(path) if path else spool_folder()


def _offline(what: str) -> Unsupported:
    return Unsupported(f"{what} is not possible on a node without a network.", "Do it where the server can be reached.")


@_in_its_words
class SpoolStore(AbstractStore):
    """mlflow's tracking store."""

    def __init__(self, store_uri: str) -> None:
        super().__init__()
        self._folder = folder_of(store_uri)

    @property
    def journal(self) -> Journal:
        return journal(self._folder)

    def _uri(self, kind: str, own_id: str) -> str:
        return f"{SCHEME}://{quote(str(self._folder))}/{kind}/{own_id}/artifacts"

    # Experiments.

    def _experiment(self, each: Experiment) -> Any:
        tags = [entities.ExperimentTag(key, value) for key, value in each.tags.items()]
        location = each.artifact_location or f"{SCHEME}://{quote(str(self._folder))}"
        return entities.Experiment(each.id, each.name, location, "active", tags, each.created, each.created)

    def search_experiments(
        self, view_type: Any = 1, max_results: int = 1000, filter_string: str | None = None, order_by: Any = None, page_token: Any = None
    ) -> Any:  # fmt: skip
        utils = search_utils.SearchExperimentsUtils
        found = [] if view_type == entities.ViewType.DELETED_ONLY else self.journal.experiments()
        chosen = utils.filter([self._experiment(each) for each in found], filter_string)
        ordered = utils.sort(chosen, order_by or ["creation_time DESC", "experiment_id ASC"])
        return PagedList(*search_utils.SearchUtils.paginate(ordered, page_token, max_results))

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Iterable[Any] | None = None) -> str:
        if not name or len(name) > limits.EXPERIMENT_NAME:
            raise Invalid(f"Invalid experiment name: '{name:.80}'.", f"It must have 1 to {limits.EXPERIMENT_NAME} characters.")
        if self.journal.experiment(name) is not None:
            raise AlreadyExists(f"Experiment(name={name}) already exists.", "Use it, or choose another name.")
        labels = {limits.key(tag.key, "tag"): str(tag.value) for tag in tags or ()}
        self.journal.shared(wire.Experiment(name, artifact_location or "", labels, []))
        self.journal.choose(name)
        return Experiment(name).id

    def get_experiment(self, experiment_id: str) -> Any:
        return self._experiment(self.journal.experiment_by_id(str(experiment_id)))

    def get_experiment_by_name(self, experiment_name: str) -> Any:
        found = self.journal.experiment(experiment_name)
        if found is None:
            return None
        self.journal.choose(experiment_name)
        return self._experiment(found)

    def delete_experiment(self, experiment_id: str) -> None:
        raise _offline("Deleting an experiment")

    def restore_experiment(self, experiment_id: str) -> None:
        raise _offline("Restoring an experiment")

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        raise _offline("Renaming an experiment")

    def set_experiment_tag(self, experiment_id: str, tag: Any) -> None:
        name = self.journal.experiment_by_id(experiment_id).name
        self.journal.shared(wire.Experiment(name, "", {limits.key(tag.key, "tag"): str(tag.value)}, []))

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        each = self.journal.experiment_by_id(experiment_id)
        if key not in each.tags:
            raise NotFound(f"No tag with name: {key} in experiment with id {experiment_id}")
        self.journal.shared(wire.Experiment(each.name, "", {}, [key]))

    # Runs.

    def _info(self, run: Run) -> Any:
        fields = {
            "run_id": run.run_id, "experiment_id": Experiment(run.experiment).id, "user_id": run.user, "status": run.status,
            "start_time": run.start_time, "end_time": run.end_time, "lifecycle_stage": run.lifecycle_stage,
            "artifact_uri": self._uri("runs", run.run_id), "run_name": run.name,
        }  # fmt: skip
        if "run_uuid" in inspect.signature(entities.RunInfo.__init__).parameters:  # mlflow 2
            fields["run_uuid"] = run.run_id
        return entities.RunInfo(**fields)

    def _run(self, run: Run) -> Any:
        data = entities.RunData(
            [entities.Metric(*point) for point in run.latest.values()],
            [entities.Param(key, value) for key, value in run.params.items()],
            [entities.RunTag(key, value) for key, value in run.tags.items()],
        )
        datasets = [_dataset_entity(each) for each in run.datasets]
        if not hasattr(entities, "RunOutputs"):  # mlflow 2
            return entities.Run(self._info(run), data, entities.RunInputs(datasets))
        read = [entities.LoggedModelInput(each) for each in run.models_read]
        written = [entities.LoggedModelOutput(each.model_id, each.step) for each in run.models_written]
        return entities.Run(self._info(run), data, entities.RunInputs(datasets, read), entities.RunOutputs(written))

    def create_run(
        self, experiment_id: str, user_id: str, start_time: int, tags: Iterable[Any], run_name: str | None = None
    ) -> Any:
        labels = {limits.key(tag.key, "tag"): limits.cut(str(tag.value), limits.TAG_VALUE) for tag in tags or ()}
        if run_name and labels.get(NAME_TAG, run_name) != run_name:
            raise Invalid(
                "Both 'run_name' argument and 'mlflow.runName' tag are specified, but with different values "
                f"(run_name='{run_name}', mlflow.runName='{labels[NAME_TAG]}')."
            )
        labels[NAME_TAG] = run_name or labels.get(NAME_TAG) or names.make()
        experiment = self.journal.experiment_by_id(str(experiment_id)).name
        run = Run(uuid4().hex, experiment, user_id or "", "RUNNING", int(start_time or 0))
        self.journal.begin(run, labels)
        return self.get_run(run.run_id)

    def get_run(self, run_id: str) -> Any:
        return self._run(self.journal.run(run_id))

    def update_run_info(self, run_id: str, run_status: Any, end_time: int | None, run_name: str | None) -> Any:
        if run_name:
            self.journal.batch(run_id, tags={NAME_TAG: run_name})
        status: Any = entities.RunStatus.to_string(run_status) if isinstance(run_status, int) else run_status
        if status == "RUNNING":
            self.journal.resume(run_id)
        elif status == "SCHEDULED":
            self.journal.batch(run_id, records=[wire.Change("SCHEDULED")])
        elif status:
            self.journal.end(run_id, status, int(end_time or now()))
        return self._info(self.journal.run(run_id))

    def delete_run(self, run_id: str) -> None:
        self.journal.log(run_id, wire.Change(lifecycle_stage="deleted"))

    def restore_run(self, run_id: str) -> None:
        self.journal.log(run_id, wire.Change(lifecycle_stage="active"))

    def _search_runs(
        self, experiment_ids: Iterable[str], filter_string: str | None, run_view_type: Any, max_results: int, order_by: Any, page_token: Any
    ) -> tuple[list[Any], Any]:  # fmt: skip
        wanted, stages = set(map(str, experiment_ids)), entities.LifecycleStage.view_type_to_stages(run_view_type)
        found = [
            each for each in self.journal.runs() if Experiment(each.experiment).id in wanted and each.lifecycle_stage in stages
        ]
        utils = search_utils.SearchUtils
        ordered = utils.sort(utils.filter([self._run(each) for each in found], filter_string), order_by)
        page: tuple[list[Any], Any] = utils.paginate(ordered, page_token, max_results)
        return page

    # Metrics, parameters, tags.

    def log_batch(self, run_id: str, metrics: Sequence[Any], params: Sequence[Any], tags: Sequence[Any]) -> None:
        texts = {limits.key(each.key, "param"): limits.cut(str(each.value), limits.PARAM_VALUE) for each in params}
        labels = {limits.key(each.key, "tag"): limits.cut(str(each.value), limits.TAG_VALUE) for each in tags}
        about = [
            (_point(each), [_text(each, name) for name in ("model_id", "dataset_name", "dataset_digest")]) for each in metrics
        ]
        groups = groupby(about, key=lambda pair: pair[1])
        records = [wire.Points([point for point, _ in group], *about) for about, group in groups]
        self.journal.batch(run_id, params=texts, tags=labels, records=records)

    def delete_tag(self, run_id: str, key: str) -> None:
        if key not in self.journal.run(run_id).tags:
            raise NotFound(f"No tag with name: {key} in run with id {run_id}")
        self.journal.batch(run_id, records=[wire.Change(untag=[key])])

    def get_metric_history(
        self, run_id: str, metric_key: str, max_results: int | None = None, page_token: str | None = None
    ) -> Any:
        self.journal.run(run_id)
        return PagedList([entities.Metric(*point) for point in self.journal.history(run_id, metric_key)], None)

    def log_inputs(self, run_id: str, datasets: Iterable[Any] | None = None, models: Iterable[Any] | None = None) -> None:
        read = [each.model_id for each in models or ()]
        self.journal.batch(run_id, records=[wire.Inputs([_dataset_input(each) for each in datasets or ()], read)])

    def log_outputs(self, run_id: str, models: Iterable[Any]) -> None:
        self.journal.batch(run_id, records=[wire.Outputs([ModelOutput(each.model_id, each.step) for each in models])])

    def record_logged_model(self, run_id: str, mlflow_model: Any) -> None:
        history = json.loads(self.journal.run(run_id).tags.get(_HISTORY_TAG, "[]"))
        describe = getattr(mlflow_model, "get_tags_dict", mlflow_model.to_dict)
        self.journal.batch(run_id, tags={_HISTORY_TAG: json.dumps([*history, describe()])})

    def link_traces_to_run(self, trace_ids: list[str], run_id: str) -> None:
        raise _offline("Recording traces")

    # Logged models.

    def _model(self, model: Model) -> Any:
        metrics = [
            entities.Metric(
                *point, model_id=model.model_id, dataset_name=name or None, dataset_digest=digest or None, run_id=model.run_id
            )
            for (_, name, digest), point in model.metrics.items()
        ]
        return entities.LoggedModel(
            Experiment(model.experiment).id, model.model_id, model.name, self._uri("models", model.model_id), model.created,
            model.changed, model.model_type or None, model.run_id or None, entities.LoggedModelStatus(_READY[model.status]), None,
            dict(model.tags), dict(model.params), metrics)  # fmt: skip

    def create_logged_model(
        self,
        experiment_id: str,
        name: str | None = None,
        source_run_id: str | None = None,
        tags: Iterable[Any] | None = None,
        params: Iterable[Any] | None = None,
        model_type: str | None = None,
    ) -> Any:
        experiment, time = self.journal.experiment_by_id(experiment_id).name, now()
        model = Model(f"m-{uuid4().hex}", experiment, name or names.make(), model_type or "", source_run_id or "", time, time)
        self.journal.model_changed(model, tags=_pairs(tags), params=_pairs(params))
        return self.get_logged_model(model.model_id)

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> Any:
        return self._model(self.journal.model(model_id))

    def finalize_logged_model(self, model_id: str, status: Any) -> Any:
        name: Any = _STATUS.get(str(status), "LOGGED_MODEL_PENDING")
        self.journal.model_changed(self.journal.model(model_id), status=name)
        return self.get_logged_model(model_id)

    def set_logged_model_tags(self, model_id: str, tags: Iterable[Any]) -> None:
        self.journal.model_changed(self.journal.model(model_id), tags=_pairs(tags))

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        model = self.journal.model(model_id)
        if key not in model.tags:
            raise NotFound(f"No tag with key '{key}' found for logged model with ID '{model_id}'.")
        self.journal.model_changed(model, untag=[key])

    def log_logged_model_params(self, model_id: str, params: Iterable[Any]) -> None:
        self.journal.model_changed(self.journal.model(model_id), params=_pairs(params))

    def delete_logged_model(self, model_id: str) -> None:
        self.journal.model_changed(self.journal.model(model_id), deleted=True)

    def search_logged_models(
        self,
        experiment_ids: Iterable[str],
        filter_string: str | None = None,
        datasets: Any = None,
        max_results: int | None = None,
        order_by: Any = None,
        page_token: str | None = None,
    ) -> Any:
        wanted, utils = set(experiment_ids), search_utils.SearchLoggedModelsUtils
        found = [self._model(each) for each in self.journal.models() if Experiment(each.experiment).id in wanted]
        ordered = utils.sort(utils.filter_logged_models(found, filter_string, datasets), order_by)
        return PagedList(*utils.paginate(ordered, page_token, max_results or 100))


def _pairs(given: Iterable[Any] | None) -> dict[str, str]:
    return {each.key: str(each.value) for each in given or ()}


def _text(entity: Any, name: str) -> str:
    return getattr(entity, name, None) or ""


def _point(metric: Any) -> tuple[str, float, int, int]:
    """The metric as it is written, with mlflow's own time and step."""
    key, time, step = limits.key(metric.key), int(metric.timestamp), int(metric.step or 0)
    if isinstance(metric.value, (str, bytes)) or not hasattr(metric.value, "__float__"):
        raise Invalid(f"Invalid value {metric.value!r:.80} for metric '{key}': it is no number.", "Log texts with set_tag.")
    if time not in _INT64 or step not in _INT64:
        raise Invalid(f"Metric '{key}' has timestamp {time} and step {step}.", "Both must fit into 64 bits.")
    return key, float(metric.value), time, step


def _dataset_input(given: Any) -> DatasetInput:
    names = ("name", "digest", "source_type", "source", "schema", "profile")
    tags = [Tag(tag.key, str(tag.value)) for tag in given.tags]
    return DatasetInput(Dataset(*(_text(given.dataset, name) for name in names)), tags)


def _dataset_entity(each: DatasetInput) -> Any:
    data = each.dataset
    dataset = entities.Dataset(data.name, data.digest, data.source_type, data.source, data.schema or None, data.profile or None)
    return entities.DatasetInput(dataset, [entities.InputTag(tag.key, tag.value) for tag in each.tags])


@_in_its_words
class SpoolArtifacts(ArtifactRepository):
    """mlflow's artifact repository: copies beside the spool."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._root = unquote(urlsplit(artifact_uri).path)

    def _place(self, path: str | None) -> tuple[Journal, str, str, str]:
        """The journal, "runs" or "models", the id, and the path below its root. mlflow may cut a URI anywhere."""
        whole = posixpath.join(self._root, path or "").rstrip("/")
        found = _PLACE.fullmatch(whole)
        if found is None:
            raise Invalid(f"'{self.artifact_uri}' is no place for artifacts.", f"Use the artifact_uri of a run of {SCHEME}:.")
        return journal(Path(found[1])), found[2], found[3], found[4] or ""

    def _files(self, path: str | None) -> tuple[dict[str, Path], str]:
        """All files of the run or model, and the path below its root."""
        own, kind, own_id, below = self._place(path)
        return (own.run(own_id) if kind == "runs" else own.model(own_id)).files, below

    def _keep(self, source: Path, path: str) -> None:
        own, kind, own_id, below = self._place(path)
        if kind == "runs":
            own.file(source, below, run_id=own_id)
        else:
            own.file(source, below, model=own.model(own_id))

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        source = Path(local_file)
        if not source.is_file():
            raise NotFound(f"There is no file '{source}' to log.", "Check the path; it is relative to the working directory.")
        self._keep(source, posixpath.join(artifact_path or "", source.name))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        root = Path(local_dir)
        if not root.is_dir():
            raise NotFound(f"There is no folder '{root}' to log.", "Check the path; it is relative to the working directory.")
        for source in sorted(each for each in root.rglob("*") if each.is_file()):
            self._keep(source, posixpath.join(artifact_path or "", source.relative_to(root).as_posix()))

    def list_artifacts(self, path: str | None = None) -> list[Any]:
        files, below = self._files(path)
        found: dict[str, Any] = {}
        for name, file in files.items():
            inside = name if not below else name.removeprefix(f"{below}/") if name.startswith(f"{below}/") else ""
            head, _, rest = inside.partition("/")
            if head:
                shown = posixpath.join(path or "", head)
                size = None if rest else file.stat().st_size if file.exists() else 0
                found[shown] = entities.FileInfo(shown, bool(rest), size)
        return [found[name] for name in sorted(found)]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        files, below = self._files(remote_file_path)
        if below not in files:
            raise NotFound(f"No such artifact: '{below[:200]}'", "Only what was logged on this node can be read here.")
        try:
            shutil.copyfile(files[below], local_path)
        except FileNotFoundError:
            raise NotFound(f"Artifact '{below[:200]}' has been shipped and is no longer here.",
                           "Read it where the server can be reached.") from None  # fmt: skip

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        raise _offline("Deleting artifacts")


def _refused(what: str) -> Callable[..., Any]:
    def refuse(self: object, *args: Any, **kwargs: Any) -> Any:
        raise _offline(what)

    return refuse


@_in_its_words
class SpoolRegistry(AbstractRegistry):
    """mlflow's model registry, as far as a node can know it: models can be registered, and what was is labelled.

    The number of a version is the server's to give; here it is 0.
    """

    def __init__(self, store_uri: str, tracking_uri: str | None = None) -> None:
        super().__init__(store_uri, tracking_uri)
        self._folder = folder_of(store_uri)
        self._models: dict[str, Any] = {}
        self._versions: dict[str, tuple[wire.Register, Any]] = {}

    @property
    def journal(self) -> Journal:
        return journal(self._folder)

    def create_registered_model(
        self, name: str, tags: Any = None, description: str | None = None, deployment_job_id: Any = None
    ) -> Any:
        if not name.strip() or "/" in name or ":" in name or len(name) > 256:
            raise Invalid(
                f"Invalid name: '{name[:80]}'. Registered model name cannot be empty, over 256 characters or contain '/' or ':'."
            )
        if name in self._models:
            raise AlreadyExists(f"Registered Model (name={name}) already exists.", "Add a version to it instead.")
        self.journal.shared(wire.Register(name, description or "", _pairs(tags), "", "", "", {}))
        time = now()
        self._models[name] = model_registry.RegisteredModel(name, time, time, description, [], list(tags or ()))
        return self._models[name]

    def get_registered_model(self, name: str) -> Any:
        if name not in self._models:
            raise _offline(f"Reading registered model '{name}'")
        return self._models[name]

    def create_model_version(
        self,
        name: str,
        source: str,
        run_id: str | None = None,
        tags: Any = None,
        run_link: str | None = None,
        description: str | None = None,
        local_model_path: str | None = None,
        model_id: str | None = None,
    ) -> Any:
        place, run = self._source(source), run_id or ""
        record = wire.Register(name, "", {}, place, run, description or "", _pairs(tags))
        self._register(record)
        time = now()
        version = model_registry.ModelVersion(
            name, PENDING, time, time, description, None, "None", place, run_id, tags=list(tags or ()), run_link=run_link
        )
        self._versions[name] = (record, version)
        return version

    def _source(self, source: str) -> str:
        """The source as the server will know it."""
        found = _PLACE.fullmatch(unquote(urlsplit(source).path)) if source.startswith(f"{SCHEME}:") else None
        if found is None:
            return source
        below = f"/{found[4]}" if found[4] else ""
        return f"{found[2]}:/{found[3]}{below}"

    def _register(self, record: wire.Register) -> None:
        """It goes behind the records of its source, so that the source is there when it is read."""
        if record.source.startswith("models:/m-"):
            model = self.journal.model(record.source.removeprefix("models:/").partition("/")[0])
            run_id = model.run_id
        else:
            run_id = record.run_id
        if run_id:
            self.journal.log(run_id, record)
        else:
            self.journal.shared(record)

    def _pending(self, name: str, version: str) -> tuple[wire.Register, Any]:
        if str(version) != PENDING or name not in self._versions:
            raise _offline(f"Reading or changing version {version} of registered model '{name}'")
        return self._versions[name]

    def _label(self, name: str, version: str, **labels: Any) -> Any:
        record, known = self._pending(name, version)
        labels = {"version_tags": {}, "alias": "", "stage": "", "archive": False, **labels}
        self._register(structs.replace(record, **labels))
        return known

    def get_model_version(self, name: str, version: str) -> Any:
        return self._pending(name, version)[1]

    def get_model_version_download_uri(self, name: str, version: str) -> str:
        return str(self._pending(name, version)[1].source)

    def set_model_version_tag(self, name: str, version: str, tag: Any) -> None:
        self._label(name, version, version_tags={tag.key: str(tag.value)})

    def set_registered_model_alias(self, name: str, alias: str, version: str) -> None:
        self._label(name, version, alias=alias)

    def transition_model_version_stage(self, name: str, version: str, stage: str, archive_existing_versions: bool) -> Any:
        return self._label(name, version, stage=stage, archive=archive_existing_versions)

    def set_registered_model_tag(self, name: str, tag: Any) -> None:
        self.journal.shared(wire.Register(name, "", {tag.key: str(tag.value)}, "", "", "", {}))

    update_registered_model = _refused("Changing a registered model")
    rename_registered_model = _refused("Renaming a registered model")
    delete_registered_model = _refused("Deleting a registered model")
    search_registered_models = _refused("Searching the model registry")
    get_latest_versions = _refused("Reading the model registry")
    delete_registered_model_tag = _refused("Deleting a tag of a registered model")
    update_model_version = _refused("Changing the version of a registered model")
    delete_model_version = _refused("Deleting the version of a registered model")
    search_model_versions = _refused("Searching the model registry")
    delete_model_version_tag = _refused("Deleting a tag of a registered model")
    delete_registered_model_alias = _refused("Deleting an alias")
    get_model_version_by_alias = _refused("Reading an alias")
