"""From what a run has kept to a version of a registered model."""

from __future__ import annotations

from collections.abc import Mapping

from noria.client.http import Server
from noria.errors import AlreadyExists, Invalid, NoriaError, NotFound
from noria.models import fetch
from noria.types import ModelVersion, Run, Tag
from noria.wire import artifacts, logged_models, registry, runs


def register(
    server: Server, uri: str, name: str, tags: Mapping[str, object] | None = None, *, once: bool = False
) -> ModelVersion:
    """Make a version of the registered model `name`, which is made if there is none.

    uri: `runs:/RUN/path`, a RUN alone for its only model, or `models:/m-…`. once: if this model is a version of that name already, that one
    is the answer. Raises NotFound if there is no model.
    """
    source, run_id, model_id = _source(server, uri)
    if once and (known := _known(server, name, source, run_id)):
        return known
    pairs = [Tag(key, str(value)) for key, value in (tags or {}).items()]
    try:
        server.call(registry.CREATE, registry.CreateModel(name))
    except AlreadyExists:
        pass
    if digest := fetch.known_digest(server, source):
        pairs.append(Tag(fetch.DIGEST, digest))  # Whoever loads the version holds its files to this.
    request = registry.CreateVersion(name, source, run_id, pairs, model_id=model_id)
    return server.call(registry.CREATE_VERSION, request).model_version


def _known(server: Server, name: str, source: str, run_id: str) -> ModelVersion | None:
    """The first version of this name that was made of this model."""
    quoted = name.replace("'", "\\'")
    asked = f"name='{quoted}'" + (f" and run_id='{run_id}'" if run_id else "")
    found = server.call(registry.SEARCH_VERSIONS, registry.SearchVersions(asked)).model_versions
    return min((each for each in found if each.source == source), key=lambda each: int(each.version), default=None)


def _source(server: Server, uri: str) -> tuple[str, str, str]:
    """Where a model lies, its run, and its id if it has one."""
    if uri.startswith("models:/m-"):
        model_id = uri.removeprefix("models:/")
        info = server.call(logged_models.GET, logged_models.Key(model_id)).model.info
        return uri, info.source_run_id, model_id
    if "://" in uri or uri.startswith(("models:", "file:", "/")):
        raise Invalid(f"'{uri}' is no model of a run.", "Write runs:/RUN/model, or models:/m-… for a logged model.")
    text, _, path = uri.removeprefix("runs:/").partition("/")
    return _of_run(server, server.call(runs.RESOLVE, runs.Resolve(text)).run, path)


def _of_run(server: Server, run: Run, path: str) -> tuple[str, str, str]:
    for output in run.outputs.model_outputs:
        info = server.call(logged_models.GET, logged_models.Key(output.model_id)).model.info
        if path in ("", info.name):
            return f"models:/{info.model_id}", run.info.run_id, info.model_id
    path, short = path or "model", run.info.run_id[:8]
    if not _is_model(server, run.info.run_id, path):
        raise NotFound(f"Run {short} has kept no model at '{path}'.", f"`noria runs show {short}` lists its files.")
    return f"runs:/{run.info.run_id}/{path}", run.info.run_id, ""


def _is_model(server: Server, run_id: str, path: str) -> bool:
    try:
        files = server.call(artifacts.LIST, artifacts.List(run_id, path=path)).files
    except NoriaError:  # A path that is none, or a place that cannot be listed.
        return False
    return any(file.path == f"{path}/MLmodel" for file in files)
