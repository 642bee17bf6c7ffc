"""What a source looks like."""

from __future__ import annotations

from pathlib import Path

from noria.bridges import IMPORTERS
from noria.errors import Invalid, NotFound

_SCHEMES = {"http": "mlflow", "https": "mlflow", "databricks": "databricks"}
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def guess(source: str) -> str:
    scheme = source.partition("://")[0].partition("+")[0] if "://" in source else ""
    if scheme in _SCHEMES:
        return _SCHEMES[scheme]
    if scheme in _DATABASES:
        return "database"
    path = Path(source.removeprefix("file://"))
    if not path.exists():
        raise NotFound(f"There is nothing at '{source[:200]}'.", "Give a URL, a database, or a folder that exists.")
    found = _file(path) if path.is_file() else _folder(path)
    if not found:
        raise Invalid(f"'{source[:200]}' looks like no source that is known.", f"Name its format: {', '.join(IMPORTERS.own())}.")
    return found


def _file(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"SQLite format 3"):
        return "database"
    if path.suffix == ".wandb":
        return "wandb"
    return "tensorboard" if "tfevents" in path.name else ""


def _folder(path: Path) -> str:
    if any(path.glob("*/meta.yaml")) or (path / ".trash").is_dir() or (path / "meta.yaml").exists():
        return "mlruns"
    if next(path.glob("*.wandb"), None) or next(path.glob("*run-*/*.wandb"), None) or next(path.glob("wandb/*run-*"), None):
        return "wandb"
    if next(path.rglob("*tfevents*"), None):
        return "tensorboard"
    if next(path.rglob("*.wandb"), None):
        return "wandb"
    return ""
