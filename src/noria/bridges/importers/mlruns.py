"""The folder `mlruns`, where MLflow kept runs as files; read without MLflow, which has put this store aside.

A run whose files are damaged is passed over with a note, and the others follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import yaml
from msgspec import UNSET

from noria.bridges import places
from noria.bridges.source import File, LoggedModel, Registered, Run, Series, Source, info, local_files
from noria.errors import Invalid, NoriaError
from noria.types import (
    Alias,
    Dataset,
    DatasetInput,
    Experiment,
    Metric,
    ModelInput,
    ModelOutput,
    ModelVersion,
    Param,
    RegisteredModel,
    RunData,
    RunInputs,
    RunOutputs,
    RunStatus,
    Tag,
    number,
)
from noria.types import Run as Fields
from noria.wire.logged_models import Data, Info, Model
from noria.wire.logged_models import Status as ModelStatus

_META = "meta.yaml"
_TRASH = ".trash"
_MODELS = "models"
_STATUS: dict[object, RunStatus] = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
_MODEL_STATUS: dict[object, ModelStatus] = dict.fromkeys((2, "READY", "LOGGED_MODEL_READY"), "LOGGED_MODEL_READY")
_MODEL_STATUS |= dict.fromkeys((3, "FAILED", "LOGGED_MODEL_UPLOAD_FAILED"), "LOGGED_MODEL_UPLOAD_FAILED")
_DELETED = "Deleted_Internal"
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
T = TypeVar("T")


def open(source: str) -> Source:
    return Folder(Path(source.removeprefix("file://")))


class Folder(Source):
    """One folder."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root.absolute()
        if not self._found:
            raise Invalid(
                f"'{root}' is no folder of MLflow's runs: no folder in it has a '{_META}' of an experiment.", "Name another one."
            )

    @cached_property
    def _found(self) -> list[tuple[Path, dict[str, Any]]]:
        """The experiments' folders, deleted ones included, and what they say of themselves."""
        folders = [path.parent for path in [*self.root.glob(f"*/{_META}"), *self.root.glob(f"{_TRASH}/*/{_META}")]]
        pairs = [(folder, self._meta(folder)) for folder in sorted(folders) if folder.name != _MODELS]
        return [(folder, meta) for folder, meta in pairs if meta and "name" in meta]

    def _meta(self, folder: Path) -> dict[str, Any]:
        try:
            found = yaml.load((folder / _META).read_bytes(), _Loader)  # noqa: S506 (it is a safe loader)
            return found if isinstance(found, dict) else {}
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            self.notes.append(f"{folder / _META} cannot be read ({str(error).splitlines()[0]}); it was passed over.")
            return {}

    @cached_property
    def _runs(self) -> list[tuple[Path, str]]:
        """The runs' folders, each with the name of its experiment."""
        return [(path.parent, meta["name"]) for folder, meta in self._found for path in sorted(folder.glob(f"*/{_META}"))
                if path.parent.name not in (_MODELS, "tags", "datasets", "traces")]  # fmt: skip

    def total(self) -> int:
        return len(self._runs)

    def experiments(self) -> Iterator[Experiment]:
        for folder, meta in self._found:
            stage = "deleted" if folder.parent.name == _TRASH else str(meta.get("lifecycle_stage") or "active")
            yield Experiment(folder.name, str(meta["name"]), "", stage, int(meta.get("creation_time") or 0),
                             int(meta.get("last_update_time") or 0), _tags(folder / "tags"))  # fmt: skip

    def runs(self) -> Iterator[Run]:
        for folder, experiment in self._runs:
            run = self._tried(folder, partial(self._run, folder, str(experiment)))
            if run is not None:
                yield run

    def _tried(self, folder: Path, read: Callable[[], T | None]) -> T | None:
        try:
            return read()
        except (OSError, ValueError, KeyError, TypeError, AttributeError, NoriaError) as error:
            self.notes.append(f"{folder} cannot be read ({error}); it was passed over.")
            return None

    def _run(self, folder: Path, experiment: str) -> Run | None:
        meta = self._meta(folder)
        if not meta:
            return None
        tags = _tags(folder / "tags")
        name = next((tag.value for tag in tags if tag.key == "mlflow.runName"), "") or str(
            meta.get("run_name") or meta.get("name") or ""
        )
        end, own = meta.get("end_time"), folder / "artifacts"
        fields = info(
            str(meta.get("run_id") or meta.get("run_uuid") or folder.name), name, str(meta.get("user_id") or ""),
            _STATUS.get(meta.get("status"), "RUNNING"), int(meta.get("start_time") or 0), None if end is None else int(end),
            str(own) if own.is_dir() else str(meta.get("artifact_uri") or ""), str(meta.get("lifecycle_stage") or "active"))  # fmt: skip
        params = [Param(key, _text(path)) for key, path in _values(folder / "params")]
        data, inputs, outputs = RunData([], params, tags), self._inputs(folder), self._outputs(folder)
        series = [_series(key, path) for key, path in _values(folder / "metrics")]
        return Run(experiment, Fields(fields, data, inputs, outputs), series)

    def _inputs(self, folder: Path) -> RunInputs:
        datasets, models = [], []
        for path in sorted(folder.glob(f"inputs/*/{_META}")):
            meta = self._meta(path.parent)
            if meta.get("source_type") == "DATASET":
                data = self._meta(folder.parent / "datasets" / str(meta["source_id"]))
                fields = ("name", "digest", "source_type", "source", "schema", "profile")
                tags = [Tag(str(key), str(value)) for key, value in (meta.get("tags") or {}).items()]
                datasets.append(DatasetInput(Dataset(*(str(data.get(name) or "") for name in fields)), tags))
            elif meta:
                models.append(ModelInput(str(meta["source_id"])))
        return RunInputs(datasets, models)

    def _outputs(self, folder: Path) -> RunOutputs:
        paths = sorted(folder.glob(f"outputs/*/{_META}"))
        return RunOutputs([ModelOutput(path.parent.name, int(self._meta(path.parent).get("step") or 0)) for path in paths])

    def files(self, run: Run) -> Iterable[File]:
        return _files(run.fields.info.artifact_uri, self.root)

    def logged_models(self) -> Iterator[LoggedModel]:
        for folder, meta in self._found:
            for path in sorted(folder.glob(f"{_MODELS}/*/{_META}")):
                model = self._tried(path.parent, partial(self._model, path.parent, str(meta["name"])))
                if model is not None:
                    yield model

    def _model(self, folder: Path, experiment: str) -> LoggedModel | None:
        meta = self._meta(folder)
        if not meta or meta.get("lifecycle_stage", "active") != "active":
            return None
        root = folder / "artifacts"
        fields = Info(
            str(meta["model_id"]), "", str(meta["name"]), int(meta["creation_timestamp"]), int(meta["last_updated_timestamp"]),
            str(root) if root.is_dir() else str(meta.get("artifact_location") or ""),
            _MODEL_STATUS.get(meta.get("status"), "LOGGED_MODEL_PENDING"), str(meta.get("model_type") or ""),
            str(meta.get("source_run_id") or ""), _tags(folder / "tags"))  # fmt: skip
        params = [Param(key, _text(path)) for key, path in _values(folder / "params")]
        metrics = [point for key, path in _values(folder / "metrics") for point in _model_points(fields.model_id, key, path)]
        return LoggedModel(experiment, Model(fields, Data(params, metrics)))

    def model_files(self, model: LoggedModel) -> Iterable[File]:
        return _files(model.model.info.artifact_uri, self.root)

    def registered(self) -> Iterator[Registered]:
        for path in sorted((self.root / _MODELS).glob(f"*/{_META}")):
            found = self._tried(path.parent, partial(self._registered, path.parent))
            if found is not None:
                yield found

    def _registered(self, folder: Path) -> Registered | None:
        meta = self._meta(folder)
        if not meta:
            return None
        aliases = [Alias(path.name, path.read_text().strip()) for path in sorted(folder.glob("aliases/*")) if path.is_file()]
        created = int(meta.get("creation_timestamp") or 0)
        model = RegisteredModel(str(meta["name"]), created, int(meta.get("last_updated_timestamp") or created),
                                str(meta.get("description") or ""), [], _tags(folder / "tags"), aliases)  # fmt: skip
        versions = [self._version(path.parent) for path in folder.glob(f"version-*/{_META}")]
        return Registered(model, sorted((each for each in versions if each is not None), key=lambda each: int(each.version)))

    def _version(self, folder: Path) -> ModelVersion | None:
        meta = self._meta(folder)
        if not meta or meta.get("current_stage") == _DELETED:
            return None
        created = int(meta.get("creation_timestamp") or 0)
        run_id = str(meta.get("run_id") or "")
        source = places.source_of(str(meta.get("source") or ""), {run_id: self._root_of(run_id)}, self._model_roots, run_id)
        return ModelVersion(
            str(meta["name"]), str(meta["version"]), created, int(meta.get("last_updated_timestamp") or created),
            meta.get("current_stage") or "None", source, "READY", run_id, str(meta.get("description") or ""),
            str(meta.get("user_id") or ""), str(meta.get("run_link") or ""), _tags(folder / "tags"))  # fmt: skip

    def _root_of(self, run_id: str) -> str:
        """The artifact root of a run as its record has it: sources of versions were made of that."""
        path = next((folder for folder, _ in self._runs if folder.name == run_id), None)
        return str(self._meta(path).get("artifact_uri") or "") if path else ""

    @cached_property
    def _model_roots(self) -> dict[str, str]:
        paths = [path.parent for folder, _ in self._found for path in folder.glob(f"{_MODELS}/*/{_META}")]
        return {path.name: str(self._meta(path).get("artifact_location") or "") for path in paths}


def _files(root: str, beside: Path) -> Iterator[File]:
    return local_files(Path(root)) if Path(root).is_dir() else places.files(root, beside)


def _values(folder: Path) -> Iterator[tuple[str, Path]]:
    """A key for each file: keys may have slashes, and lie deeper then."""
    return ((path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("*")) if path.is_file())


def _text(path: Path) -> str:
    return path.read_text(errors="replace")


def _tags(folder: Path) -> list[Tag]:
    return [Tag(key, _text(path)) for key, path in _values(folder)]


def _series(key: str, path: Path) -> Series:
    """Lines of "timestamp value step", and of less in older files; a last line that was cut short is left out."""
    rows = [line.split(" ") for line in _text(path).split("\n")[:-1] if line.strip()]
    steps = [int(row[2]) if len(row) > 2 else 0 for row in rows]
    return Series(key, [float(row[1]) for row in rows], [int(row[0]) for row in rows], steps)


def _model_points(model_id: str, key: str, path: Path) -> Iterator[Metric]:
    """Lines of "timestamp value step run" and of the data set's name and digest."""
    for line in _text(path).splitlines():
        row = line.split(" ")
        if len(row) in (4, 6):
            name, digest = (row[4], row[5]) if len(row) == 6 else (UNSET, UNSET)
            yield Metric(key, number(float(row[1])), int(row[0]), int(row[2]), name, digest, model_id, row[3])
