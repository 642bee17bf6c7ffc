"""A flavor of another package's: a matrix, loaded in no time, that answers as slowly as it is told to."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def claims(model: object) -> bool:
    return False


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool) -> Any:
    if entry.get("broken"):
        raise ValueError("no such matrix")
    time.sleep(float(entry.get("loads", 0)))
    return np.load(data / "weights.npy"), float(entry.get("delay", 0))


def predictor(model: Any) -> Any:
    weights, delay = model

    def predict(batch: Any) -> Any:
        time.sleep(delay)
        if os.environ.get("TINY_RAISES"):
            raise RuntimeError("out of order")
        return batch @ weights

    return predict
