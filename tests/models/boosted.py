"""Tables for models of trees: ten kinds of things to learn, for XGBoost and LightGBM alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(120, 5)).astype(np.float32)
BINARY = (X[:, 0] + X[:, 1] > 0).astype(int)
KINDS = np.digitize(X[:, 2], [-0.5, 0.5])
NUMBER = 3 * X[:, 0] - X[:, 3] ** 2
TWO = np.stack([NUMBER, X[:, 1]], axis=1)
COUNTS = RANDOM.poisson(np.exp(0.4 * X[:, 0]))
HOLES = np.where(RANDOM.random(X.shape) < 0.3, np.nan, X).astype(np.float32)
GROUPS = [40, 40, 40]
TABLE = pd.DataFrame({
    "colour": pd.Categorical(RANDOM.choice(["red", "green", "blue"], 120)), "size": X[:, 0], "weight": X[:, 1],
})  # fmt: skip
PRICE = TABLE["size"] + (TABLE["colour"] == "red") * 2.0


def equal(one: Any, other: Any) -> bool:
    return bool(np.array_equal(np.asarray(one), np.asarray(other)))
