"""`MLFLOW_TRACKING_URI=noria-spool:///folder`: the entry points that the mlflow client finds.

mlflow loads them each time that it is imported, so nothing is imported here before it is used.
"""

from __future__ import annotations

import atexit
import os
import sys
from typing import Any


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    from noria.bridges.spool.tracking import SpoolStore

    return SpoolStore(store_uri)


def artifact_repository(artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> Any:
    from noria.bridges.spool.artifacts import SpoolArtifacts

    return SpoolArtifacts(artifact_uri, tracking_uri, registry_uri)


def model_registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:
    from noria.bridges.spool.registry import SpoolRegistry

    return SpoolRegistry(store_uri, tracking_uri)


def _close() -> None:
    journal = sys.modules.get("noria.bridges.spool.journal")
    if journal is not None:
        journal.close_all()


# mlflow ends its runs at exit too. It registers that after it has loaded this file, so that this here is called later.
atexit.register(_close)

if os.environ.get("NORIA_PROJECT_ENVIRONMENT"):
    from noria.bridges.steps import watch

    watch()
