"""A version in another place: under another name of the same server, or with its files at another one."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import structs

from noria.client.http import Server
from noria.errors import AlreadyExists, Conflict, NotFound
from noria.models import digests
from noria.models.fetch import fetch, resolve
from noria.types import ModelVersion, Tag
from noria.wire import experiments, logged_models, registry, runs

FROM_TAG = "noria.copied_from"


def copy(server: Server, uri: str, name: str, to: Server | None = None) -> ModelVersion:
    """Make a version of `name`, which is made if there is none, of what `models:/…` means; tags and description come along.

    to: another server, which gets the files too; they are read back and compared before the version is made. Raises Conflict if they
    are not what they were.
    """
    source_name, number, _ = resolve(server, uri)
    version = server.call(registry.GET_VERSION, registry.VersionKey(source_name, number)).model_version
    if to is None:
        source = registry.CreateVersion(
            name, f"models:/{source_name}/{number}", version.run_id, version.tags, version.run_link, version.description
        )
        return create(server, source, {"from": f"models:/{source_name}/{number}"})
    whence = f"{server.url}/models:/{source_name}/{number}"
    folder = fetch(server, f"models:/{source_name}/{number}").folder
    files = digests.of_files(folder)
    model = upload(to, folder, name, whence, experiment_of(server, version), files)
    tags = [*version.tags, Tag(FROM_TAG, whence)]
    request = registry.CreateVersion(name, f"models:/{model}", "", tags, version.run_link, version.description, model)
    return create(to, request, {"from": whence, "digests": files})


def move(server: Server, uri: str, name: str, to: Server | None = None) -> ModelVersion:
    """The same, and the version that it was is deleted. Raises Conflict, before anything is done, for one that somebody needs."""
    source_name, number, _ = resolve(server, uri)
    asked = registry.Collect(source_name, number, dry_run=True)
    server.call(registry.COLLECT, asked)
    made = copy(server, f"models:/{source_name}/{number}", name, to)
    where = f"{to.url}/" if to else ""
    server.call(
        registry.COLLECT, structs.replace(asked, dry_run=False, reason=f"Moved to {where}models:/{made.name}/{made.version}.")
    )
    return made


def create(server: Server, request: registry.CreateVersion, evidence: dict[str, object]) -> ModelVersion:
    try:
        server.call(registry.CREATE, registry.CreateModel(request.name))
    except AlreadyExists:
        pass
    made = server.call(registry.CREATE_VERSION, request).model_version
    server.call(registry.NOTE, registry.Note(made.name, made.version, "copied", evidence=evidence))
    return made


def experiment_of(server: Server, version: ModelVersion) -> str:
    """The name of the experiment that a version's run lies in; "Default" without a run."""
    if not version.run_id:
        return "Default"
    try:
        info = server.call(runs.GET, runs.Get(version.run_id)).run.info
        return server.call(experiments.GET, experiments.Get(info.experiment_id)).experiment.name
    except NotFound:
        return "Default"


def upload(to: Server, folder: Path, name: str, whence: str, experiment: str, files: dict[str, str]) -> str:
    """The files as a logged model of the other server; its id."""
    asked = logged_models.Create(_there(to, experiment), tags=[Tag(FROM_TAG, whence)])
    info = to.call(logged_models.CREATE, asked).model.info
    try:
        for path in files:
            to.upload(info.artifact_uri, path, folder / path)
        _compare(to, info.artifact_uri, files)
    except BaseException:
        to.call(logged_models.FINALIZE, logged_models.Finalize(info.model_id, "LOGGED_MODEL_UPLOAD_FAILED"))
        raise
    to.call(logged_models.FINALIZE, logged_models.Finalize(info.model_id, "LOGGED_MODEL_READY"))
    return info.model_id


def _there(to: Server, experiment: str) -> str:
    """The id of the experiment of this name, which is made if there is none."""
    try:
        return to.call(experiments.GET_BY_NAME, experiments.GetByName(experiment)).experiment.experiment_id
    except NotFound:
        return to.call(experiments.CREATE, experiments.Create(experiment)).experiment_id


def _compare(to: Server, root: str, files: dict[str, str]) -> None:
    """Read back what was sent."""
    if (found := set(to.tree(root))) != set(files):
        raise Conflict(f"The copy has other files than the model: {', '.join(sorted(found ^ set(files)))[:200]}.", "Try again.")
    with TemporaryDirectory() as name:
        back = Path(name) / "file"
        for path, expected in files.items():
            to.download(root, path, back)
            if digests.of_file(back) != expected:
                raise Conflict(f"'{path}' is not at {to.url} what it was here.", "Try again; if it stays so, look at that disk.")
