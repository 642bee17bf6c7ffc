"""From a model's URI to its folder on this machine."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from tempfile import mkdtemp
from urllib.parse import unquote

from msgspec import Struct

from noria import config
from noria.client.http import Server
from noria.errors import Invalid, NotFound
from noria.wire import artifacts, logged_models, registry, runs


class Fetched(Struct, frozen=True):
    """A model folder, and where it came from; empty fields for what it has not."""

    folder: Path
    uri: str
    model_name: str = ""
    version: str = ""
    run_id: str = ""


def fetch(server: Server, uri: str) -> Fetched:
    """The model that `models:/NAME/STAGE`, `models:/NAME/3`, `models:/NAME@alias`, `runs:/RUN/path` or a folder means.

    Files are downloaded once and kept below the home, by where they came from. Raises NotFound, or Invalid for a URI of
    another form.
    """
    if uri.startswith("models:/"):
        name, version, run_id = resolve(server, uri)
        location = server.call(registry.DOWNLOAD_URI, registry.VersionKey(name, version)).artifact_uri
        return Fetched(_download(server, str(location)), uri, name, version, run_id)
    if uri.startswith("runs:/"):
        run, _, path = uri.removeprefix("runs:/").partition("/")
        info = server.call(runs.RESOLVE, runs.Resolve(run)).run.info
        return Fetched(_download(server, f"{info.artifact_uri}/{path}", anew=True), uri, run_id=info.run_id)
    if "://" not in uri and Path(uri).is_dir():
        return Fetched(Path(uri), uri)
    raise Invalid(f"'{uri}' is no model.", "Write models:/NAME/Production, models:/NAME/3, runs:/RUN/model or a folder.")


def copy(server: Server, name: str, version: str, target: Path) -> None:
    """Download a version's files as they are on the server now to the folder `target`, which is made. Raises NotFound if they are gone."""
    location = _location(server, str(server.call(registry.DOWNLOAD_URI, registry.VersionKey(name, version)).artifact_uri))
    try:
        files = list(server.tree(location))
    except NotFound:
        files = []
    if not files:
        raise NotFound(
            f"The files of {name} {version} are gone: there is no model at {location}.", "Register it again from its run."
        )
    target.mkdir(parents=True)
    for path in files:
        server.download(location, path, target / path)


def resolve(server: Server, uri: str) -> tuple[str, str, str]:
    """Name, version and run of a `models:/` URI."""
    match = re.fullmatch(r"models:/(?P<name>[^/@]+)(?:/(?P<which>[^/@]+)|@(?P<alias>[^/@]+))", uri)
    if not match:
        raise Invalid(f"'{uri}' is no model.", "Write models:/NAME/Production, models:/NAME/3 or models:/NAME@alias.")
    name, which = match["name"], unquote(match["which"] or "")
    if match["alias"]:
        found = server.call(registry.GET_ALIAS, registry.AliasName(name, match["alias"])).model_version
    elif which.isdigit():
        found = server.call(registry.GET_VERSION, registry.VersionKey(name, which)).model_version
    else:
        stages = [] if which.lower() == "latest" else [which]
        versions = server.call(registry.LATEST, registry.Latest(name, stages)).model_versions
        if not versions:
            raise NotFound(f"Model {name} has no version in {which}.", f"`noria models show {name}` lists its versions.")
        found = max(versions, key=lambda version: int(version.version))
    return name, found.version, found.run_id


def _download(server: Server, location: str, *, anew: bool = False) -> Path:
    """anew: what was kept may have changed since, as the artifacts of a run can; those of a version do not."""
    location = _location(server, location)
    home = config.load().folder / "models"
    kept = home / hashlib.sha256(f"{server.url} {location}".encode()).hexdigest()[:32]
    if kept.is_dir() and not anew:
        return kept
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = Path(mkdtemp(dir=home, prefix=".fetching-"))
    try:
        files = list(server.tree(location))
        if not files:
            raise NotFound(f"There is no model at {location}.", "Check the run's artifacts.")
        for path in files:
            server.download(location, path, beside / path)
        if anew:
            shutil.rmtree(kept, ignore_errors=True)
        os.rename(beside, kept)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        if not kept.is_dir():  # Otherwise somebody was faster, with the same files.
            raise
    return kept


def _location(server: Server, location: str) -> str:
    """Where the files lie below the server's artifacts. Raises Invalid if that is elsewhere."""
    if location.startswith("models:/m-"):
        model_id = location.removeprefix("models:/")
        location = server.call(logged_models.GET, logged_models.Key(model_id)).model.info.artifact_uri
    if not location.startswith(artifacts.SCHEME):
        raise Invalid(f"The model lies at {location}, which this client cannot read.", "Copy it here and give the folder.")
    return location
