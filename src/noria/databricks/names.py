"""What `databricks://PROFILE/…` means, and what an experiment is called here and there."""

from __future__ import annotations

import re

from msgspec import Struct

from noria.errors import Invalid

SCHEME, CATALOG = "databricks", "databricks-uc"
_VERSION = re.compile(r"(?P<name>[^/@]+)(?:/(?P<which>[^/@]+)|@(?P<alias>[^/@]+))?")


class Place(Struct, frozen=True):
    """A URI's parts. profile: of ~/.databrickscfg, "" for the environment's or the default one. path: what follows it, without the slash
    in front. catalog: whether models are Unity Catalog's."""

    profile: str = ""
    path: str = ""
    catalog: bool = False


class Version(Struct, frozen=True):
    """A registered model, and which of its versions: a number, a stage or "latest"; an alias; or neither, for all of them."""

    name: str
    which: str = ""
    alias: str = ""


def is_ours(uri: str) -> bool:
    """Whether a URI means a workspace."""
    return uri.partition(":")[0] in (SCHEME, CATALOG)


def place(uri: str) -> Place:
    """Read `databricks`, `databricks://`, `databricks://PROFILE` or `databricks://PROFILE/…`. Raises Invalid for others."""
    scheme, _, rest = uri.partition("://")
    profile, _, path = rest.partition("/")
    if scheme not in (SCHEME, CATALOG) or ":" in profile:
        raise Invalid(f"'{uri[:200]}' is no workspace.", "Write databricks://PROFILE, with a profile of ~/.databrickscfg.")
    return Place(profile, path.strip("/"), scheme == CATALOG)


def version(place: Place) -> Version:
    """The model that `databricks://PROFILE/NAME/3`, `…/NAME/Production`, `…/NAME@alias` or `…/NAME` means."""
    match = _VERSION.fullmatch(place.path)
    scheme = CATALOG if place.catalog else SCHEME
    if not match:
        raise Invalid(
            f"'{scheme}://{place.profile}/{place.path}' is no model.",
            f"Write {scheme}://PROFILE/NAME/3, {scheme}://PROFILE/NAME@alias, or {scheme}://PROFILE/NAME for all of its versions.",
        )
    return Version(model(match["name"], place.catalog), match["which"] or "", match["alias"] or "")


def model(name: str, catalog: bool) -> str:
    """A model's name, looked at. Raises Invalid for one that Unity Catalog has no place for."""
    if catalog and (name.count(".") != 2 or not all(name.split("."))):
        raise Invalid(f"'{name}' is no name of a model in Unity Catalog.", "Write CATALOG.SCHEMA.MODEL.")
    return name


class Names(Struct, frozen=True):
    """Experiments there are paths. Those below one folder go by the rest of their path here; all others keep the whole of it."""

    folder: str

    def there(self, name: str) -> str:
        """Raises Invalid for a name that is no path."""
        path = name if name.startswith("/") else f"{self.folder}/{name}"
        if any(part in ("", ".", "..") for part in path[1:].split("/")):
            raise Invalid(
                f"Experiment '{name[:200]}' cannot be a path in a workspace.", "Rename it, without empty, '.' and '..' parts."
            )
        return path

    def here(self, path: str) -> str:
        rest = path.removeprefix(f"{self.folder}/")
        return rest if rest != path and not rest.startswith("/") else path
