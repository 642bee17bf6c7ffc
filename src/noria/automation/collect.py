"""Old versions go by policy: which ones is a pure function, and the server has the last word on each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Struct

from noria.client.http import Server
from noria.errors import Conflict, NoriaError, NotFound
from noria.types import ModelVersion, Stage
from noria.wire import artifacts, registry

_PAGE = 1000


class Policy(Struct, frozen=True):
    """keep: of each model, so many of its newest versions stay. before: only what was changed last before this time goes, in ms since
    1970. stages: only what stands there."""

    keep: int
    before: int
    stages: tuple[Stage, ...] = ("None", "Archived")


class Gone(Struct, frozen=True):
    """A version that went, or that would. size: bytes of files that go with it; 0 where others have them. kept: why it stayed after
    all."""

    name: str
    version: str
    stage: Stage
    size: int = 0
    kept: str = ""


def choose(versions: Sequence[ModelVersion], policy: Policy) -> list[ModelVersion]:
    """Those of one model that may go, the oldest first."""
    newest = sorted(versions, key=lambda each: -int(each.version))
    old = [each for each in newest[policy.keep :] if each.last_updated_timestamp < policy.before]
    return [each for each in reversed(old) if each.current_stage in policy.stages and not each.aliases]


def collect(server: Server, policy: Policy, *, dry_run: bool, name: str = "") -> Iterator[Gone]:
    """Delete what may go, of one model or of all, and say it of each; with dry_run only say it."""
    for versions in _models(server, name):
        for each in choose(versions, policy):
            yield _collect(server, each, policy, dry_run)


def _models(server: Server, name: str) -> Iterator[list[ModelVersion]]:
    """The versions of each model."""
    quoted = name.replace("'", "\\'")
    found: dict[str, list[ModelVersion]] = {}
    token, wanted = "", f"name = '{quoted}'" if name else ""
    if name:
        server.call(registry.GET, registry.Name(name))  # It says if there is none.
    while True:
        asked = registry.SearchVersions(wanted, _PAGE, ["name ASC"], token)
        page = server.call(registry.SEARCH_VERSIONS, asked)
        for each in page.model_versions:
            found.setdefault(each.name, []).append(each)
        if not (token := page.next_page_token):
            return iter(found.values())


def _collect(server: Server, each: ModelVersion, policy: Policy, dry_run: bool) -> Gone:
    reason = f"Collected: older than the {policy.keep} newest."
    asked = registry.Collect(each.name, each.version, reason=reason, dry_run=dry_run)
    try:
        # Asked first in any case: once it is gone, nobody knows any more where its files are.
        place = server.call(registry.COLLECT, registry.Collect(each.name, each.version, dry_run=True))
        size = _size(server, place.location) if place.free else 0
        if not dry_run and server.call(registry.COLLECT, asked).free and size:
            server.delete(place.location)
    except (Conflict, NotFound) as error:  # It was promoted, named or deleted meanwhile.
        return Gone(each.name, each.version, each.current_stage, kept=error.message)
    return Gone(each.name, each.version, each.current_stage, size)


def _size(server: Server, location: str) -> int:
    """Bytes of all files at a place; 0 for one that the server does not keep."""
    try:
        return _below(server, artifacts.inside(location))
    except NoriaError:
        return 0


def _below(server: Server, path: str) -> int:
    files = server.call(artifacts.LIST_ROOT, artifacts.ListRoot(path)).files
    return sum(_below(server, f"{path}/{each.path}") if each.is_dir else int(each.file_size or 0) for each in files)
