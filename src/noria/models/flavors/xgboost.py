"""Models of XGBoost, in the layout of MLflow's own flavor `xgboost`: XGBoost's own file, and loading runs no code.

data/model.ubj    trees or weights, settings and names, as UBJSON; JSON is read as well
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noria.errors import Invalid, Unsupported
from noria.models.flavors import Saved, damaged, kept, library
from noria.models.predictor import Predict

LOADER = "mlflow.xgboost"
_FILE = "data/model.ubj"
_CLASSES = {
    "xgboost.core.Booster": "Booster",
    **{f"xgboost.sklearn.XGB{name}": f"XGB{name}" for name in ("Model", "Classifier", "Regressor", "Ranker", "RFClassifier", "RFRegressor")},
}  # fmt: skip


def claims(model: object) -> bool:
    xgboost = sys.modules.get("xgboost")
    return xgboost is not None and isinstance(model, (xgboost.Booster, getattr(xgboost, "XGBModel", xgboost.Booster)))


def save(model: Any, data: Path) -> Saved:
    version = sys.modules["xgboost"].__version__
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    if kind not in _CLASSES:
        raise Unsupported(f"A {kind} is a class of one's own around XGBoost.", "Save its get_booster() instead.")
    try:
        model.save_model(data / "model.ubj")
    except (ValueError, TypeError, AttributeError) as error:  # Its NotFittedError is a ValueError.
        raise Invalid(f"This model cannot be saved ({' '.join(str(error).split()):.160}).", "Fit it first.") from None
    entry = {"xgb_version": version, "data": _FILE, "model_class": kind, "model_format": "ubj", "code": None}
    return Saved(entry, [f"xgboost=={version}"], pyfunc={})  # MLflow's loader looks into its own entry.


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool = False) -> Any:
    file, kind = kept(data, entry.get("data", _FILE)), str(entry.get("model_class", "xgboost.core.Booster"))
    if kind not in _CLASSES:
        raise Unsupported(
            f"The model in {file.parent} is a {kind}, which is none of XGBoost's.", f"There are: {', '.join(_CLASSES)}."
        )
    from noria.models.sound import boosters

    xgboost = library("xgboost", "xgboost")
    try:
        content = file.read_bytes()
        boosters.xgboost(content)
        model = getattr(xgboost, _CLASSES[kind])()
        model.load_model(bytearray(content))
    except (ValueError, TypeError, KeyError, OSError, xgboost.core.XGBoostError) as error:
        raise damaged(file, str(error).partition("\nStack trace")[0]) from None
    return model


def predictor(model: Any) -> Predict:
    xgboost = library("xgboost", "xgboost")

    def predict(batch: Any) -> Any:
        try:
            if not isinstance(model, xgboost.Booster):
                return model.predict(batch)
            named = (
                {} if hasattr(batch, "columns") else {"feature_names": model.feature_names, "feature_types": model.feature_types}
            )
            return model.predict(xgboost.DMatrix(batch, enable_categorical=True, **named))
        except (ValueError, xgboost.core.XGBoostError) as error:
            reason = " ".join(str(error).partition("\nStack trace")[0].split())
            raise Invalid(f"The model does not take this input ({reason:.200}).", "Send the columns it was made with.") from None

    return predict
