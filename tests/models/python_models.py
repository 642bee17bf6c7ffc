"""Models of `mlflow.pyfunc`, and functions, for test_pyfunc.py. Import it where warnings are not errors: MLflow warns of each class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlflow.pyfunc
import numpy as np


class Scale(mlflow.pyfunc.PythonModel):
    def __init__(self, by: float) -> None:
        self.by = by

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return np.asarray(model_input) * self.by


class Told(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return np.asarray(model_input) * (params or {}).get("by", 1.0)


class Bare(mlflow.pyfunc.PythonModel):
    def predict(self, model_input: Any) -> Any:
        return np.asarray(model_input).sum(axis=1)


class FromFile(mlflow.pyfunc.PythonModel):
    def load_context(self, context: Any) -> None:
        from pathlib import Path

        self.by = float(Path(context.artifacts["by"]).read_text())

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return np.asarray(model_input) * self.by


class WithCode(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        import helper_of_this_model

        return helper_of_this_model.twice(np.asarray(model_input))


class Rows(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        import pandas as pd

        return pd.DataFrame({"sum": model_input["a"] + model_input["b"], "word": ["x"] * len(model_input)})


class Words(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return [text.upper() for text in model_input.iloc[:, 0]]


class Arrays(mlflow.pyfunc.PythonModel):
    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return {"sum": model_input["p"] + model_input["q"]}


def function(batch: Any) -> Any:
    return np.asarray(batch) + 1


def closure(by: float) -> Callable[[Any], Any]:
    return lambda batch: np.asarray(batch) - by


class Plain(mlflow.pyfunc.PythonModel):
    """MLflow keeps a function as a model of one; of its own functions it asks that they take lists."""

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        return np.asarray(model_input) + 1
