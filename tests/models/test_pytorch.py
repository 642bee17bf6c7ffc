"""Modules of PyTorch that are no architecture of ours: pickles, saved by Noria and by MLflow, each loaded by the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import require

pytest.importorskip("torch")

import torch
from torch import nn

from noria import models
from noria.errors import Forbidden

pytestmark = [pytest.mark.slow, pytest.mark.mlflow, pytest.mark.filterwarnings("ignore")]
R = np.random.default_rng(0)
ROWS, PICTURES = R.random((3, 8), dtype="float32"), R.random((2, 3, 8, 8), dtype="float32")
MADE: dict[str, tuple[Callable[[], Any], Any]] = {
    "line": (lambda: nn.Linear(8, 2), ROWS),
    "layers": (lambda: nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2)), ROWS),
    "dropout": (lambda: nn.Sequential(nn.Dropout(0.5), nn.Linear(8, 2)), ROWS),
    "norm": (lambda: nn.Sequential(nn.BatchNorm1d(8), nn.Linear(8, 2)), ROWS),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 2)), ROWS),
    "convolution": (lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)), PICTURES),
    "transposed": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 2, 2), nn.Sigmoid()), PICTURES),
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), R.random((2, 5, 8), dtype="float32")),
    "embedding": (lambda: nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(20, 2)), R.integers(0, 10, (2, 5))),
    "softmax": (lambda: nn.Sequential(nn.Linear(8, 8), nn.Softmax(dim=1)), ROWS),
}  # fmt: skip


@pytest.mark.parametrize("name", MADE)
def test_a_module_goes_between_noria_and_mlflow(name: str, tmp_path: Path) -> None:
    require("mlflow", bool(pytest.importorskip("mlflow")), "pip install mlflow")
    import mlflow

    torch.manual_seed(0)
    make, x = MADE[name]
    model = make().eval()
    with torch.no_grad():
        known = model(torch.from_numpy(x)).numpy()
    models.save(model, tmp_path / "ours", input_example=x)
    np.testing.assert_allclose(mlflow.pyfunc.load_model(str(tmp_path / "ours")).predict(x), known, atol=1e-6)
    mlflow.pytorch.save_model(model, str(tmp_path / "theirs"), pip_requirements=["torch"], serialization_format="pickle")
    for folder in ("ours", "theirs"):
        with pytest.raises(Forbidden, match="is a pickle"):
            models.load(tmp_path / folder)
    np.testing.assert_allclose(models.load(tmp_path / "theirs", allow_pickle=True, in_process=True).predict(x), known, atol=1e-6)
    caged = models.load(tmp_path / "ours", allow_pickle=True)
    np.testing.assert_allclose(caged.predict(x), known, atol=1e-6)
    caged.close()
