"""Files that a job is to find: kept by their names, which say what is in them, so that each is sent once."""

from __future__ import annotations

import base64
from pathlib import Path

from noria.databricks import files
from noria.databricks.workspace import Workspace
from noria.errors import Invalid, NoriaError, NotFound, TooLarge

_FOLDER = ".noria/projects"
_MOST = 10 << 20
"""Bytes of a file that the workspace takes by its API."""


class Store:
    """A folder for them: of the workspace (`/Users/me/.noria/projects` by default, or one that begins with /Workspace, /Users or /Shared), of a
    volume (`/Volumes/…`), or of DBFS (`dbfs:/…`)."""

    def __init__(self, workspace: Workspace, folder: str = "") -> None:
        """Raises Invalid for a folder that is nowhere there."""
        self._workspace = workspace
        self._folder = (folder or f"{workspace.home}/{_FOLDER}").rstrip("/")
        self._remote = self._folder.startswith(("dbfs:/", "/Volumes/"))
        if not self._remote and not self._folder.startswith(("/Workspace/", "/Users/", "/Shared/")):
            raise Invalid(
                f"'{folder}' is no folder at Databricks.", "Write /Volumes/CATALOG/SCHEMA/VOLUME, dbfs:/…, or /Workspace/…."
            )

    def keep(self, name: str, source: Path) -> str:
        """The path of a file as jobs see it; it is sent if it is not there in its size. Raises TooLarge for what the workspace does not take."""
        if not self._there(name, source.stat().st_size):
            self._send(name, source)
        return self._seen(name)

    def _seen(self, name: str) -> str:
        if self._folder.startswith("dbfs:/"):
            rest = self._folder.removeprefix("dbfs:")
            return f"{rest}/{name}" if rest.startswith("/Volumes/") else f"/dbfs{rest}/{name}"
        return f"{self._folder}/{name}" if self._remote else f"/Workspace{self._own}/{name}"

    @property
    def _own(self) -> str:
        """The folder as the workspace's API names it."""
        return self._folder.removeprefix("/Workspace")

    def _there(self, name: str, size: int) -> bool:
        asked = self._workspace
        try:
            if not self._remote:
                return asked.get("/api/2.0/workspace/get-status", path=f"{self._own}/{name}").get("size") in (size, None)
            path = f"{self._folder.removeprefix('dbfs:')}/{name}"
            if path.startswith("/Volumes/"):
                return bool(asked.tried(lambda: asked.client.files.get_metadata(path)).content_length == size)
            return bool(asked.tried(lambda: asked.client.dbfs.get_status(path)).file_size == size)
        except NotFound:
            return False

    def _send(self, name: str, source: Path) -> None:
        uri = self._folder if self._folder.startswith("dbfs:") else f"dbfs:{self._folder}"
        root = files.root(self._workspace, uri) if self._remote else None
        if root is not None:
            root.send(name, source)
            return
        size = source.stat().st_size
        if size > _MOST:
            raise _too_large(size)
        self._workspace.post("/api/2.0/workspace/mkdirs", path=self._own)
        content = base64.b64encode(source.read_bytes()).decode()
        self._workspace.post(
            "/api/2.0/workspace/import", path=f"{self._own}/{name}", format="RAW", content=content, overwrite=True
        )


def _too_large(size: int) -> NoriaError:
    return TooLarge(
        f"The project has {size / 2**20:,.0f} MiB, and a workspace takes 10 MiB.",
        "Name what is no code in .gitignore, or name a volume with storage in --backend-config.",
    )
