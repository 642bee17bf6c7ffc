"""Saving model folders, and loading them: checked first, trusted last."""

from __future__ import annotations

import inspect
import platform
import shutil
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import msgspec

from noria.errors import AlreadyExists, Forbidden, Invalid, NoriaError, Unsupported
from noria.models import card as cards
from noria.models import digests, example, guard, mlmodel
from noria.models.flavors import FLAVORS
from noria.models.infer import infer_signature
from noria.models.mlmodel import MLModel, Signature
from noria.models.predictor import Predictor
from noria.version import __version__

DATA = "data"
_LAST = "python_function"
"""An entry that every MLmodel file has, whatever else it has: it is asked last."""


def save(
    model: object,
    folder: str | Path,
    *,
    input_example: Any = None,
    signature: Signature | None = None,
    params: Mapping[str, Any] | None = None,
    card: str = "",
    facts: cards.Facts | None = None,
    metadata: Mapping[str, Any] | None = None,
    run_id: str = "",
    artifact_path: str = "",
) -> MLModel:
    """Save a model as a folder that Noria and `mlflow.pyfunc.load_model` read; it appears whole or not at all.

    input_example: a small batch: an array [n, ...], a dict of arrays, a DataFrame, lists; it is kept, and the signature is taken from it and from the model's
    answer. params: what a prediction may be told besides, with defaults. card: the author's own words for README.md; facts: what else is said there.
    Raises Unsupported if no flavor claims the model, AlreadyExists if there is such a folder. Warns if the model is kept as a pickle.
    """
    target = Path(folder)
    if target.exists():
        raise AlreadyExists(f"{target} exists already.", "Choose another folder; a saved model is never overwritten.")
    name = next((name for name in FLAVORS.names() if FLAVORS.get(name).claims(model)), None)
    if name is None:
        raise Unsupported(f"No flavor claims a {type(model).__qualname__}.", f"There are: {', '.join(FLAVORS.names())}.")
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        written = _write(model, name, beside, input_example, signature, params)
        written = msgspec.structs.replace(written, metadata=dict(metadata or {}), run_id=run_id, artifact_path=artifact_path)
        mlmodel.write(written, beside)
        cards.write(beside, written, type(model), card, facts or cards.Facts())
        digests.write(beside)
        beside.chmod(0o755)
        beside.rename(target)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return written


def _write(
    model: object, name: str, folder: Path, given: Any, signature: Signature | None, params: Mapping[str, Any] | None
) -> MLModel:
    flavor = FLAVORS.get(name)
    (folder / DATA).mkdir()
    saved = flavor.save(model, folder / DATA)
    if saved.pickle:
        warnings.warn(
            f"The model is kept as a pickle, because of {saved.pickle}: whoever loads it has to trust it.", stacklevel=4
        )
    other: dict[str, Any] = {}
    if given is not None:
        other["saved_input_example_info"] = example.write(given, folder, params)
        signature = signature or _infer(flavor.predictor(model), model, given, params)
    requirements = [f"noria=={__version__}", "numpy", *saved.requirements]
    for file, content in mlmodel.environment(requirements).items():
        (folder / file).write_text(content)
    module = FLAVORS.module(name)
    pyfunc = {
        "loader_module": getattr(module, "LOADER", module.__name__),
        **({"data": DATA} if saved.pyfunc is None else saved.pyfunc),
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "python_version": platform.python_version(),
    }
    other["model_size_bytes"] = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    entry = {} if name == _LAST else {name: {"model_data": DATA, **saved.entry}}
    return MLModel(flavors={"python_function": pyfunc, **entry}, signature=signature or Signature(), other=other)


def _infer(predict: Any, model: Any, given: Any, params: Mapping[str, Any] | None) -> Signature:
    training = getattr(model, "training", False)
    if training:
        model.eval()  # Dropout and running statistics must neither change the answer nor be changed by it.
    try:
        # What is sent to a served model as lists arrives as a table, and an example of that is the model's first.
        answer = call(predict, example.batch(given), dict(params) if params else None)
    finally:
        if training:
            model.train()
    return infer_signature(given, answer, params)


def call(predict: Any, batch: Any, params: Mapping[str, Any] | None) -> Any:
    """A flavor's predictor, with the parameters if it takes any."""
    if params and len(inspect.signature(predict).parameters) > 1:
        return predict(batch, params)
    return predict(batch)


def open_folder(
    folder: str | Path, *, allow_pickle: bool = False, in_process: bool = False, digest: str = "", memory: int = 0
) -> Predictor:
    """The model of a folder that Noria or MLflow saved. See models.load."""
    begun = time.perf_counter()
    path = Path(folder)
    described, name, key = _checked(path, digest)
    try:
        found = _load(path, described, name, key, trusted=allow_pickle and in_process)
    except Forbidden:
        if not allow_pickle or in_process:
            raise
        from noria.models.cage import Cage

        cage = Cage(path, memory)
        return Predictor(path, described, None, cage.predict, seconds=time.perf_counter() - begun, cage=cage)
    return Predictor(path, described, found, FLAVORS.get(name).predictor(found), seconds=time.perf_counter() - begun)


def open_trusted(folder: str | Path) -> Predictor:
    """As open_folder, of a model that was checked and is trusted: what the process in the cage calls."""
    begun = time.perf_counter()
    path = Path(folder)
    described = mlmodel.read(path)
    name, key = _flavor(path, described)
    found = _load(path, described, name, key, trusted=True)
    return Predictor(path, described, found, FLAVORS.get(name).predictor(found), seconds=time.perf_counter() - begun)


def _checked(path: Path, digest: str) -> tuple[MLModel, str, str]:
    """What the folder says it is, once nothing in it leads elsewhere or is other than it was saved."""
    if not (path / mlmodel.FILE).is_file():
        mlmodel.read(path)
    files = guard.files(path)
    described = mlmodel.read(path)
    guard.paths(described.flavors, path)
    guard.paths({"example": described.other.get("saved_input_example_info")}, path)
    digests.check(path, files, digest)
    guard.contents(files)
    return described, *_flavor(path, described)


def _flavor(path: Path, described: MLModel) -> tuple[str, str]:
    """The flavor that reads it, and what it is called there."""
    names = sorted(FLAVORS.names(), key=lambda name: name == _LAST)
    known = ((name, key) for name in names for key in (name, *_also(name)))
    found = next(((name, key) for name, key in known if key in described.flavors), None)
    if found is None:
        raise Unsupported(f"The model in {path} has the flavors {', '.join(described.flavors)}; none of them is readable here.",
                          f"Readable are: {', '.join(FLAVORS.names())}.")  # fmt: skip
    return found


def _also(name: str) -> Sequence[str]:
    also: Sequence[str] = getattr(FLAVORS.module(name), "ALSO", ())
    return also


def _load(path: Path, described: MLModel, name: str, key: str, *, trusted: bool) -> Any:
    flavor, entry = FLAVORS.get(name), described.flavors[key]
    data = guard.inside(path, entry.get("model_data", DATA))
    code = entry.get("code") or described.flavors.get(_LAST, {}).get("code")
    if trusted and code:
        sys.path.insert(0, str(guard.inside(path, code)))  # What MLflow does, and its pickles name what lies there.
    try:
        return flavor.load(data, entry, trusted)
    except NoriaError:
        raise
    except MemoryError:
        raise Invalid(f"The model in {path} asks for more memory than there is.", "Do not trust it; get it again.") from None
    except Exception as error:  # A library that is given damaged files raises what it likes.
        reason = f"{type(error).__name__}: {' '.join(str(error).split()):.200}"
        raise Invalid(f"The model in {path} cannot be loaded ({reason}).", "Save or download it again.") from None
