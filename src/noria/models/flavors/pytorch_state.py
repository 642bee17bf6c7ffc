"""PyTorch models of Noria's architectures, kept as a name, its arguments and the weights: loading runs no code.

data/architecture.json    {"name": "cnn", "arguments": {"width": 32, ...}}
data/state.pt             torch.save of the state dict, read with weights_only
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from noria.errors import Invalid
from noria.models import careful
from noria.models.flavors import Saved, architectures, numbers, recipe

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from noria.models.predictor import Predict


def claims(model: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module) and recipe(model) is not None


def save(model: nn.Module, data: Path) -> Saved:
    import torch

    name, arguments = recipe(model) or ("", {})
    (data / "architecture.json").write_text(json.dumps({"name": name, "arguments": arguments}, indent=1))
    torch.save({key: value.detach().cpu() for key, value in model.state_dict().items()}, data / "state.pt")
    version = torch.__version__.partition("+")[0]
    return Saved({"architecture": name, "pytorch_version": str(torch.__version__)}, [f"torch=={version}"])


def load(data: Path, entry: Mapping[str, Any], allow_pickle: bool = False) -> nn.Module:
    import torch

    try:
        recipe = careful.parsed_json(data / "architecture.json")
        _measure(recipe, (data / "state.pt").stat().st_size)
        model = architectures().build(recipe["name"], **recipe["arguments"])
        model.load_state_dict(torch.load(data / "state.pt", map_location="cpu", weights_only=True))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise Invalid(f"The model in {data} is damaged or incomplete: {reason:.200}.", "Save or download it again.") from None
    evaluating: nn.Module = model.eval()
    return evaluating


def _measure(recipe: Mapping[str, Any], size: int) -> None:
    """Raise ValueError if a model of these arguments has more weights than the file could hold, before memory is taken for them."""
    import torch

    with torch.device("meta"):
        model = architectures().build(recipe["name"], **recipe["arguments"])
    kept = sum(each.numel() * each.element_size() for each in (*model.parameters(), *model.buffers()))
    if kept > 2 * size + _SLACK:
        raise ValueError(f"its arguments make a model of {kept} bytes, its weights take {size}")


_SLACK = 64 * 2**20
"""Bytes of what a model makes anew when it is built, such as tables of positions."""


def predictor(model: nn.Module) -> Predict:
    import torch

    @torch.inference_mode()
    def predict(batch: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        batch = numbers(batch)
        answer = model(torch.from_numpy(batch if batch.flags.writeable else batch.copy()))
        out: np.ndarray[Any, Any] = (
            answer[0] if isinstance(answer, tuple) else answer
        ).numpy()  # What comes beside it is for training.
        return out

    return predict


class _PyFunc:
    """What mlflow.pyfunc calls: arrays and data frames in, arrays out."""

    def __init__(self, model: nn.Module) -> None:
        self._predict = predictor(model)

    def predict(self, data: Any, params: Mapping[str, Any] | None = None) -> np.ndarray[Any, Any]:
        import numpy as np

        array = np.ascontiguousarray(numbers(data))
        out: np.ndarray[Any, Any] = self._predict(array.astype(np.float32) if array.dtype == np.float64 else array)
        return out


def _load_pyfunc(path: str) -> _PyFunc:
    return _PyFunc(load(Path(path), {}))
