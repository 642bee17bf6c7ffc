"""A saved model is a folder in MLflow's MLmodel format.

save(model, folder, input_example=x)      any model that a file on the shelf flavors/ claims
load(folder).predict(x)                   numpy in, numpy out
"""

from __future__ import annotations

from noria.models.folder import digest, load, save
from noria.models.log import log_model
from noria.models.predictor import Predictor

__all__ = ["Predictor", "digest", "load", "log_model", "save"]
