"""mlflow's artifact repository for `noria-spool:`: files are kept beside the spool until the relay ships them."""

from __future__ import annotations

import posixpath
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from mlflow import entities
from mlflow.store.artifact.artifact_repo import ArtifactRepository

from noria.bridges.spool.journal import Journal, journal
from noria.bridges.spool.words import PLACE, SCHEME, in_its_words, offline
from noria.errors import Invalid, NotFound


@in_its_words
class SpoolArtifacts(ArtifactRepository):
    """mlflow's artifact repository: copies beside the spool."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(artifact_uri, tracking_uri, registry_uri)
        self._root = unquote(urlsplit(artifact_uri).path)

    def _place(self, path: str | None) -> tuple[Journal, str, str, str]:
        """The journal, "runs" or "models", the id, and the path below its root. mlflow may cut a URI anywhere."""
        whole = posixpath.join(self._root, path or "").rstrip("/")
        found = PLACE.fullmatch(whole)
        if found is None:
            raise Invalid(f"'{self.artifact_uri}' is no place for artifacts.", f"Use the artifact_uri of a run of {SCHEME}:.")
        return journal(Path(found[1])), found[2], found[3], found[4] or ""

    def _files(self, path: str | None) -> tuple[dict[str, Path], str]:
        """All files of the run or model, and the path below its root."""
        own, kind, own_id, below = self._place(path)
        return (own.reread(own_id) if kind == "runs" else own.model(own_id)).files, below

    def _keep(self, source: Path, path: str) -> None:
        own, kind, own_id, below = self._place(path)
        if kind == "runs":
            own.file(source, below, run_id=own_id)
        else:
            own.file(source, below, model=own.model(own_id))

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        source = Path(local_file)
        if not source.is_file():
            raise NotFound(f"There is no file '{source}' to log.", "Check the path; it is relative to the working directory.")
        self._keep(source, posixpath.join(artifact_path or "", source.name))

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        root = Path(local_dir)
        if not root.is_dir():
            raise NotFound(f"There is no folder '{root}' to log.", "Check the path; it is relative to the working directory.")
        for source in sorted(each for each in root.rglob("*") if each.is_file()):
            self._keep(source, posixpath.join(artifact_path or "", source.relative_to(root).as_posix()))

    def list_artifacts(self, path: str | None = None) -> list[Any]:
        files, below = self._files(path)
        found: dict[str, Any] = {}
        for name, file in files.items():
            inside = name if not below else name.removeprefix(f"{below}/") if name.startswith(f"{below}/") else ""
            head, _, rest = inside.partition("/")
            if head:
                shown = posixpath.join(path or "", head)
                size = None if rest else file.stat().st_size if file.exists() else 0
                found[shown] = entities.FileInfo(shown, bool(rest), size)
        return [found[name] for name in sorted(found)]

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        files, below = self._files(remote_file_path)
        if below not in files:
            raise NotFound(f"No such artifact: '{below[:200]}'", "Only what was logged on this node can be read here.")
        try:
            shutil.copyfile(files[below], local_path)
        except FileNotFoundError:
            raise NotFound(f"Artifact '{below[:200]}' has been shipped and is no longer here.",
                           "Read it where the server can be reached.") from None  # fmt: skip

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        raise offline("Deleting artifacts")
