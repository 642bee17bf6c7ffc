"""Versions from and to a registry of Databricks: one of them, or all that a model has, with stages and aliases. What was copied before is not
copied again: each copy has the tag `noria.copied_from`."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from noria.client.http import Server
from noria.databricks import names
from noria.databricks.registry import Found, Registry
from noria.databricks.workspace import Workspace
from noria.errors import Invalid, NotFound
from noria.models import copy, digests, fetch
from noria.types import ModelVersion, Tag
from noria.wire import registry


class Copied(Struct, frozen=True):
    """A version that is there now. known: it had been copied before."""

    name: str
    version: str
    source: str
    known: bool = False


def bring(server: Server, uri: str, name: str) -> tuple[list[Copied], list[str]]:
    """Make versions of `name` here of what `databricks://PROFILE/NAME/3` (or @alias, a stage, or nothing for all) means; and sentences about what
    stayed behind. Raises NotFound if there is none."""
    place = names.place(uri)
    wanted = names.version(place)
    theirs = Registry(Workspace(place.profile), place.catalog)
    found = theirs.versions(wanted)
    done, notes = [_brought(server, theirs, each, name) for each in found], list[str]()
    if not wanted.which and not wanted.alias:
        model = theirs.model(wanted.name)
        _described(server, name, model.get("description") or "", {each["key"]: each.get("value") or "" for each in model.get("tags") or []})  # fmt: skip
        for each, made in zip(found, done, strict=True):
            _standing(server, each, made)
    return done, notes


def _brought(server: Server, theirs: Registry, version: Found, name: str) -> Copied:
    whence = theirs.uri(version.name, version.version)
    if before := _marked(server, name, whence):
        return Copied(name, before, whence, known=True)
    with TemporaryDirectory(prefix="noria-") as place:
        root, folder = theirs.files(version), Path(place)
        for path, size in root.files():
            target = (folder / path).resolve()
            if not target.is_relative_to(folder.resolve()):
                raise Invalid(f"Databricks names a file of this model {path[:80]!r}.", "Look at what it holds there.")
            target.parent.mkdir(parents=True, exist_ok=True)
            root.fetch(path, size, target)
        files = digests.of_files(folder)
        if not files:
            raise NotFound(f"The files of {version.name} {version.version} are gone at Databricks.", "Register it there again.")
        model = copy.upload(server, folder, name, whence, "Default", files)
    tags = [*(Tag(key, value) for key, value in version.tags.items() if key != copy.FROM_TAG), Tag(copy.FROM_TAG, whence)]
    request = registry.CreateVersion(name, f"models:/{model}", "", tags, "", version.description, model)
    made = copy.create(server, request, {"from": whence, "digests": files})
    return Copied(name, made.version, whence)


def _marked(server: Server, name: str, whence: str) -> str:
    """The version of `name` here that was copied from there; "" if there is none."""
    quoted = name.replace("'", "\\'")
    found = server.call(registry.SEARCH_VERSIONS, registry.SearchVersions(f"name='{quoted}'")).model_versions
    return next((each.version for each in found if Tag(copy.FROM_TAG, whence) in each.tags), "")


def _described(server: Server, name: str, description: str, tags: dict[str, str]) -> None:
    model = server.call(registry.GET, registry.Name(name)).registered_model
    if description and not model.description:
        server.call(registry.UPDATE, registry.UpdateModel(name, description))
    for key, value in tags.items():
        server.call(registry.SET_TAG, registry.SetModelTag(name, key, value))


def _standing(server: Server, found: Found, made: Copied) -> None:
    """Stage and aliases, as they are there."""
    if found.stage != "None" and not made.known:
        server.call(registry.TRANSITION, registry.Transition(made.name, made.version, found.stage))
    for alias in found.aliases:
        server.call(registry.SET_ALIAS, registry.SetAlias(made.name, alias, made.version))


def send(server: Server, uri: str, name: str, to: str) -> tuple[list[Copied], list[str]]:
    """Make versions of `name` there, at `databricks://PROFILE` or `databricks-uc://PROFILE`, of what `models:/NAME/3` (or `models:/NAME` for all) means
    here."""
    place = names.place(to)
    name = names.model(name, place.catalog)
    if place.path:
        raise Invalid(f"'{to}' has more than a profile.", "Write --to databricks://PROFILE, and the model's name before it.")
    whole = uri.removeprefix("models:/") if "/" not in uri.removeprefix("models:/") and "@" not in uri else ""
    found = _ours(server, whole or uri, bool(whole))
    theirs = Registry(Workspace(place.profile), place.catalog)
    model = server.call(registry.GET, registry.Name(found[0].name)).registered_model
    theirs.make(name, model.description if whole else "", {each.key: each.value for each in model.tags} if whole else {})
    done = [_sent(server, theirs, each, name) for each in found]
    notes: list[str] = []
    if whole:
        aliases = {each.alias: each.version for each in model.aliases}
        for each, made in zip(found, done, strict=True):
            notes += _stands(theirs, each, [key for key, version in aliases.items() if version == each.version], made)
    return done, sorted(set(notes))


def _ours(server: Server, uri: str, whole: bool) -> list[ModelVersion]:
    if whole:
        quoted = uri.replace("'", "\\'")
        query = registry.SearchVersions(f"name='{quoted}'", order_by=["version_number ASC"])
        if not (found := server.call(registry.SEARCH_VERSIONS, query).model_versions):
            raise NotFound(f"There is no model '{uri}', or it has no versions.", "`noria models list` shows what there is.")
        return found
    name, number, _ = fetch.resolve(server, uri)
    return [server.call(registry.GET_VERSION, registry.VersionKey(name, number)).model_version]


def _sent(server: Server, theirs: Registry, version: ModelVersion, name: str) -> Copied:
    source = f"models:/{version.name}/{version.version}"
    # Which server and which version: numbers of a model that was deleted and made again are given twice.
    whence = f"noria:{version.creation_timestamp}/{source}"
    if before := theirs.marked(name, copy.FROM_TAG, whence):
        return Copied(name, before.version, source, known=True)
    folder = fetch.fetch(server, source).folder
    tags = {each.key: each.value for each in version.tags} | {copy.FROM_TAG: whence}
    number = theirs.add(name, folder, sorted(digests.of_files(folder)), tags, version.description, copy.FROM_TAG)
    return Copied(name, number, source)


def _stands(theirs: Registry, version: ModelVersion, aliases: list[str], made: Copied) -> list[str]:
    """Stage and aliases there, and sentences about those that it has no place for."""
    notes = []
    if version.current_stage != "None" and not made.known:
        if theirs.catalog:
            notes.append("Stages stayed behind: Unity Catalog has none.")
        else:
            theirs.stage(made.name, made.version, version.current_stage)
    if aliases and not theirs.catalog:
        notes.append("Aliases stayed behind: a workspace's registry has none.")
    for alias in aliases if theirs.catalog else ():
        theirs.alias(made.name, made.version, alias)
    return notes
