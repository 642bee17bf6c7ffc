"""Steps that a project starts by `mlflow.run` within its job: they run there, in the environment that the job has already.

MLflow would make a virtual or conda environment for each, which a node without a network cannot, though it is what the job was given.
A step whose project describes another environment is MLflow's to prepare.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

ENVIRONMENT = "NORIA_PROJECT_ENVIRONMENT"
_LOADER = "mlflow.projects.backend.loader"


class Watch(MetaPathFinder):
    """Waits for MLflow's table of backends, whose import comes after that of its plugins, and puts ours in place of `local`."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname != _LOADER:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            module.MLFLOW_BACKENDS["local"] = local

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def watch() -> None:
    if _LOADER not in sys.modules and not any(isinstance(each, Watch) for each in sys.meta_path):
        sys.meta_path.insert(0, Watch())


def local() -> Any:
    """MLflow's local backend, that takes the job's environment for a project that wants no other."""
    from mlflow.projects import utils
    from mlflow.projects.backend.local import LocalBackend

    class Local(LocalBackend):
        def run(self, project_uri: str, entry_point: str, params: Any, version: Any, backend_config: Any, *rest: Any) -> Any:
            if backend_config.get(utils.PROJECT_ENV_MANAGER) is None and not version and _is_ours(project_uri):
                backend_config = {**backend_config, utils.PROJECT_ENV_MANAGER: "local"}
            return super().run(project_uri, entry_point, params, version, backend_config, *rest)

    return Local()


def _is_ours(uri: str) -> bool:
    """Whether a project describes the environment that this job has, or none."""
    from mlflow.projects._project_spec import load_project

    folder = Path(uri.removeprefix("file://"))
    if not folder.is_dir():
        return False
    project = load_project(str(folder))
    if project.docker_env:
        return False
    file = project.env_config_path
    return not file or hashlib.sha256(Path(file).read_bytes()).hexdigest()[:32] == os.environ.get(ENVIRONMENT)
