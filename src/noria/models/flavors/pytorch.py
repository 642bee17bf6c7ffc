"""Any other torch.nn.Module, in the layout of MLflow's own flavor `pytorch`: a pickle, so loading it runs what it says.

data/model.pth                 torch.save of the whole module
data/pickle_module_info.txt    the module that MLflow unpickles with
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.errors import Forbidden, Invalid, Unsupported
from noria.models.flavors import Saved, is_keras, is_transformers, numbers, recipe

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from noria.models.predictor import Predict

LOADER = "mlflow.pytorch"


def claims(model: object) -> bool:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(model, torch.nn.Module):
        return False
    return recipe(model) is None and not is_keras(model) and not is_transformers(model)


def save(model: nn.Module, data: Path) -> Saved:
    import torch

    (data / "pickle_module_info.txt").write_text("pickle")
    try:
        torch.save(model, data / "model.pth")
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise Invalid(f"This model cannot be pickled ({error}).", "Define its class at the top of a module.") from None
    version = torch.__version__.partition("+")[0]
    return Saved({"pytorch_version": str(torch.__version__), "code": None}, [f"torch=={version}"],
                 pickle=f"its class, {type(model).__qualname__}")  # fmt: skip


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool = False) -> nn.Module:
    import torch

    file = data / "model.pth"
    if not allow_pickle:
        raise Forbidden(f"The model in {data} is a pickle: loading it would run whatever code it holds.",
                        "If you trust where it comes from, say so: --allow-pickle, or load(..., allow_pickle=True).")  # fmt: skip
    if not file.is_file():
        raise Unsupported(f"The model in {data} is not a pickled module.", "Save it with serialization_format='pickle'.")
    try:
        model = torch.load(file, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise Unsupported(
            f"The model in {data} needs code that is not here ({error}).", "Install what defines its class."
        ) from None
    if not isinstance(model, torch.nn.Module):
        raise Invalid(f"{file} holds a {type(model).__name__}, not a model.", "Save the module itself, not its state dict.")
    return model.eval()


def predictor(model: nn.Module) -> Predict:
    import torch

    @torch.inference_mode()
    def predict(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        batch = numbers(batch)
        out = model(torch.from_numpy(batch if batch.flags.writeable else batch.copy()))
        if not isinstance(out, torch.Tensor):
            raise Invalid(
                f"The model answers with a {type(out).__name__}, not a tensor.", "Wrap it so that it returns one tensor."
            )
        array: np.ndarray[Any, Any] = out.numpy()
        return array

    return predict
