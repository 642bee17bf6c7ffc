"""What a process writes to the spools of one folder for other libraries, and what it can know without asking a server.

A run has a spool of its own in each process that writes to it; experiments, and models that belong to no run, share one
that has no run. A spool is closed when its run ends: the relay may put it aside then, and what comes later gets a new one.
"""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import msgspec
from msgspec.structs import replace

from noria.bridges.spool.known import DEFAULT, NAME_TAG, Experiment, Known, Model, Point, Run
from noria.bridges.spool.others import Others
from noria.client.fluent import _DISK
from noria.client.spool import Spool, now
from noria.errors import Invalid, NotFound, Unavailable
from noria.process import born, whoami
from noria.types import RunStatus
from noria.wire import limits
from noria.wire import spools as wire
from noria.wire.logged_models import Status as ModelStatus

_VERSIONS_TAG = "mlflow.modelVersions"
PENDING = "0"
"""The version of a model that was registered here: its number is the server's to give, and mlflow wants one."""


class Journal:
    """One folder of spools. For use by several threads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lock = threading.RLock()
        self._known = Known()
        self._spools: dict[str, Spool] = {}
        self._others = Others(folder)
        self._heard: dict[str, dict[str, int]] = {}
        self._pid, self._latest = os.getpid(), 0
        self._told = {each for each in (os.environ.get("NORIA_RUN_ID"), os.environ.get("MLFLOW_RUN_ID")) if each}
        if self._job_run:
            self._known.runs[self._job_run] = self._of_job()
        self._jobs_experiment = self._known.runs[self._job_run].experiment if self._job_run else ""

    @property
    def _job_run(self) -> str:
        """The run of the job that this process belongs to, if it writes to that job's folder."""
        folder = os.environ.get("NORIA_JOB_FOLDER", "")
        return os.environ.get("NORIA_RUN_ID", "") if folder and self.folder.is_relative_to(Path(folder).absolute()) else ""

    def _of_job(self) -> Run:
        """The job's run as its folder tells of it: no server can be asked."""
        from noria.jobs.folder import Folder  # Most processes are in no job, and need not pay for this.

        with suppress(OSError, msgspec.MsgspecError):
            job = Folder(Path(os.environ["NORIA_JOB_FOLDER"])).job()
            if job.run_id != self._job_run:  # A step in the job, whose run is its own.
                own = self._everything().runs.get(self._job_run) or Run(
                    self._job_run, job.spec.experiment, job.user, "RUNNING", now()
                )
                return replace(own, in_job=True)
            tags = {NAME_TAG: job.spec.name} if job.spec.name else {}
            return Run(job.run_id, job.spec.experiment, job.user, "RUNNING", job.started or job.created, tags=tags, in_job=True)
        return Run(self._job_run, DEFAULT, whoami(), "RUNNING", now(), in_job=True)

    # What is known.

    def experiments(self) -> list[Experiment]:
        return list(self._everything().experiments.values())

    def experiment(self, name: str) -> Experiment | None:
        return self._known.experiments.get(name) or self._everything().experiments.get(name)

    def experiment_by_id(self, wanted: str) -> Experiment:
        for known in (self._known, self._everything()):
            for each in known.experiments.values():
                if each.id == wanted:
                    return each
        raise NotFound(
            f"Experiment {wanted[:64]} is not known on this node, where no server can be asked for its name.",
            "Choose it by name: mlflow.set_experiment('name'), or MLFLOW_EXPERIMENT_NAME.",
        )

    def run(self, run_id: str) -> Run:
        """The run, as this process or other spools of the folder know it."""
        with self.lock:
            found = self._known.runs.get(run_id) or self._everything().runs.get(run_id)
            if found is None and run_id in self._told:
                found = Run(run_id, DEFAULT, whoami(), "RUNNING", now())
            if found is None:
                raise NotFound(
                    f"Run {run_id[:64]} is not known on this node, where no server can be asked.",
                    f"Runs that were begun with spools in {self.folder} can be read; others when the server can be reached.",
                )
            self._known.runs[run_id] = found
            return found

    def reread(self, run_id: str) -> Run:
        """The same, with what other processes have written to it since, as a step of this one's does. A job's run is its own process's."""
        with self.lock:
            found, others = self.run(run_id), self._others.sizes(run_id)
            if not found.in_job and others != self._heard.get(run_id, {}):
                known = Known()
                for _, record, folder in self._records(run_id):
                    known.apply(run_id, record, folder)
                self._known.runs[run_id] = found = known.runs.get(run_id, found)
                self._heard[run_id] = others
            return found

    def runs(self) -> list[Run]:
        return list(self._everything().runs.values())

    def model(self, model_id: str) -> Model:
        with self.lock:
            found = self._known.models.get(model_id) or self._everything().models.get(model_id)
            if found is None or found.deleted:
                raise NotFound(
                    f"Logged model {model_id[:64]} is not known on this node, where no server can be asked.",
                    "Models that were logged here can be read; others when the server can be reached.",
                )
            self._known.models[model_id] = found
            return found

    def models(self) -> list[Model]:
        return [each for each in self._everything().models.values() if not each.deleted]

    def history(self, run_id: str, key: str) -> list[Point]:
        """One metric's points, each once, in MLflow's order. Read from the spools: memory is the script's own."""
        points: dict[object, Point] = {}
        for _, record, _ in self._records(run_id):
            if isinstance(record, wire.Points):
                found = [point for point in record.points if point[0] == key]
            elif isinstance(record, wire.Log) and key in record.metrics:
                found = [(key, record.metrics[key], int(record.timestamp * 1000), record.step)]
            else:
                continue
            points.update(((repr(point[1]), *point[2:]), point) for point in found)
        return sorted(points.values(), key=lambda point: (point[2], point[3], point[1]))

    def _everything(self) -> Known:
        """What all spools of the folder say, and this process."""
        known = Known()
        for run_id, record, folder in self._records():
            known.apply(run_id, record, folder)
        known.experiments |= self._known.experiments
        known.runs |= self._known.runs
        known.models |= self._known.models
        return known

    def _records(self, of: str | None = None) -> Iterator[tuple[str, wire.Record, Path]]:
        """All records that lie here, or those of one run, also in spools that a relay has put aside, with run and folder."""
        for path in sorted([*self.folder.glob("*.spool"), *self.folder.glob("shipped/*.spool")], key=lambda path: path.name):
            try:
                data = path.read_bytes()
                records = wire.records(memoryview(data)[: wire.whole(data)])
                header = next(records, None)
                if isinstance(header, wire.Header) and of in (None, header.run_id):
                    for record in records:
                        yield header.run_id, record, path.parent
            except (OSError, msgspec.MsgspecError):
                continue  # Moved just now, or of another release: it is read by whoever ships it.

    # What is written.

    def begin(self, run: Run, tags: Mapping[str, str]) -> None:
        """A new run, or one that goes on; its writer answers for its end."""
        with self.lock:
            self._leave(run.run_id)
            name = tags.get(NAME_TAG, "")
            self._put(run.run_id, wire.Begin(run.experiment, name, run.user, run.start_time, dict(tags)))

    def choose(self, name: str) -> None:
        """A script that sets its experiment takes its job's run there, as on a server; its first choice counts."""
        with self.lock:
            run = self._known.runs.get(self._job_run)
            if run is not None and run.experiment == self._jobs_experiment != name:
                self._put(run.run_id, wire.Change(experiment=name))

    def resume(self, run_id: str) -> None:
        """The run goes on in this process. A job's run does so by itself."""
        with self.lock:
            run = self.run(run_id)
            if not run.in_job and (run_id not in self._spools or run.status != "RUNNING"):
                self.begin(run, {})

    def log(self, run_id: str, *records: wire.Record) -> None:
        """Records of a run, in one write."""
        with self.lock:
            self.run(run_id)
            self._put(run_id, *records)

    def end(self, run_id: str, status: RunStatus, end_time: int) -> None:
        """The run has ended. Of a job's run the exit code says how, so that nothing is written."""
        with self.lock:
            run = self.run(run_id)
            end = wire.End(status, end_time)
            if run.in_job:
                run.apply(end, self.folder)
            else:
                self._put(run_id, end)
                self._leave(run_id)

    def batch(
        self,
        run_id: str,
        *,
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        records: Sequence[wire.Record] = (),
    ) -> None:
        """All of it, or nothing: Invalid for a deleted run, and for a parameter that was logged here with another value."""
        with self.lock:
            run = self.run(run_id)
            if run.lifecycle_stage != "active":
                raise Invalid(f"The run {run_id} must be in the 'active' state. Current state is deleted.", "Restore it first.")
            for key, value in (params or {}).items():
                if run.params.get(key, value) != value:
                    raise Invalid(
                        f"Changing param values is not allowed. Param with key='{key}' was already logged with "
                        f"value='{run.params[key]}' for run ID='{run_id}'. Attempted logging new value '{value}'."
                    )
            fresh = {key: value for key, value in (params or {}).items() if key not in run.params}
            first = [wire.Params(fresh)] if fresh else []
            second = [wire.Tags(dict(tags))] if tags else []
            if first or second or records:
                self._put(run_id, *first, *second, *records)

    def shared(self, record: wire.Record) -> None:
        """A record of no run."""
        with self.lock:
            self._put("", record)

    def model_changed(
        self,
        model: Model,
        *,
        status: ModelStatus | None = None,
        tags: Mapping[str, str] | None = None,
        untag: Sequence[str] = (),
        params: Mapping[str, str] | None = None,
        deleted: bool = False,
    ) -> None:
        """A logged model that is new, or that has changed."""
        kept = {key: value for key, value in (tags or {}).items() if key != _VERSIONS_TAG}  # The server knows the numbers.
        record = wire.Model(
            model.model_id, model.experiment, model.name, model.model_type, model.run_id, model.created,
            status, kept, list(untag), dict(params or {}), deleted)  # fmt: skip
        with self.lock:
            self._known.models.setdefault(model.model_id, model).changed = now()
            self._put(model.run_id, record)

    def file(self, source: Path, path: str, *, run_id: str = "", model: Model | None = None) -> None:
        """A copy is kept beside the spool: the file may change as soon as this returns."""
        limits.artifact_path(path)
        with self.lock:
            spool = self._spool(model.run_id if model else run_id)
            stored = f"{spool.files.name}/{uuid4().hex}"
        copy = self.folder / stored
        try:
            copy.parent.mkdir(exist_ok=True, mode=0o700)
            shutil.copyfile(source, copy)
        except OSError as error:
            with suppress(OSError):
                copy.unlink(missing_ok=True)
            if error.errno not in _DISK:
                raise Invalid(f"The file '{source}' cannot be logged ({error.strerror}).", "Check its permissions.") from None
            spool.lose(f"the file '{source}' ({error.strerror})")
            return
        size = copy.stat().st_size
        if model is not None:
            self._put(model.run_id, wire.ModelArtifact(model.model_id, path, stored, size))
        else:
            self._put(run_id, wire.Artifact(path, stored, size))

    def _put(self, run_id: str, *records: wire.Record) -> None:
        with self.lock:
            self._spool(run_id).add(b"".join(map(wire.frame, records)))
            for record in records:
                self._known.apply(run_id, record, self.folder)

    def _spool(self, run_id: str) -> Spool:
        if self._pid != os.getpid():  # A fork: its parent writes to those spools, and answers for those runs.
            self._pid, self._spools = os.getpid(), {}
        if run_id not in self._spools:
            in_job = bool(run_id) and run_id == self._job_run
            self._latest = max(now(), self._latest + 1)  # Spools are shipped in the order of their times.
            header = wire.Header(
                wire.FORMAT, uuid4().hex, run_id, os.environ.get("NORIA_JOB_ID", "") if in_job else "",
                int(os.environ.get("NORIA_ATTEMPT", "0")) if in_job else 0, int(os.environ.get("RANK", "0")) if in_job else 0,
                socket.gethostname(), self._pid, born(self._pid), self._latest)  # fmt: skip
            try:
                self._spools[run_id] = Spool(self.folder, header)
            except OSError as error:
                raise Unavailable(f"The spool folder {self.folder} cannot be written ({error.strerror}).",
                                  "Free some space, or name another folder in MLFLOW_TRACKING_URI.") from None  # fmt: skip
        return self._spools[run_id]

    def _leave(self, run_id: str) -> None:
        spool = self._spools.pop(run_id, None)
        if spool is not None:
            spool.close()

    def close(self) -> None:
        """The process ends. Runs that it began and did not end stay as they are, as on a server."""
        with self.lock:
            if self._pid != os.getpid():
                return
            for run_id in list(self._spools):
                self._spools[run_id].append(wire.Close())
                self._leave(run_id)


_journals: dict[Path, Journal] = {}
_lock = threading.Lock()


def journal(folder: Path) -> Journal:
    """The one of this folder: stores and artifact repositories share it."""
    with _lock:
        if folder not in _journals:
            _journals[folder] = Journal(folder)
        return _journals[folder]


def close_all() -> None:
    for each in list(_journals.values()):
        each.close()
