"""Steps: entry points that are not run again while nothing that they are made from has changed."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import msgspec

from noria import config
from noria.client.http import Server
from noria.errors import Invalid, NoriaError, NotFound
from noria.projects import code
from noria.projects.mlproject import Entry
from noria.projects.parameters import Filled
from noria.types import Environment
from noria.wire import experiments, runs

TAG = "noria.step"
"""Of a run: what its step was made from, as `digest` says it."""


def digest(folder: Path, entry: Entry, filled: Filled, environment: str, came: code.Tree | None = None) -> str:
    """Of the project's code as it is now, the entry point with its parameters, the environment, and the content of what parameters of type
    path name: the same for the same step, whoever runs it, wherever. "" if there is too much code to say so."""
    try:
        made_of = code.digest_of(folder, came)
    except Invalid:
        return ""
    data = [_content(path) for path in filled.reads]
    values = sorted((name, "" if entry.parameters.get(name) and entry.parameters[name].type == "path" else value)
                    for name, value in filled.values.items())  # fmt: skip
    made_from = (made_of, entry.name, entry.command, values, environment, data)
    return hashlib.blake2b(msgspec.msgpack.encode(made_from), digest_size=16).hexdigest()


def _content(path: str) -> str:
    """What a file or a folder holds; its path, if that cannot be said."""
    from noria.client import content  # Threads and hashes are milliseconds of a start.

    try:
        return content.of_path(Path(path), config.load().folder / "hashes").digest
    except NoriaError:
        return path


def active(environment: Environment) -> str:
    """What is installed in an environment that nobody built for this: the names and versions of its packages."""
    if environment.image:
        return f"{environment.image} {os.path.getmtime(environment.image) if os.path.exists(environment.image) else ''}"
    found = sorted(each.name for each in Path(environment.folder).glob("lib/python*/site-packages/*.dist-info"))
    return hashlib.blake2b("\n".join([environment.folder, *environment.modules, *found]).encode(), digest_size=16).hexdigest()


def finished(connection: Server, experiment: str, step: str) -> str:
    """The last run of this step in its experiment that finished, or ""."""
    if not step:
        return ""
    try:
        number = connection.call(experiments.GET_BY_NAME, experiments.GetByName(experiment)).experiment.experiment_id
    except NotFound:
        return ""
    wanted = f"tags.`{TAG}` = '{step}' AND attributes.status = 'FINISHED'"
    found = connection.call(
        runs.SEARCH, runs.Search([number], wanted, max_results=1, order_by=["attributes.start_time DESC"])
    ).runs
    return found[0].info.run_id if found else ""
