"""In which numbers a training computes. Weights and the optimizer's moments are fp32 throughout."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from noria.errors import Invalid, Unsupported

Name = Literal["fp32", "tf32", "bf16", "fp16", "fp8"]
_CAST = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp8": torch.bfloat16}
_TF32 = 8
"""The first compute capability that has tf32 and bf16: NVIDIA's Ampere."""
_FP8 = (8, 9)
"""The first that has fp8: Ada; then Hopper and Blackwell."""
_SIXTEEN = 16
"""Its products take matrices whose sides are multiples of this."""


class Precision:
    """fp32; tf32 (inside of matrix products); bf16 and fp16 through torch's autocast, fp16 with a scale on the loss; fp8 in the products of
    linear layers (`in_fp8`), and bf16 elsewhere.

    Raises Invalid for an unknown name, Unsupported for what this device does not compute in.
    """

    def __init__(self, name: Name, device: torch.device) -> None:
        if name not in get_args(Name):
            raise Invalid(f"There is no precision '{name}'.", f"Use one of: {', '.join(get_args(Name))}.")
        capability, minor = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
        if name == "fp8" and (capability, minor) < _FP8:
            raise Unsupported("fp8 needs an NVIDIA GPU of the Ada or Hopper generation or newer.", "Use precision='bf16'.")
        if name == "tf32" and capability < _TF32:
            raise Unsupported("tf32 needs an NVIDIA GPU of the Ampere generation or newer.", "Use precision='fp32'.")
        if name == "bf16" and device.type == "cuda" and capability < _TF32:
            raise Unsupported(f"{torch.cuda.get_device_name(device)} has no bf16.", "Use precision='fp16'.")
        torch.set_float32_matmul_precision("high" if name == "tf32" else "highest")
        self._cast, self._type = _CAST.get(name), device.type
        self.scale = LossScale() if name == "fp16" else None

    def computing(self) -> AbstractContextManager[object]:
        """Around the forward pass and the loss."""
        return torch.autocast(self._type, self._cast) if self._cast else nullcontext()


def in_fp8(model: nn.Module, *, emulate: bool = False) -> nn.Module:
    """Let the linear layers multiply in fp8, with a scale for each tensor that is found at each use (torchao's "tensorwise" recipe; Micikevicius
    et al. 2022, FP8 Formats for Deep Learning). Weights stay fp32 under their names. emulate: round as fp8 does, on any device.

    Layers with a side that is no multiple of 16 are left. Raises Unsupported without the package torchao, Invalid if no layer is left.
    """
    try:
        float8 = import_module("torchao.float8")
    except ImportError:
        raise Unsupported("fp8 needs the package torchao.", "pip install torchao") from None

    def suits(layer: nn.Module, _name: str) -> bool:
        return isinstance(layer, nn.Linear) and layer.in_features % _SIXTEEN == 0 == layer.out_features % _SIXTEEN

    if not any(suits(layer, name) for name, layer in model.named_modules()):
        raise Invalid(
            "This model has no linear layer whose sides are multiples of 16, so fp8 changes nothing.", "Use precision='bf16'."
        )
    config = float8.Float8LinearConfig(emulate=emulate)
    converted: nn.Module = float8.convert_to_float8_training(model, module_filter_fn=suits, config=config)
    return converted


class LossScale:
    """The factor that keeps fp16 gradients from vanishing: doubled after 2,000 good steps, halved after one that overflowed, which is
    skipped. Micikevicius et al. 2018, Mixed Precision Training."""

    def __init__(self, value: float = 2.0**16, patience: int = 2000) -> None:
        self.value, self.patience, self.good = value, patience, 0

    def after(self, norm: Tensor) -> bool:
        """Whether a step with a gradient of this norm is to be taken."""
        if bool(torch.isfinite(norm)):
            self.good += 1
            if self.good == self.patience:
                self.value, self.good = self.value * 2, 0
            return True
        self.value, self.good = max(self.value / 2, 1.0), 0
        return False

    def state(self) -> dict[str, float]:
        return {"value": self.value, "good": self.good}

    def restore(self, state: Mapping[str, float]) -> None:
        self.value, self.good = state["value"], int(state["good"])
