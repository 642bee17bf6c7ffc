"""A project as a one-time run of Databricks Jobs: its code sent once, its run in the tracking there, its packages as that job's libraries."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from noria import config
from noria.databricks import names
from noria.databricks.keeping import Store
from noria.databricks.workspace import MLFLOW, Workspace
from noria.errors import Invalid, NoriaError, NotFound
from noria.projects import built, code, mlproject, on_databricks, parameters
from noria.projects.build import KINDS
from noria.projects.fetch import Fetched, fetch
from noria.projects.mlproject import Entry
from noria.projects.start import Report, Request, tags_of

_TASK, _ENVIRONMENT = "project", "project"
_KEY = "noria.key"
_JOB = "mlflow.databricks.shellJobRunID"
_QUEUED = {"PENDING", "QUEUED", "BLOCKED", "WAITING_FOR_RETRY"}
_THERE = ("/Volumes/", "/dbfs/", "/Workspace/")
_POLL = 0.5, 10.0
"""Seconds between two looks at a job, at first and at most."""
State = Literal["QUEUED", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"]


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """Where and how it runs: new_cluster as the Jobs API takes it, or the id of a cluster, or neither for serverless compute.

    libraries: besides those of the project. storage: where its code is kept (see Store). timeout_seconds: 0 is no limit. environment_version: of
    serverless compute.
    """

    new_cluster: dict[str, Any] | None = None
    existing_cluster_id: str = ""
    libraries: list[dict[str, Any]] = []
    storage: str = ""
    timeout_seconds: int = 0
    environment_version: str = "3"


class Submitted(Struct, frozen=True):
    """What was started. job: the run of the Jobs API; run_id: of the tracking. known: it was there already, by its key."""

    profile: str
    job: int
    run_id: str
    url: str
    experiment: str
    command: str
    known: bool = False
    notes: list[str] = []

    @property
    def uri(self) -> str:
        """By which `noria wait`, `logs` and `cancel` know it."""
        return f"databricks://{self.profile}/{self.job}"


class Seen(Struct, frozen=True):
    """A job as it is now. reason: why it ended so, in a sentence with its cure; "" if it went well. task: whose output is its log."""

    job: int
    state: State
    reason: str = ""
    url: str = ""
    task: int = 0
    command: list[str] = field(default_factory=list)


def settings(cluster: str, file: str) -> Settings:
    """Of --cluster (JSON, or the id of a cluster) and --backend-config (a file of JSON: a cluster, or all of Settings). Raises Invalid."""
    found: dict[str, Any] = {}
    if file:
        try:
            found = _configured(_json(Path(file).read_text(), file))
        except (OSError, UnicodeDecodeError) as error:
            raise Invalid(f"{file} cannot be read ({error}).", "Give the path of a JSON file.") from None
    if cluster:
        found |= (
            _configured(_json(cluster, "--cluster")) if cluster.lstrip().startswith("{") else {"existing_cluster_id": cluster}
        )
    try:
        import msgspec

        made = msgspec.convert(found, Settings)
    except msgspec.ValidationError as error:
        raise Invalid(f"The backend's settings are not understood: {error}.", f"They may have {', '.join(Settings.__struct_fields__)}.") from None  # fmt: skip
    if made.new_cluster is not None and made.existing_cluster_id:
        raise Invalid("Both a new cluster and an existing one are named.", "Keep one of them.")
    return made


def _configured(found: dict[str, Any]) -> dict[str, Any]:
    """A bare cluster, as MLflow takes it, is a new one."""
    return {"new_cluster": found} if {"spark_version", "node_type_id", "num_workers", "autoscale"} & found.keys() else found


def _json(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise Invalid(f"{where} is no JSON ({error}).", "Mend it there.") from None
    if not isinstance(found, dict):
        raise Invalid(f"{where} is no object of JSON.", 'Write {"new_cluster": {…}}.')
    return found


def submit(workspace: Workspace, request: Request, chosen: Settings, report: Report = lambda line: None) -> Submitted:
    """Submit an entry point, once for each key. Raises Invalid or NotFound for what is wrong with the project, before anything is sent."""
    found = fetch(request.uri, request.version, config.load().folder / "projects" / "sources")
    folder = Path(found.folder)
    project = mlproject.read(folder)
    if "docker_env" in project.environment:
        raise Invalid(
            "A docker_env is no environment of Databricks Jobs.", "Name its image in the cluster: docker_image of new_cluster."
        )
    entry, values = _relative(project.entry(request.entry), request.parameters, folder)
    filled = parameters.filled(entry, values, Path.cwd(), folder, lambda uri, place: uri)
    packages, notes = _packages(folder) if request.env_manager == "auto" else ([], [])
    frozen = code.freeze(folder, config.load().folder / "code")
    report("sending the project to Databricks")
    packed, runner = _kept(Store(workspace, chosen.storage), Path(frozen.file))
    path = names.Names(workspace.home).there(request.experiment or request.resources.experiment)
    run = _run(workspace, path, request, found, filled.logged)
    told = {"command": filled.command, "inside": frozen.inside, "env": {**request.resources.env, "MLFLOW_TRACKING_URI": "databricks",
            "MLFLOW_RUN_ID": run["run_id"], "MLFLOW_EXPERIMENT_ID": run["experiment_id"]}}  # fmt: skip
    try:
        job, url = _submitted(workspace, request, chosen, runner, [packed, json.dumps(told)], packages, run["run_id"])
    except NoriaError:
        workspace.post(f"{MLFLOW}/runs/update", run_id=run["run_id"], status="FAILED", end_time=int(time.time() * 1000))
        raise
    known = bool(run["tags"].get(_JOB))
    for key, value in {_JOB: str(job), "mlflow.databricks.runURL": url, "mlflow.databricks.webappURL": workspace.host}.items():
        workspace.post(f"{MLFLOW}/runs/set-tag", run_id=run["run_id"], key=key, value=value)
    return Submitted(workspace.profile, job, run["run_id"], url, path, filled.command, known, notes)


def _relative(entry: Entry, values: Mapping[str, object], folder: Path) -> tuple[Entry, dict[str, object]]:
    """Paths as they are there: those below the project by the way from it. Raises Invalid for files that are here alone."""
    kinds, given = dict(entry.parameters), dict(values)
    for name, parameter in entry.parameters.items():
        value = str(values.get(name, parameter.default or ""))
        if parameter.type != "path" or not value:
            continue
        kinds[name] = replace(parameter, type="string")
        if value.startswith(_THERE) or "://" in value or value.startswith("dbfs:/"):
            given[name] = f"/dbfs/{value.removeprefix('dbfs:').lstrip('/')}" if value.startswith("dbfs:/") else value
            continue
        places = [(base / value).resolve() for base in ((Path.cwd(), folder) if name in values else (folder,))]
        here = next((each for each in places if each.exists()), None)
        if here is None or not here.is_relative_to(folder.resolve()):
            what = "which Databricks does not see" if here else "and there is no such file or folder"
            raise Invalid(
                f"Parameter {name} is '{value}', {what}.", "Put it into the project or into a volume, and give that path."
            )
        given[name] = str(here.relative_to(folder.resolve()))
    return replace(entry, parameters=kinds), given


def _packages(folder: Path) -> tuple[list[str], list[str]]:
    """What the project's environment file wants of pip, and sentences about what cannot come along."""
    need = built.needed(folder)
    if need is None or need.kind == "image":
        return [], []
    recipe = KINDS.get(need.kind).read(need)
    lines = [line for layer in recipe.layers for line in layer]
    notes = [f"{need.file} wants Python {recipe.python}; Databricks has that of its runtime"] if recipe.python else []
    if any(line.path for line in lines):
        notes.append("packages that are files of the project are not installed there")
    if need.kind == "conda":
        notes.append("of conda's packages only those of pip are installed there")
    return [line.text for line in lines if not line.path], notes


def _kept(store: Store, packed: Path) -> tuple[str, str]:
    """The project and its runner there."""
    with tempfile.TemporaryDirectory() as name:
        small = Path(name) / "packed"
        with packed.open("rb") as source, small.open("wb") as out, gzip.GzipFile("", "wb", mtime=0, fileobj=out) as file:
            shutil.copyfileobj(source, file)
        runner = Path(on_databricks.__file__)
        digest = hashlib.sha256(runner.read_bytes()).hexdigest()[:16]
        return store.keep(f"{packed.stem}.tar.gz", small), store.keep(f"run-{digest}.py", runner)


def _run(workspace: Workspace, path: str, request: Request, found: Fetched, logged: Mapping[str, str]) -> dict[str, Any]:
    """The run in the tracking there, made or, by its key, found: its id, its experiment's, and its tags."""
    from noria.databricks.mlflow import Client

    client = Client(workspace)
    known = client.get_experiment_by_name(path)
    experiment = known.experiment_id if known else client.create_experiment(path)
    tags = tags_of(request, found) | {"mlflow.project.backend": "databricks"} | request.tags
    key = request.key or hashlib.sha256(f"{time.time_ns()} {path}".encode()).hexdigest()[:32]

    def there() -> dict[str, Any] | None:
        query = {"filter": f"tags.`{_KEY}` = '{key}'", "max_results": 1}
        runs = workspace.post(f"{MLFLOW}/runs/search", experiment_ids=[experiment], **query).get("runs")
        return {"run": runs[0]} if runs else None

    body = {"experiment_id": experiment, "start_time": int(time.time() * 1000), "run_name": request.run_name,
            "tags": [{"key": key, "value": value} for key, value in {**tags, _KEY: key}.items()]}  # fmt: skip
    run = ((there() if request.key else None) or workspace.once(f"{MLFLOW}/runs/create", there, **body))["run"]
    own, had = run["info"]["run_id"], {each["key"]: each["value"] for each in run["data"].get("tags", [])}
    if _JOB not in had:
        workspace.post(
            f"{MLFLOW}/runs/log-batch", run_id=own, params=[{"key": key, "value": value} for key, value in logged.items()]
        )
    return {"run_id": own, "experiment_id": experiment, "tags": had}


def _submitted(
    workspace: Workspace, request: Request, chosen: Settings, runner: str, words: list[str], packages: list[str], run_id: str
) -> tuple[int, str]:
    """The number and the page of the job. Again with the same run it is the same job, also if an answer was lost."""
    from databricks.sdk.service import jobs

    task: dict[str, Any] = {"task_key": _TASK, "spark_python_task": {"python_file": runner, "parameters": words}}
    environments: list[Any] | None = None
    if chosen.new_cluster is not None or chosen.existing_cluster_id:
        where = {"new_cluster": chosen.new_cluster} if chosen.new_cluster is not None else {"existing_cluster_id": chosen.existing_cluster_id}  # fmt: skip
        task |= where | {"libraries": [*chosen.libraries, *({"pypi": {"package": each}} for each in packages)]}
    else:
        more = [each["pypi"]["package"] for each in chosen.libraries if "pypi" in each]
        spec = {"environment_version": chosen.environment_version, "dependencies": [*packages, *more]}
        environments = [jobs.JobEnvironment.from_dict({"environment_key": _ENVIRONMENT, "spec": spec})]
        task["environment_key"] = _ENVIRONMENT
    asked = workspace.tried(lambda: workspace.client.jobs.submit(
        run_name=request.run_name or f"noria run {request.entry}", tasks=[jobs.SubmitTask.from_dict(task)], environments=environments,
        idempotency_token=hashlib.sha256(run_id.encode()).hexdigest()[:64], timeout_seconds=chosen.timeout_seconds or None))  # fmt: skip
    job = int(asked.response.run_id)
    return job, seen(workspace, job).url


def seen(workspace: Workspace, job: int) -> Seen:
    """A job as it is now. Raises NotFound for one that is not there."""
    try:
        found = workspace.get("/api/2.1/jobs/runs/get", run_id=job)
    except (Invalid, NotFound) as error:
        if "does not exist" not in error.message:
            raise
        raise NotFound(f"There is no job {job} at {workspace.host}.", "Databricks forgets runs after 60 days.") from None
    said = found.get("state") or {}
    life, result, message = said.get("life_cycle_state", ""), said.get("result_state", ""), said.get("state_message") or ""
    tasks = found.get("tasks") or []
    task = int(tasks[0]["run_id"]) if tasks else job
    state: State = "QUEUED" if life in _QUEUED else "RUNNING"
    if life in ("TERMINATED", "SKIPPED", "INTERNAL_ERROR"):
        state = "COMPLETED" if result == "SUCCESS" else "CANCELLED" if result == "CANCELED" else "FAILED"
    reason = _reason(workspace, task, result, message) if state == "FAILED" else ""
    return Seen(job, state, reason, found.get("run_page_url") or "", task)


def _reason(workspace: Workspace, task: int, result: str, message: str) -> str:
    """Why it failed, in a sentence."""
    said = message.strip().rstrip(".")
    if result == "TIMEDOUT":
        return "It took longer than its time limit. Give it more: timeout_seconds in --backend-config, or --time."
    if "ibrary" in said:
        return f"A package could not be installed there: {said}. Mend the project's environment file."
    if said.startswith("Cluster") or "cluster" in said.lower().partition(".")[0]:
        return f"Databricks could not give it a cluster: {said}. Change --cluster, or look at the workspace's limits."
    lines = [line for line in output(workspace, task).splitlines() if line.strip()]
    last = f", and its last line was: {lines[-1].strip()[:300]}" if lines else ""
    return f"The program failed ({said or result}){last}."


def output(workspace: Workspace, task: int) -> str:
    """What a task has printed. Databricks tells it when it has ended, the first 5 MB of it."""
    found = workspace.get("/api/2.1/jobs/runs/get-output", run_id=task)
    return str(found.get("logs") or found.get("error_trace") or found.get("error") or "")


def watch(workspace: Workspace, job: int, sleep: Callable[[float], None] = time.sleep) -> Iterator[Seen]:
    """The job each time that its state has changed, until it has ended."""
    wait, before = _POLL[0], ""
    while True:
        now = seen(workspace, job)
        if now.state != before:
            wait, before = _POLL[0], now.state
            yield now
        if now.state not in ("QUEUED", "RUNNING"):
            return
        sleep(wait)
        wait = min(wait * 1.3, _POLL[1])


def end(workspace: Workspace, run_id: str, seen: Seen) -> None:
    """See to it that the run has ended as its job has: a program that never came to run has ended nothing."""
    info = workspace.get(f"{MLFLOW}/runs/get", run_id=run_id)["run"]["info"]
    if info["status"] in ("RUNNING", "SCHEDULED"):
        status = {"COMPLETED": "FINISHED", "CANCELLED": "KILLED"}.get(seen.state, "FAILED")
        workspace.post(f"{MLFLOW}/runs/update", run_id=run_id, status=status, end_time=int(time.time() * 1000))


def cancel(workspace: Workspace, job: int) -> Seen:
    """End a job; nothing happens to one that has ended."""
    now = seen(workspace, job)
    if now.state in ("QUEUED", "RUNNING"):
        workspace.tried(lambda: workspace.client.jobs.cancel_run(job))
        *_, now = watch(workspace, job)
    return now
