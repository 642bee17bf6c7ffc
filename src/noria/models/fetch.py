"""From a model's URI to its folder on this machine."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from urllib.parse import unquote

from msgspec import Struct

from noria import config
from noria.client.http import Server
from noria.errors import Invalid, NotFound, Unsupported
from noria.models import digests
from noria.wire import artifacts, logged_models, registry, runs

DIGEST = "noria.digest"
"""The tag of a version that says what models.digest says of its folder."""
_MOST_FILES, _DEEPEST = 100_000, 64
_UNFIT = re.compile(r"[\x00-\x1f\x7f\\]")


class Fetched(Struct, frozen=True):
    """A model folder, and where it came from; empty fields for what it has not."""

    folder: Path
    uri: str
    model_name: str = ""
    version: str = ""
    run_id: str = ""
    digest: str = ""
    """What models.digest says of it, where the registry knows that."""


def fetch(server: Server, uri: str) -> Fetched:
    """The model that `models:/NAME/STAGE`, `models:/NAME/3`, `models:/NAME@alias`, `models:/m-…`, `runs:/RUN/path` or a folder means.

    Files are downloaded once and kept below the home, by where they came from. Raises NotFound, or Invalid for a URI of
    another form.
    """
    if uri.startswith("models:/"):
        if uri.startswith("models:/m-"):
            return Fetched(_download(server, uri), uri)
        name, version, run_id = resolve(server, uri)
        key = registry.VersionKey(name, version)
        location = server.call(registry.DOWNLOAD_URI, key).artifact_uri
        tags = {tag.key: tag.value for tag in server.call(registry.GET_VERSION, key).model_version.tags}
        return Fetched(_download(server, str(location)), uri, name, version, run_id, tags.get(DIGEST, ""))
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
        _copy(server, location, target)
    except NotFound:
        raise NotFound(
            f"The files of {name} {version} are gone: there is no model at {location}.", "Register it again from its run."
        ) from None


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


def known_digest(server: Server, source: str) -> str:
    """What models.digest says of a model that lies at `runs:/RUN/path` or `models:/m-…`, by its list alone; "" if it has none."""
    run, _, path = source.removeprefix("runs:/").partition("/")
    try:
        if source.startswith("runs:/"):
            root = f"{server.call(runs.RESOLVE, runs.Resolve(run)).run.info.artifact_uri}/{path}"
        else:
            root = server.call(logged_models.GET, logged_models.Key(source.removeprefix("models:/"))).model.info.artifact_uri
        with TemporaryDirectory() as folder:
            server.download(root, digests.FILE, Path(folder) / "list", most=digests.MOST)
            return digests.of_list((Path(folder) / "list").read_bytes())
    except (NotFound, Unsupported):  # One of MLflow's, or one that lies elsewhere.
        return ""


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
        _copy(server, location, beside)
        if anew:
            shutil.rmtree(kept, ignore_errors=True)
        os.rename(beside, kept)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        if not kept.is_dir():  # Otherwise somebody was faster, with the same files.
            raise
    return kept


def _copy(server: Server, location: str, target: Path) -> None:
    files = dict(_files(server, location))
    if not files:
        raise NotFound(f"There is no model at {location}.", "Check the run's artifacts.")
    for path, size in files.items():
        server.download(location, path, target / path, most=size)


def _location(server: Server, location: str) -> str:
    """Where the files lie below the server's artifacts. Raises Invalid if that is elsewhere."""
    if location.startswith("models:/m-"):
        model_id = location.removeprefix("models:/")
        location = server.call(logged_models.GET, logged_models.Key(model_id)).model.info.artifact_uri
    if not location.startswith(artifacts.SCHEME):
        raise Invalid(f"The model lies at {location}, which this client cannot read.", "Copy it here and give the folder.")
    return location


def _files(server: Server, root: str, folder: str = "", depth: int = 0) -> Iterator[tuple[str, int | None]]:
    """Paths and sizes of a model's files, of names that can be files' here. Raises Invalid for others, and for a listing without an end."""
    if depth > _DEEPEST:
        raise Invalid(f"The listing of {root} is nested too deep.", _TRUST)
    listed = server.call(artifacts.LIST_ROOT, artifacts.ListRoot(artifacts.below(artifacts.inside(root), folder))).files
    if len(listed) > _MOST_FILES:
        raise Invalid(f"The listing of {root} has more than {_MOST_FILES} names.", _TRUST)
    for file in listed:
        name = file.path
        if not name or name in (".", "..") or "/" in name or _UNFIT.search(name) or len(name.encode(errors="replace")) > 255:
            raise Invalid(f"The server names a file of this model {name!r:.80}, which is no name of a file.", _TRUST)
        path = f"{folder}/{name}" if folder else name
        if file.is_dir:
            yield from _files(server, root, path, depth + 1)
        else:
            yield path, file.file_size if isinstance(file.file_size, int) else None


_TRUST = "Do not trust that server; look at what it holds."
