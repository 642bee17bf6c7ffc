"""Where MLflow's records say that files lie, and where they lie for us."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from noria.bridges.source import File, local_files
from noria.errors import Unavailable, Unsupported

_PROXIED = "mlflow-artifacts"


def files(uri: str, beside: Path | None) -> Iterator[File]:
    """The files below an artifact root. beside: the folder of the records, where relative roots begin and moved ones are looked for."""
    parts = urlsplit(uri)
    if parts.scheme in ("", "file"):
        root = local(unquote(parts.path), beside)
        return local_files(root) if root is not None else iter(())
    if parts.scheme == _PROXIED:
        return _proxied(parts.path.lstrip("/"), beside)
    return _far(uri)


def local(path: str, beside: Path | None) -> Path | None:
    """A folder that records name, here or beside them, where it may have been copied to; None if it is nowhere."""
    written = Path(path)
    candidates = [written] if written.is_absolute() else []
    if beside is not None:
        candidates += [beside / written] if not written.is_absolute() else []
        tails = [Path(*written.parts[-count:]) for count in range(min(len(written.parts), 6), 1, -1)]
        candidates += [beside / tail for tail in tails if not tail.is_absolute()]
    return next((each for each in candidates if each.is_dir()), None)


def _proxied(path: str, beside: Path | None) -> Iterator[File]:
    """Artifacts that a tracking server keeps; its folder is `mlartifacts` unless it was told otherwise."""
    root = (
        next((each for each in (beside / "mlartifacts", beside) if (each / path.split("/")[0]).is_dir()), None)
        if beside
        else None
    )
    if root is None:
        raise Unsupported(
            "Artifacts lie with an MLflow server (mlflow-artifacts:), and no folder 'mlartifacts' is beside the records.",
            "Import again from the server's URL, or copy that folder there.",
        )
    return local_files(root / path) if (root / path).is_dir() else iter(())


def _far(uri: str) -> Iterator[File]:
    """Files in an object store, through fsspec."""
    try:
        from fsspec.core import url_to_fs

        system, root = url_to_fs(uri)
        found = system.find(root, detail=True)
    except ImportError as error:
        raise Unsupported(
            f"Artifacts at {urlsplit(uri).scheme}: need a package that is missing ({error.name or error}).",
            "Install fsspec and its driver for that store, then import again.",
        ) from None
    except Exception as error:  # Whatever that store's driver raises: the other runs go on.
        raise Unavailable(
            f"Artifacts at {uri.rpartition('/')[0]} cannot be listed ({error}).", "Import again when they can."
        ) from None
    for path, detail in sorted(found.items()):
        name = path.removeprefix(root.rstrip("/")).lstrip("/")
        yield File(name, int(detail.get("size") or 0), partial(_fetched, system, path))


def _fetched(system: Any, path: str, folder: Path) -> Path:
    target = folder / "file"
    system.get_file(path, str(target))
    return target


def source_of(uri: str, runs: Mapping[str, str], models: Mapping[str, str], run_id: str) -> str:
    """The source of a registered version, by the run or the logged model that it lies with, if it does.

    runs, models: artifact roots by id.
    """
    if run_id and (root := runs.get(run_id)):
        path = unquote(uri).removeprefix(unquote(root).rstrip("/"))
        if path != unquote(uri) and path.startswith("/"):
            return f"runs:/{run_id}/{path.strip('/')}"
    for model_id, root in models.items():
        if model_id in uri and unquote(uri).startswith(unquote(root)):
            return f"models:/{model_id}"
    return uri
