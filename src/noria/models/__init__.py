"""A saved model is a folder in MLflow's MLmodel format.

save(model, folder, input_example=x)      any model that a file on the shelf flavors/ claims
load("models:/NAME/Production")           or runs:/RUN/model, or a folder; .predict(x): arrays or a table in and out
"""

from __future__ import annotations

from noria.models.digests import digest
from noria.models.folder import save
from noria.models.infer import infer_signature
from noria.models.log import log_model
from noria.models.predictor import Predictor
from noria.models.schema import ColSpec, ParamSpec, Signature, TensorSpec
from noria.models.uri import load
from noria.models.wrapped import Custom, JaxFunction

__all__ = [
    "ColSpec",
    "Custom",
    "JaxFunction",
    "ParamSpec",
    "Predictor",
    "Signature",
    "TensorSpec",
    "digest",
    "infer_signature",
    "load",
    "log_model",
    "save",
]
