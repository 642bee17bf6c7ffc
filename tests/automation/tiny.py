"""Registered models that are matrices: two columns decide, and a matrix that looks at one of them alone is worse."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from noria.client.http import Server
from noria.errors import AlreadyExists
from noria.types import Metric
from noria.wire import logged_models, registry, runs

FLAVOR = Path(__file__).parent / "flavor"
GOOD = np.array([[-1.0, 1.0], [-1.0, 1.0], [0, 0]])
WORSE = np.array([[-1.0, 1.0], [0, 0], [0, 0]])
SOUTH = np.array([[-1.0, 1.0], [-1.0, 1.0], [3.0, -3.0]])
"""Right in the north, where the third column is 0."""
_MLMODEL = """flavors: {{tiny: {{model_data: data, delay: {delay}, loads: {loads}, broken: {broken}}}}}
mlflow_version: 3.1.0
model_uuid: {name}
utc_time_created: '2026-01-01 00:00:00.000000'
"""


def path() -> str:
    """PYTHONPATH with the flavor."""
    return os.pathsep.join([str(FLAVOR), *filter(None, [os.environ.get("PYTHONPATH")])])


def held_out(file: Path, examples: int = 400) -> Path:
    """[n, 3] in two sites; in the south, a quarter of all, the third column is not 0."""
    x = np.random.default_rng(7).normal(size=(examples, 3))
    south = np.arange(examples) % 4 == 0
    x[:, 2] = np.where(south, np.abs(x[:, 2]) + 1, 0)
    np.savez(file, x=x, y=(x[:, 0] + x[:, 1] > 0).astype(np.int64), site=np.where(south, "south", "north"))
    return file


def write(folder: Path, weights: Any = GOOD, *, delay: float = 0, loads: float = 0, broken: bool = False) -> None:
    (folder / "data").mkdir(parents=True)
    (folder / "MLmodel").write_text(_MLMODEL.format(name="0" * 32, delay=delay, loads=loads, broken=str(broken).lower()))
    np.save(folder / "data" / "weights.npy", weights)


def register(
    server: Server, name: str, weights: Any = GOOD, *, user: str = "ada", metrics: dict[str, float] | None = None, **entry: Any
) -> str:
    """A version of a model that `user` has trained; its number."""
    info = server.call(runs.CREATE, runs.Create("0", user, "training", 1_700_000_000_000)).run.info
    points = [Metric(key, value, 1_700_000_000_000) for key, value in (metrics or {}).items()]
    server.call(runs.LOG_BATCH, runs.LogBatch(info.run_id, points))
    _upload(server, info.artifact_uri, "model/", weights, **entry)
    return _create(server, registry.CreateVersion(name, f"runs:/{info.run_id}/model", info.run_id))


def register_runless(server: Server, name: str, weights: Any = GOOD) -> str:
    """A version of a model that no run has made."""
    made = server.call(logged_models.CREATE, logged_models.Create("0", "model")).model.info
    _upload(server, made.artifact_uri, "", weights)
    server.call(logged_models.FINALIZE, logged_models.Finalize(made.model_id, "LOGGED_MODEL_READY"))
    return _create(server, registry.CreateVersion(name, f"models:/{made.model_id}", model_id=made.model_id))


def _upload(server: Server, where: str, below: str, weights: Any, **entry: Any) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder) / "model"
        write(root, weights, **entry)
        for file in sorted(each for each in root.rglob("*") if each.is_file()):
            server.upload(where, f"{below}{file.relative_to(root).as_posix()}", file)


def _create(server: Server, version: registry.CreateVersion) -> str:
    try:
        server.call(registry.CREATE, registry.CreateModel(version.name))
    except AlreadyExists:
        pass
    return server.call(registry.CREATE_VERSION, version).model_version.version
