"""From a model's name, wherever it lies, to the model."""

from __future__ import annotations

from contextlib import closing, nullcontext
from importlib import import_module
from pathlib import Path

from noria.client.http import Server
from noria.errors import NoriaError
from noria.models import fetch
from noria.models.folder import open_folder
from noria.models.predictor import Predictor

_SCHEMES = ("models:/", "runs:/")


def load(
    uri: str | Path,
    *,
    allow_pickle: bool = False,
    in_process: bool = False,
    digest: str = "",
    memory: int = 0,
    server: Server | None = None,
) -> Predictor:
    """The model that `models:/NAME/3`, `models:/NAME@alias`, `models:/NAME/Production`, `models:/m-…`, `runs:/RUN/model` or a folder means.

    allow_pickle: a model that runs code is loaded in a process of its own, without credentials, with `memory` bytes (half of the machine's by
    default); in_process: in this one, for those who want the object itself. digest: what models.digest must say of it; a registered version has its own. server:
    by default the one that `noria` finds.
    Raises NotFound if there is none, Forbidden if loading it would run code and `allow_pickle` is not given, Unsupported if no flavor here
    reads it, Invalid if it is damaged, was changed, or is made to harm.
    """
    if not str(uri).startswith(_SCHEMES):
        return open_folder(uri, allow_pickle=allow_pickle, in_process=in_process, digest=digest, memory=memory)
    with nullcontext(server) if server else closing(_server()) as asked:
        found = fetch.fetch(asked, str(uri))
    return open_fetched(found, allow_pickle=allow_pickle, in_process=in_process, digest=digest, memory=memory)


def open_fetched(
    found: fetch.Fetched, *, allow_pickle: bool = False, in_process: bool = False, digest: str = "", memory: int = 0
) -> Predictor:
    """The same, of files that are here already."""
    try:
        return open_folder(
            found.folder, allow_pickle=allow_pickle, in_process=in_process, digest=digest or found.digest, memory=memory
        )
    except NoriaError as error:
        # The folder is a hash below the home, which says nothing to whoever asked for a name.
        error.message = error.message.replace(str(found.folder), found.uri)
        error.args = (error.message,)
        raise


def _server() -> Server:
    """The command line's, by its name: starting one is the business of a floor above."""
    found: Server = import_module("noria.cli.local").connect()
    return found
