"""The job that evaluates one model on one held-out file: python -m noria.automation.measure REQUEST.json

It asks no server for anything, since nodes may have no network: the model's folder and the file lie where the node sees them, and what it
finds goes to the job's run.
"""

from __future__ import annotations

import hashlib
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from msgspec import Struct

from noria import models
from noria.automation import held_out, measures
from noria.client import content, fluent
from noria.errors import Invalid, NoriaError
from noria.hardware import probe
from noria.models import digests
from noria.types import Number, number
from noria.wire import limits

FOLDER, RECORD, EXAMPLES = "evaluation", "evaluation.json", "examples.npz"
FAILED, OF = "noria.evaluation.failed", "noria.evaluation.of"
"""Tags of an evaluation's run: why it failed, and the version that it is of."""
_BATCH = 64
_SINGLE, _SINGLE_SECONDS = 200, 5.0
_WARM = 5


class Request(Struct, frozen=True):
    """What to evaluate: a version by its name, its folder and the held-out file as the node sees them."""

    of: str
    folder: str
    held_out: str
    task: measures.Task | None = None
    seed: int = 0
    allow_pickle: bool = False


class Evaluation(Struct, frozen=True):
    """What was found, and all that is needed to find it again.

    files: SHA-256 of each file of the model's folder. predictions_sha256: of their type, shape and bytes. outputs: what the model's answers
    were taken for. p50_ms and p99_ms are of single predictions, examples_per_second of batches of 64. examples_sha256: of the file with what
    is known about each example.
    """

    of: str
    held_out: str
    held_out_sha256: str
    model_sha256: str
    files: dict[str, str]
    predictions_sha256: str
    examples_sha256: str
    examples: int
    task: measures.Task
    outputs: str
    slices: list[str]
    metrics: dict[str, Number]
    p50_ms: float
    p99_ms: float
    examples_per_second: float
    load_seconds: float
    size_bytes: int
    seed: int
    allow_pickle: bool
    python: str
    packages: dict[str, str]
    hardware: dict[str, Any]
    run_id: str = ""

    @property
    def cost(self) -> dict[str, float]:
        return {"p50_ms": self.p50_ms, "p99_ms": self.p99_ms, "examples_per_second": self.examples_per_second,
                "size_bytes": float(self.size_bytes)}  # fmt: skip


def evaluate(request: Request, beside: Path) -> Evaluation:
    """Evaluate, and write what is known about each example to the file EXAMPLES in the folder `beside`. Raises a NoriaError."""
    import numpy as np

    data, folder = held_out.load(Path(request.held_out)), Path(request.folder)
    _seed(request.seed)
    before = time.perf_counter()
    with closing(models.load(folder, allow_pickle=request.allow_pickle)) as model:
        loaded = time.perf_counter() - before
        model.check(data.x[:1])
        predictions, per_second = _batches(model.predict, data.x)
        single = _single(model.predict, data.x)
    task, outputs, examples = measures.judged(predictions, data.y, request.task)
    labels = {f"slice {name}": array for name, array in data.slices.items()}
    np.savez_compressed(beside / EXAMPLES, rows=held_out.rows(data), **{**examples, **labels})
    found = digests.of_files(folder)
    return Evaluation(
        request.of, request.held_out, data.digest, models.digest(folder), found, _digest(predictions), held_out.digest(beside / EXAMPLES),
        len(data.y), task, outputs, sorted(data.slices), {name: number(value) for name, value in measures.every(examples).items()},
        statistics.median(single), statistics.quantiles(single, n=100, method="inclusive")[98] if len(single) > 1 else single[0], per_second, loaded,
        sum((folder / name).stat().st_size for name in found), request.seed, request.allow_pickle,
        platform.python_version(), _packages(), _hardware())  # fmt: skip


def _seed(seed: int) -> None:
    """Models that draw when they answer draw the same again."""
    import numpy as np

    random.seed(seed)
    np.random.seed(seed)
    if "torch" in sys.modules:  # Never imported here: a model that needs it is loaded by the flavor that does.
        sys.modules["torch"].manual_seed(seed)


def _batches(predict: Callable[[Any], Any], x: Any) -> tuple[Any, float]:
    """The answers, and how many examples a second came to."""
    import numpy as np

    predict(x[:_BATCH])  # The first call pays for what is made only once.
    before = time.perf_counter()
    parts = [np.asarray(predict(x[start : start + _BATCH])) for start in range(0, len(x), _BATCH)]
    took = time.perf_counter() - before
    return np.concatenate(parts), len(x) / max(took, 1e-9)


def _single(predict: Callable[[Any], Any], x: Any) -> list[float]:
    """Milliseconds of predictions for one example each."""
    for index in range(_WARM):
        predict(x[index % len(x)][None])
    times: list[float] = []
    until = time.perf_counter() + _SINGLE_SECONDS
    while len(times) < _SINGLE and (not times or time.perf_counter() < until):
        one = x[len(times) % len(x)][None]
        before = time.perf_counter()
        predict(one)
        times.append((time.perf_counter() - before) * 1000)
    return times


def _digest(predictions: Any) -> str:
    head = f"{predictions.dtype.str} {list(predictions.shape)} ".encode()
    body = repr(predictions.tolist()).encode() if predictions.dtype.hasobject else predictions.tobytes()
    return hashlib.sha256(head + body).hexdigest()


def _packages() -> dict[str, str]:
    """Of the packages that are imported by now, their versions."""
    known = packages_distributions()
    names = {name for module in list(sys.modules) for name in known.get(module.partition(".")[0], ())}
    found = {}
    for name in sorted(names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # It was removed under our feet.
            continue
    return found


def _hardware() -> dict[str, Any]:
    machine = probe.probe()
    cpu = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), platform.machine()
    )
    return {"host": platform.node(), "cpu": cpu, "cpus": machine.cpus, "memory": machine.memory, "gpus": [gpu.name for gpu in machine.gpus],
            "threads": os.environ.get("OMP_NUM_THREADS", "")}  # fmt: skip


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return []


def log(evaluation: Evaluation, folder: Path) -> None:
    """Keep it with the run that is active, or with the job's."""
    (folder / RECORD).write_bytes(msgspec.json.format(msgspec.json.encode(evaluation)))
    fluent.set_tags({OF: evaluation.of})
    name, digest = Path(evaluation.held_out).name, evaluation.held_out_sha256[: content.DIGITS]
    fluent.log_dataset(None, name, "evaluation", digest=digest, source=evaluation.held_out)
    fluent.log_params(
        {"held_out_sha256": evaluation.held_out_sha256, "model_sha256": evaluation.model_sha256, "seed": evaluation.seed}
    )
    fluent.log_metrics({**{key: float(value) for key, value in evaluation.metrics.items() if _is_name(key)}, **evaluation.cost})
    fluent.log_artifacts(folder, FOLDER)


def _is_name(key: str) -> bool:
    """Whether a metric may be called so: the label of a class is whatever its data call it."""
    try:
        return bool(limits.key(key))
    except NoriaError:
        return False


def main(path: str) -> int:
    request = msgspec.json.decode(Path(path).read_bytes(), type=Request)
    try:
        with TemporaryDirectory() as folder:
            log(evaluate(request, Path(folder)), Path(folder))
    except Exception as error:  # A model may raise anything at all; whoever waits for its evaluation is told in one sentence.
        known = (
            error
            if isinstance(error, NoriaError)
            else Invalid(f"The model failed on these examples ({type(error).__name__}: {error!s:.300}).")
        )
        fluent.set_tags({OF: request.of, FAILED: known.message})
        print(f"noria: {known.message}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
