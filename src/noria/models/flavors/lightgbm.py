"""Models of LightGBM, in the layout of MLflow's own flavor `lightgbm`; loading runs no code.

data/model.lgb      a booster, as LightGBM's own text
data/model.skops    an estimator: its settings and arrays by skops, its booster as that text
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from noria.errors import Forbidden, Invalid, Unsupported
from noria.models.flavors import TRUST, Saved, damaged, kept, library
from noria.models.predictor import Predict

LOADER = "mlflow.lightgbm"
_BOOSTER = "lightgbm.basic.Booster"
_PARTS = {"collections.OrderedDict", "collections.defaultdict", _BOOSTER,
          *(f"lightgbm.sklearn.LGBM{name}" for name in ("Model", "Classifier", "Regressor", "Ranker"))}  # fmt: skip
_LARGEST = 1 << 30
"""Bytes of an unpacked schema."""


def claims(model: object) -> bool:
    lightgbm = sys.modules.get("lightgbm")
    return lightgbm is not None and isinstance(model, (lightgbm.Booster, getattr(lightgbm, "LGBMModel", lightgbm.Booster)))


def save(model: Any, data: Path) -> Saved:
    lightgbm = sys.modules["lightgbm"]
    needed, parts = [f"lightgbm=={lightgbm.__version__}"], list[str]()
    file = data / ("model.lgb" if isinstance(model, lightgbm.Booster) else "model.skops")
    if file.suffix == ".lgb":
        model.save_model(file)
    else:
        needed.append(f"skops=={library('skops', 'lightgbm').__version__}")
        parts = _dumped(model, file)
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    entry = {"lgb_version": lightgbm.__version__, "data": f"data/{file.name}", "model_class": kind, "code": None,
             "serialization_format": "skops", "skops_trusted_types": parts or None}  # fmt: skip
    return Saved(entry, needed, pyfunc={})  # MLflow's loader looks into its own entry.


def _dumped(model: Any, file: Path) -> list[str]:
    skops = library("skops.io", "lightgbm")
    try:
        skops.dump(model, file)
        parts = list(skops.get_untrusted_types(file=file))
    except Exception as error:  # Of many kinds, for what it cannot take apart.
        raise _own(str(error)) from None
    if strange := set(parts) - _PARTS:
        raise _own(", ".join(sorted(strange)))
    return parts


def _own(what: str) -> Unsupported:
    return Unsupported(f"This model holds something of one's own ({' '.join(what.split()):.160}).", "Save its booster_ instead.")


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool = False) -> Any:
    file, lightgbm = kept(data, entry.get("data", "data/model.lgb")), library("lightgbm", "lightgbm")
    if entry.get("model_class", _BOOSTER) == _BOOSTER:
        from noria.models.sound import boosters

        try:
            text = file.read_text()
            boosters.lightgbm(text)
            return lightgbm.Booster(model_str=text)
        except (ValueError, OSError, lightgbm.basic.LightGBMError) as error:
            raise damaged(file, error) from None
    if entry.get("serialization_format") == "skops":
        return _loaded(file, lightgbm, allow_pickle)
    if not allow_pickle:
        raise Forbidden(f"The model in {file.parent} is a pickle: loading it would run whatever code it holds.", TRUST)
    try:
        return library("cloudpickle", "lightgbm").loads(file.read_bytes())
    except Exception as error:  # Whatever a pickle makes.
        raise damaged(file, error) from None


def _loaded(file: Path, lightgbm: Any, trusted: bool) -> Any:
    from noria.models.sound import boosters

    skops = library("skops.io", "lightgbm")
    try:
        for text in _boosters(file):
            boosters.lightgbm(text)
        parts = set(skops.get_untrusted_types(file=file))
        if trusted or parts <= _PARTS:
            return skops.load(file, trusted=sorted(parts))
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, OSError, AttributeError, ImportError, EOFError, RecursionError,
            lightgbm.basic.LightGBMError) as error:  # fmt: skip
        raise damaged(file, error) from None
    strange = ", ".join(sorted(parts - _PARTS))
    raise Forbidden(f"The model in {file.parent} holds {strange}: loading it would run code of theirs.", TRUST)


def _boosters(file: Path) -> Iterator[str]:
    """The boosters' texts, which are the strings with trees in them."""
    with zipfile.ZipFile(file) as archive:
        if archive.getinfo("schema.json").file_size > _LARGEST:
            raise ValueError("its schema is too large")
        left = [json.loads(archive.read("schema.json"))]
    while left:
        part = left.pop()
        if isinstance(part, dict):
            left += part.values()
        elif isinstance(part, list):
            left += part
        elif isinstance(part, str) and "Tree=" in part:
            yield json.loads(part)


def predictor(model: Any) -> Predict:
    lightgbm = library("lightgbm", "lightgbm")

    def predict(batch: Any) -> Any:
        try:
            return model.predict(batch)
        except (ValueError, lightgbm.basic.LightGBMError) as error:
            raise Invalid(f"The model does not take this input ({error}).", "Send the columns that it was made with.") from None

    return predict
