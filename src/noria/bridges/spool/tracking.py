"""mlflow's tracking store for `noria-spool:///folder`: it writes to spools, and reads what lies in them.

Nothing here waits for a network. mlflow's entities are looked up where they are needed, since older clients lack some.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from mlflow import entities
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.tracking.abstract_store import AbstractStore
from mlflow.utils import search_utils

from noria.bridges.spool.journal import Journal, journal
from noria.bridges.spool.known import NAME_TAG, Experiment, Model, Run
from noria.bridges.spool.words import SCHEME, folder_of, in_its_words, offline, pairs
from noria.client.spool import now
from noria.errors import AlreadyExists, Invalid, NotFound
from noria.store import names
from noria.types import Dataset, DatasetInput, ModelOutput, Tag
from noria.wire import limits
from noria.wire import spools as wire

_HISTORY_TAG = "mlflow.log-model.history"
_STATUS = {
    "PENDING": "LOGGED_MODEL_PENDING",
    "READY": "LOGGED_MODEL_READY",
    "FAILED": "LOGGED_MODEL_UPLOAD_FAILED",
}
_READY = {name: status for status, name in _STATUS.items()}
_INT64 = range(-(2**63), 2**63)


@in_its_words
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
        raise offline("Deleting an experiment")

    def restore_experiment(self, experiment_id: str) -> None:
        raise offline("Restoring an experiment")

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        raise offline("Renaming an experiment")

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
        return self._run(self.journal.reread(run_id))

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
        raise offline("Recording traces")

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
        self.journal.model_changed(model, tags=pairs(tags), params=pairs(params))
        return self.get_logged_model(model.model_id)

    def get_logged_model(self, model_id: str, allow_deleted: bool = False) -> Any:
        return self._model(self.journal.model(model_id))

    def finalize_logged_model(self, model_id: str, status: Any) -> Any:
        name: Any = _STATUS.get(str(status), "LOGGED_MODEL_PENDING")
        self.journal.model_changed(self.journal.model(model_id), status=name)
        return self.get_logged_model(model_id)

    def set_logged_model_tags(self, model_id: str, tags: Iterable[Any]) -> None:
        self.journal.model_changed(self.journal.model(model_id), tags=pairs(tags))

    def delete_logged_model_tag(self, model_id: str, key: str) -> None:
        model = self.journal.model(model_id)
        if key not in model.tags:
            raise NotFound(f"No tag with key '{key}' found for logged model with ID '{model_id}'.")
        self.journal.model_changed(model, untag=[key])

    def log_logged_model_params(self, model_id: str, params: Iterable[Any]) -> None:
        self.journal.model_changed(self.journal.model(model_id), params=pairs(params))

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
