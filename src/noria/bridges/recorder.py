"""What an export to MLflow writes, whoever stands behind its API: exporters say how it is asked.

MLflow gives a run its own id there; ours is its tag `noria.run_id`, by which a second call finds it. What was not finished
is completed, and a run that MLflow knows by our id, because it came from there, is that run.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, structs

from noria.bridges.bring import listed
from noria.bridges.send import Sink, State
from noria.client.http import Server
from noria.errors import Invalid, NoriaError
from noria.types import ModelVersion, RegisteredModel
from noria.wire import artifacts, logged_models, registry
from noria.wire.imports import Run

_RUN, _MODEL, _DONE = "noria.run_id", "noria.model_id", "noria.exported"
_METRICS, _OTHERS = 900, 100
"""Entries of one batch; MLflow takes no more."""
_PAGE = 1000


class Recorder(Sink):
    """One tracking store, and its registry."""

    what = "MLflow"
    """Who keeps it, as sentences say."""

    def __init__(self, server: Server, client: Any, entities: Any) -> None:
        """client: with the methods of MLflow's client. entities: what these are given, by MLflow's names."""
        super().__init__()
        self.server, self.client, self.entities = server, client, entities
        self._experiments: dict[str, str] = {}
        self._known: dict[str, str] = {}
        self._models: dict[str, str] = {}

    def there(self, experiment: str) -> str:
        """What an experiment is called there."""
        return experiment

    def found(self, run_id: str) -> Any:
        """The run of this id there; None if there is none."""
        raise NotImplementedError

    def made(self, model: RegisteredModel) -> None:
        """See to it that a registered model of this name is there."""
        raise NotImplementedError

    # Runs.

    def run(self, run: Run) -> State:
        experiment_id = self._experiment(run.experiment)
        files = dict(listed(self.server, run.fields.info.artifact_uri)) if self._is_ours(run.fields.info.artifact_uri) else {}
        digest, theirs = _digest(run, files), self.found(self._known.get(run.fields.info.run_id, run.fields.info.run_id))
        if theirs is not None and (theirs.data.tags.get(_DONE) == digest or theirs.info.lifecycle_stage != "active"):
            self._known[run.fields.info.run_id] = theirs.info.run_id
            return "same"
        theirs_id = self._create(run, experiment_id) if theirs is None else str(theirs.info.run_id)
        self._known[run.fields.info.run_id] = theirs_id
        self._fill(run, theirs_id, theirs)
        self._files(run.fields.info.artifact_uri, files, theirs_id, self._theirs(theirs_id), self._put)
        for output in run.fields.outputs.model_outputs:
            self._output(output.model_id, output.step, experiment_id, theirs_id, theirs)
        self._end(run, theirs_id)
        self.client.set_tag(theirs_id, _DONE, digest)
        return "new" if theirs is None else "completed"

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            there = self.there(name)
            found = self.client.get_experiment_by_name(there)
            if found is not None and found.lifecycle_stage != "active":
                raise Invalid(f"Experiment '{there}' is deleted in {self.what}.", "Restore it there, then export again.")
            self._experiments[name] = found.experiment_id if found is not None else self.client.create_experiment(there)
            self._meet(self._experiments[name])
        return self._experiments[name]

    def _meet(self, experiment_id: str) -> None:
        """What an earlier export has left in this experiment."""
        for run in self._pages(lambda token: self.client.search_runs([experiment_id], "", 3, _PAGE, page_token=token)):
            if _RUN in run.data.tags:
                self._known.setdefault(run.data.tags[_RUN], run.info.run_id)
        if hasattr(self.client, "search_logged_models"):
            for model in self._pages(
                lambda token: self.client.search_logged_models([experiment_id], max_results=100, page_token=token)
            ):
                if _MODEL in model.tags:
                    self._models.setdefault(model.tags[_MODEL], model.model_id)

    @staticmethod
    def _pages(ask: Callable[[str | None], Any]) -> Iterator[Any]:
        token: str | None = None
        while True:
            page = ask(token)
            yield from page
            token = page.token
            if not token:
                return

    def _create(self, run: Run, experiment_id: str) -> str:
        info = run.fields.info
        tags = {_RUN: info.run_id, "mlflow.user": info.user_id} if info.user_id else {_RUN: info.run_id}
        return str(self.client.create_run(experiment_id, info.start_time, tags, info.run_name).info.run_id)

    def _fill(self, run: Run, theirs_id: str, theirs: Any) -> None:
        """Parameters, tags, points and inputs, as far as they are missing."""
        given = self.entities
        had = theirs.data.params if theirs is not None else {}
        params = [given.Param(each.key, each.value) for each in run.fields.data.params if each.key not in had]
        tags = [given.RunTag(each.key, each.value) for each in run.fields.data.tags]
        for start in range(0, max(len(params), len(tags)), _OTHERS):
            part = slice(start, start + _OTHERS)
            self.client.log_batch(theirs_id, params=params[part], tags=tags[part])
        for series in run.series:
            points = [
                given.Metric(series.key, *point) for point in zip(series.values, series.timestamps, series.steps, strict=True)
            ]
            if theirs is not None and series.key in theirs.data.metrics:
                stored = {_point(each) for each in self.client.get_metric_history(theirs_id, series.key)}
                points = [each for each in points if _point(each) not in stored]
            for start in range(0, len(points), _METRICS):
                self.client.log_batch(theirs_id, metrics=points[start : start + _METRICS])
        self._inputs(run, theirs_id)

    def _inputs(self, run: Run, theirs_id: str) -> None:
        given = self.entities

        def entity(data: Any) -> Any:
            return given.Dataset(data.name, data.digest, data.source_type, data.source, data.schema or None, data.profile or None)

        inputs = [given.DatasetInput(entity(each.dataset), [given.InputTag(tag.key, tag.value) for tag in each.tags])
                  for each in run.fields.inputs.dataset_inputs]  # fmt: skip
        if inputs:
            self.client.log_inputs(theirs_id, inputs)

    def _end(self, run: Run, theirs_id: str) -> None:
        info = run.fields.info
        if info.status in ("FINISHED", "FAILED", "KILLED"):
            self.client.set_terminated(theirs_id, info.status, None if info.end_time is UNSET else info.end_time)

    # Files.

    @staticmethod
    def _is_ours(uri: str) -> bool:
        return uri.startswith(artifacts.SCHEME)

    def _theirs(self, run_id: str, path: str | None = None) -> Iterator[tuple[str, int]]:
        for each in self.client.list_artifacts(run_id, path):
            if each.is_dir:
                yield from self._theirs(run_id, each.path)
            else:
                yield each.path, each.file_size or 0

    def _put(self, own_id: str, source: Path, folder: str | None) -> None:
        self.client.log_artifact(own_id, str(source), folder)

    def _files(
        self, root: str, files: dict[str, int], own_id: str, theirs: Iterable[tuple[str, int]], put: Callable[[str, Path, str | None], None]
    ) -> None:  # fmt: skip
        """Copy what the other side lacks, by name and size."""
        there = dict(theirs) if files else {}
        for path, size in files.items():
            if there.get(path) == size:
                continue
            with tempfile.TemporaryDirectory(prefix="noria-") as folder:
                copy = Path(folder) / Path(path).name
                self.server.download(root, path, copy)
                put(own_id, copy, str(Path(path).parent) if "/" in path else None)

    # Logged models.

    def _output(self, model_id: str, step: int, experiment_id: str, run_id: str, run: Any) -> None:
        if not hasattr(self.client, "create_logged_model"):
            self.note("Logged models stayed behind: this MLflow is older than 3 and has none.")
            return
        theirs = self._models.get(model_id) or self._make(model_id, experiment_id, run_id)
        if theirs is None:
            return
        linked = {each.model_id for each in run.outputs.model_outputs} if run is not None and run.outputs else set()
        if theirs not in linked:
            self.client.log_outputs(run_id, [self.entities.LoggedModelOutput(theirs, step)])

    def _make(self, model_id: str, experiment_id: str, run_id: str) -> str | None:
        try:
            model = self.server.call(logged_models.GET, logged_models.Key(model_id)).model
        except NoriaError:
            self.note(f"Logged model {model_id} is gone, and stayed behind.")
            return None
        info = model.info
        tags = {each.key: each.value for each in info.tags} | {_MODEL: model_id}
        params = {each.key: each.value for each in model.data.params}
        theirs = self.client.create_logged_model(experiment_id, info.name, run_id, tags, params, info.model_type or None)
        self._models[model_id] = theirs.model_id
        if self._is_ours(info.artifact_uri):
            self._files(info.artifact_uri, dict(listed(self.server, info.artifact_uri)), theirs.model_id, (), self._put_model)
        given = self.entities.LoggedModelStatus
        status = {"LOGGED_MODEL_READY": given.READY, "LOGGED_MODEL_UPLOAD_FAILED": given.FAILED}.get(info.status)
        if status is not None:
            self.client.finalize_logged_model(theirs.model_id, status)
        return str(theirs.model_id)

    def _put_model(self, own_id: str, source: Path, folder: str | None) -> None:
        with tempfile.TemporaryDirectory(prefix="noria-") as root:  # There is a public call for whole folders alone.
            place = Path(root) / (folder or "")
            place.mkdir(parents=True, exist_ok=True)
            source.rename(place / source.name)
            self.client.log_model_artifacts(own_id, root)

    def note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)

    # The registry: what lies with runs that were exported.

    def finish(self) -> None:
        for model in self._registered:
            query = registry.SearchVersions(f"name = '{model.name}'")
            versions = self.server.call(registry.SEARCH_VERSIONS, query).model_versions
            wanted = [each for each in sorted(versions, key=lambda each: int(each.version)) if self._source(each)]
            if wanted:
                self._register(model, wanted)

    @cached_property
    def _registered(self) -> list[RegisteredModel]:
        found: list[RegisteredModel] = []
        token = ""
        while True:
            page = self.server.call(registry.SEARCH, registry.Search(max_results=100, page_token=token))
            found += page.registered_models
            token = page.next_page_token
            if not token:
                return found

    def _source(self, version: ModelVersion) -> str:
        """The source there: in the run or the model that this export has made of ours; "" if it is in none."""
        if version.source.startswith("models:/m-"):
            theirs = self._models.get(version.source.removeprefix("models:/"))
            return f"models:/{theirs}" if theirs else ""
        theirs = self._known.get(version.run_id)
        place = self.server.call(registry.DOWNLOAD_URI, registry.VersionKey(version.name, version.version)).artifact_uri
        marker = f"/{version.run_id}/artifacts"
        if theirs is None or not isinstance(place, str) or marker not in place:
            return ""
        return f"{self.client.get_run(theirs).info.artifact_uri}{place.partition(marker)[2]}"

    def _register(self, model: RegisteredModel, versions: Sequence[ModelVersion]) -> None:
        self.made(model)
        there = {int(each.version) for each in self.client.search_model_versions(f"name = '{model.name}'")}
        for version in versions:
            if int(version.version) not in there:
                self._version(version, max(there, default=0))
                there.add(int(version.version))
        for alias in model.aliases:
            if int(alias.version) in there:
                self.alias(model.name, alias.alias, alias.version)

    def alias(self, name: str, alias: str, version: str) -> None:
        self.client.set_registered_model_alias(name, alias, version)

    def _version(self, version: ModelVersion, last: int) -> None:
        """A version under its own number: the other side counts by itself, so what is missing between is made and deleted."""
        source = self._source(version)
        model_id = source.removeprefix("models:/") if source.startswith("models:/m-") else None
        run_id = self._known.get(version.run_id)
        tags = {each.key: each.value for each in version.tags}
        if int(version.version) <= last:
            self.note(f"Version {version.version} of model '{version.name}' stayed behind: {self.what} has later ones.")
            return
        while True:
            extra = {"model_id": model_id} if model_id else {}
            made = self.client.create_model_version(
                version.name, source, run_id, tags, description=version.description or None, **extra
            )
            if int(made.version) >= int(version.version):
                break
            self.client.delete_model_version(version.name, str(made.version))
        if int(made.version) != int(version.version):
            self.note(f"Version {version.version} of model '{version.name}' is version {made.version} in {self.what}.")
        if version.current_stage != "None":
            self.client.transition_model_version_stage(version.name, str(made.version), version.current_stage)


def _digest(run: Run, files: dict[str, int]) -> str:
    """What was exported, in short: when it is the same again there is nothing to do."""
    fields = structs.replace(run.fields, info=structs.replace(run.fields.info, artifact_uri="", experiment_id=""))
    return hashlib.sha256(msgspec.msgpack.encode((fields, run.series, sorted(files.items())))).hexdigest()[:32]


def _point(metric: Any) -> tuple[str, int, int]:
    return repr(float(metric.value)), int(metric.timestamp), int(metric.step)
