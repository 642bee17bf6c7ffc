"""A Databricks workspace: `databricks://PROFILE`, all that one may see there; `databricks://PROFILE/Users/me/x`, an experiment or a folder
of them; `databricks://PROFILE/RUN_ID`, one run. Experiments there are paths: those below one's own folder, or the named one, go by the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from noria.bridges import places
from noria.bridges.source import File, LoggedModel, Registered, Run, Source
from noria.bridges.tracking import API, Tracking
from noria.databricks import files, names
from noria.databricks.workspace import Workspace
from noria.errors import NotFound

_RUN = re.compile(r"[0-9a-f]{32}")


def open(source: str) -> Source:
    place = names.place(source)
    workspace = Workspace(place.profile)
    return OneRun(workspace, place.path) if _RUN.fullmatch(place.path) else Databricks(workspace, place.path)


class Databricks(Tracking):
    """A workspace, or a part of it."""

    bulk = False

    def __init__(self, workspace: Workspace, path: str = "") -> None:
        self._workspace, self._path = workspace, f"/{path}" if path else ""
        self._names = names.Names(self._path or workspace.home)
        super().__init__()

    @property
    def rest(self) -> Workspace:
        return self._workspace

    def wanted(self) -> Iterator[dict[str, Any]]:
        if not self._path:
            yield from super().wanted()
            return
        query: dict[str, Any] = {"max_results": 1000, "view_type": "ALL"}
        if "'" not in self._path:  # Otherwise all are asked for, and looked at here.
            query["filter"] = f"name LIKE '{self._path}%'"
        found = [
            each
            for each in self.rest.pages(f"{API}/experiments/search", "experiments", **query)
            if each["name"] == self._path or each["name"].startswith(f"{self._path}/")
        ]
        if not found:
            raise NotFound(
                f"There is no experiment '{self._path}' at {self._workspace.host}, and none below it.", "Check the path."
            )
        if any(each["name"] == self._path for each in found):  # The experiment itself: its folder is the one above.
            self._names = names.Names(self._path.rpartition("/")[0])
        yield from found

    def name(self, experiment: str) -> str:
        return self._names.here(experiment)

    def files(self, run: Run) -> Iterable[File]:
        return self._files(run.fields.info.artifact_uri)

    def model_files(self, model: LoggedModel) -> Iterable[File]:
        return self._files(model.model.info.artifact_uri)

    def _files(self, uri: str) -> Iterator[File]:
        root = files.root(self._workspace, uri)
        if root is None:  # An external location, which whoever asks must be able to read.
            yield from places.files(uri, None)
            return
        for path, size in root.files():
            yield File(path, size, partial(_fetched, root, path, size))

    def registered(self) -> Iterator[Registered]:
        """Of a part of the workspace only the models that have a version of it."""
        own = {each["info"]["run_id"] for each in self.listed}
        for each in super().registered():
            if not self._path or any(version.run_id in own for version in each.versions):
                yield each


class OneRun(Databricks):
    """One run of it."""

    def __init__(self, workspace: Workspace, run_id: str) -> None:
        self._one = workspace.get(f"{API}/runs/get", run_id=run_id)["run"]
        super().__init__(workspace)

    def wanted(self) -> Iterator[dict[str, Any]]:
        yield self.rest.get(f"{API}/experiments/get", experiment_id=self._one["info"]["experiment_id"])["experiment"]

    @cached_property
    def listed(self) -> list[dict[str, Any]]:
        return [self._one]

    def logged_models(self) -> Iterator[LoggedModel]:
        return (each for each in super().logged_models() if each.model.info.source_run_id == self._one["info"]["run_id"])

    def registered(self) -> Iterator[Registered]:
        return iter(())


def _fetched(root: files.Root, path: str, size: int, folder: Path) -> Path:
    root.fetch(path, size, folder / "file")
    return folder / "file"
