"""Where files lie at Databricks, by their URI: what a run, a logged model or a registered version has, in volumes, on DBFS and in the
workspace's own storage, which gives signed URLs."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from noria.databricks import signed
from noria.databricks.workspace import MLFLOW, Workspace
from noria.errors import Invalid, NotFound, Unavailable

_OWN = re.compile(r"dbfs:/databricks/mlflow-tracking/[^/]+/(?:logged_models/(?P<model>[^/]+)|(?P<run>[^/]+))(?:/artifacts)?/?$")


class Root(Protocol):
    """A folder of artifacts."""

    def files(self) -> Iterator[tuple[str, int]]:
        """All files below it, by their paths, with their sizes."""

    def fetch(self, path: str, size: int, target: Path) -> None:
        """Download one. Raises NotFound if it is gone."""

    def send(self, path: str, source: Path) -> None:
        """Upload one; again is harmless."""


def root(workspace: Workspace, uri: str) -> Root | None:
    """The folder that an artifact URI of a run or a logged model means; None if it lies elsewhere than at Databricks."""
    if match := _OWN.match(uri):
        return _Run(workspace, match["run"]) if match["run"] else _Model(workspace, match["model"])
    if uri.startswith("dbfs:/Volumes/"):
        return Folder(workspace, uri.removeprefix("dbfs:"))
    return _Dbfs(workspace, uri) if uri.startswith("dbfs:/") else None


def tree(listed: Any, path: str = "") -> Iterator[tuple[str, int]]:
    """The files of MLflow's listings, folder by folder. listed: a page by `path` and `page_token`."""
    token = ""
    while True:
        page = listed(path=path, page_token=token)
        for each in page.get("files") or []:
            if each.get("is_dir"):
                yield from tree(listed, each["path"])
            else:
                yield each["path"], int(each.get("file_size") or 0)
        token = page.get("next_page_token") or ""
        if not token:
            return


class _Run:
    """The artifacts of a run."""

    def __init__(self, workspace: Workspace, run_id: str) -> None:
        self._workspace, self._id = workspace, run_id

    def files(self) -> Iterator[tuple[str, int]]:
        return tree(partial(self._workspace.get, f"{MLFLOW}/artifacts/list", run_id=self._id))

    def _signed(self, path: str, way: str) -> signed.Url:
        found = self._workspace.post(f"{MLFLOW}/artifacts/credentials-for-{way}", run_id=self._id, path=[path])
        return signed.url(found["credential_infos"][0])

    def fetch(self, path: str, size: int, target: Path) -> None:
        signed.fetch(partial(self._signed, path, "read"), path, size, target)

    def send(self, path: str, source: Path) -> None:
        signed.send(partial(self._signed, path, "write"), path, source, self)

    def begin(self, path: str, count: int) -> tuple[str, list[signed.Url]]:
        found = self._workspace.post(f"{MLFLOW}/artifacts/create-multipart-upload", run_id=self._id, path=path, num_parts=count)
        return found["upload_id"], [signed.url(each) for each in found["upload_credential_infos"]]

    def end(self, path: str, upload: str, etags: list[str]) -> None:
        parts = [{"part_number": number, "etag": etag} for number, etag in enumerate(etags, 1)]
        self._workspace.post(f"{MLFLOW}/artifacts/complete-multipart-upload", run_id=self._id, path=path, upload_id=upload, part_etags=parts)  # fmt: skip


class _Model:
    """The files of a logged model."""

    def __init__(self, workspace: Workspace, model_id: str) -> None:
        self._workspace, self._at = workspace, f"{MLFLOW}/logged-models/{model_id}/artifacts"

    def files(self) -> Iterator[tuple[str, int]]:
        return tree(lambda path, page_token: self._workspace.get(f"{self._at}/directories", artifact_directory_path=path, page_token=page_token))  # fmt: skip

    def _signed(self, path: str, way: str) -> signed.Url:
        found = self._workspace.post(f"{self._at}/credentials-for-{way}", paths=[path])
        return signed.url(found["credentials"][0]["credential_info"])

    def fetch(self, path: str, size: int, target: Path) -> None:
        signed.fetch(partial(self._signed, path, "download"), path, size, target)

    def send(self, path: str, source: Path) -> None:
        signed.send(partial(self._signed, path, "upload"), path, source)


class Registered:
    """The files of a version in the workspace's registry, which are only read: a version is made of what lies with a run."""

    def __init__(self, workspace: Workspace, name: str, version: str) -> None:
        self._workspace, self._key = workspace, {"name": name, "version": version}

    def files(self) -> Iterator[tuple[str, int]]:
        return tree(partial(self._workspace.get, f"{MLFLOW}/model-versions/list-artifacts", **self._key))

    def _signed(self, path: str) -> signed.Url:
        return signed.url(self._workspace.get(f"{MLFLOW}/model-versions/get-signed-download-uri", path=path, **self._key))

    def fetch(self, path: str, size: int, target: Path) -> None:
        signed.fetch(partial(self._signed, path), path, size, target)

    def send(self, path: str, source: Path) -> None:
        raise Invalid("The files of a registered version are not written.", "Make a new version.")


class Folder:
    """A folder that the Files API knows: of a volume, or of a version in Unity Catalog."""

    def __init__(self, workspace: Workspace, path: str) -> None:
        self._workspace, self._path = workspace, path.rstrip("/")

    def files(self) -> Iterator[tuple[str, int]]:
        try:
            yield from self._below(self._path)
        except NotFound:  # A run that has logged no file has no folder.
            return

    def _below(self, path: str) -> Iterator[tuple[str, int]]:
        for each in self._workspace.tried(lambda: list(self._workspace.client.files.list_directory_contents(path))):
            if each.is_directory:
                yield from self._below(str(each.path).rstrip("/"))
            else:
                yield each.path.removeprefix(f"{self._path}/"), int(each.file_size or 0)

    def fetch(self, path: str, size: int, target: Path) -> None:
        self._workspace.tried(lambda: _saved(self._workspace.client.files.download(f"{self._path}/{path}").contents, target))
        _compare(path, size, target)

    def send(self, path: str, source: Path) -> None:
        with source.open("rb") as file:
            self._workspace.tried(lambda: self._workspace.client.files.upload(f"{self._path}/{path}", file, overwrite=True))


class _Dbfs:
    """A folder of DBFS, which sends files in small blocks."""

    def __init__(self, workspace: Workspace, uri: str) -> None:
        self._workspace, self._path = workspace, "/" + uri.removeprefix("dbfs:").strip("/")

    def files(self) -> Iterator[tuple[str, int]]:
        try:
            found = self._workspace.tried(lambda: list(self._workspace.client.dbfs.list(self._path, recursive=True)))
        except NotFound:
            return
        for each in found:
            if not each.is_dir:
                yield str(each.path).removeprefix("dbfs:").removeprefix(f"{self._path}/"), int(each.file_size or 0)

    def fetch(self, path: str, size: int, target: Path) -> None:
        def save() -> None:
            with self._workspace.client.dbfs.download(f"{self._path}/{path}") as file:
                _saved(file, target)

        self._workspace.tried(save)
        _compare(path, size, target)

    def send(self, path: str, source: Path) -> None:
        where, size = f"{self._path}/{path}", source.stat().st_size
        for _ in range(3):  # A block whose answer is lost is sent twice, and lies there twice.
            with source.open("rb") as file:
                self._workspace.tried(lambda file=file: self._workspace.client.dbfs.upload(where, file, overwrite=True))  # type: ignore[misc]
            if self._workspace.tried(lambda: self._workspace.client.dbfs.get_status(where)).file_size == size:
                return
        raise Unavailable(f"'{where}' is not on DBFS what it is here, after three tries.", "Try again.")


def _saved(content: Any, target: Path) -> None:
    with target.open("wb") as out:
        shutil.copyfileobj(content, out, 1 << 20)


def _compare(path: str, size: int, target: Path) -> None:
    if target.stat().st_size != size:
        raise Unavailable(f"'{path}' has {size:,} bytes at Databricks, and {target.stat().st_size:,} came.", "Try again.")
